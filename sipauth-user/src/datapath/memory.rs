//! A map in this process's memory.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// All words of an array that the kernel made with `BPF_F_MMAPABLE`, which the kernel programs read and write too.
pub(super) struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: shared memory that lives as long as `self`, of atomic words.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps the array `map`, which has so many words of 64 bits.
    pub(super) fn of(map: &OwnedFd, count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping of a size that the kernel checks against that of the array.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(memory.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { first, count })
    }
}

impl AsRef<[AtomicU64]> for Words {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made; nobody has a reference into it any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
