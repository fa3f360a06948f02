//! The bpf(2) calls on map elements. aya's typed maps want `&mut` for a write and have no batches (0.14); the agent
//! writes from several threads, which the kernel allows, and reads 100,000 entries at a time.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const NEXT_KEY: libc::c_int = 4;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LOOKUP_BATCH: libc::c_int = 24;
const UPDATE_BATCH: libc::c_int = 26;
const LINK_DETACH: libc::c_int = 34;

/// The kernel's own "not supported", which libc does not know.
const ENOTSUPP: libc::c_int = 524;

/// `union bpf_attr` for single elements.
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for batches (kernel 5.6).
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` for pins.
#[repr(C)]
#[derive(Default)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` for what a link alone is given to.
#[repr(C)]
#[derive(Default)]
struct Link {
    fd: u32,
}

/// # Safety
/// The pointers in `attr` are valid for what `command` reads and writes there.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is one of the structures above, with its own size; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A handle of what is pinned at `path`. The kernel asks for permission to read and write the file, for nothing else.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut pinned = Pinned {
        path: name.as_ptr() as u64,
        ..Pinned::default()
    };
    // SAFETY: `path` points at a string that ends with a zero.
    let fd = unsafe { bpf(OBJ_GET, &mut pinned) }?;
    // SAFETY: a file descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?) })
}

/// Pins what a handle is of.
pub(super) fn pin(object: &OwnedFd, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut pinned = Pinned {
        path: name.as_ptr() as u64,
        fd: fd(object),
        ..Pinned::default()
    };
    // SAFETY: `path` points at a string that ends with a zero.
    unsafe { bpf(OBJ_PIN, &mut pinned) }.map(drop)
}

/// Detaches the link that is pinned at `path` (kernel 5.9). Without it the program would go some time after the pin and the last
/// handle: the kernel lets go of links in its own time.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    let link = open_pin(path)?;
    // SAFETY: no pointers.
    unsafe { bpf(LINK_DETACH, &mut Link { fd: fd(&link) }) }.map(drop)
}

fn element<K, V>(map: &OwnedFd, key: &K, value: *const V, flags: u64) -> Element {
    Element {
        map_fd: fd(map),
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value as u64,
        flags,
    }
}

fn fd(map: &OwnedFd) -> u32 {
    u32::try_from(map.as_raw_fd()).unwrap_or(u32::MAX)
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A map whose key and value sizes were compared with `K` and `V` when it was opened.
pub(super) fn lookup<K: Pod, V: Pod>(map: &OwnedFd, key: &K) -> io::Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::zeroed();
    // SAFETY: key and value have the map's sizes.
    let result = unsafe { bpf(LOOKUP, &mut element(map, key, value.as_mut_ptr(), 0)) };
    // SAFETY: zeroed, then filled by the kernel; any bits are valid for `Pod`.
    found(result.map(|_| unsafe { value.assume_init() }))
}

/// All CPUs' values of a per-CPU map; `V` is a multiple of 8 bytes, as the kernel spaces them.
pub(super) fn lookup_per_cpu<K: Pod, V: Pod>(map: &OwnedFd, key: &K, cpus: usize) -> io::Result<Vec<V>> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    // SAFETY: zeros are valid for `Pod`.
    let mut values = vec![unsafe { std::mem::zeroed::<V>() }; cpus];
    // SAFETY: the key has the map's size, `values` room for a value of each possible CPU.
    unsafe { bpf(LOOKUP, &mut element(map, key, values.as_mut_ptr(), 0)) }?;
    Ok(values)
}

pub(super) fn update<K: Pod, V: Pod>(map: &OwnedFd, key: &K, value: &V) -> io::Result<()> {
    // SAFETY: key and value have the map's sizes.
    unsafe { bpf(UPDATE, &mut element(map, key, value, 0)) }.map(drop)
}

/// Writes entries in their order, in one call. Where one fails, answers how many were written before it.
pub(super) fn update_all<K: Pod, V: Pod>(map: &OwnedFd, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
    assert_eq!(keys.len(), values.len());
    if keys.is_empty() {
        return Ok(());
    }
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        map_fd: fd(map),
        ..Batch::default()
    };
    // SAFETY: `keys` and `values` have `count` entries of the map's sizes, which the kernel only reads.
    match unsafe { bpf(UPDATE_BATCH, &mut batch) } {
        Ok(_) => Ok(()),
        // A trie has batches from kernel 5.12 on; what has none says so before it has done anything.
        Err(error) if matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EOPNOTSUPP)) => {
            for (done, (key, value)) in keys.iter().zip(values).enumerate() {
                update(map, key, value).map_err(|error| (done, error))?;
            }
            Ok(())
        }
        Err(error) => Err(((batch.count as usize).min(keys.len()), error)),
    }
}

/// False where there was no such entry.
pub(super) fn delete<K: Pod>(map: &OwnedFd, key: &K) -> io::Result<bool> {
    // SAFETY: the key has the map's size.
    found(unsafe { bpf(DELETE, &mut element::<K, u8>(map, key, std::ptr::null(), 0)) }).map(|gone| gone.is_some())
}

/// Bytes that the kernel has for a map: what is allocated (kernel 6.4), before that an estimate from its size.
pub(super) fn memory(map: &OwnedFd) -> io::Result<u64> {
    let said = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let bytes = said.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA))
}

/// All entries of a hash, in batches where the kernel has these, else one by one.
/// Of a map that is written meanwhile, entries may be missing or twice.
pub(super) fn entries<K: Pod, V: Pod>(map: &OwnedFd, max: u32) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    match visit(map, max, 1, |key, values: &[V]| {
        all.extend(values.first().map(|value| (*key, *value)))
    }) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | ENOTSUPP | libc::EOPNOTSUPP)) => one_by_one(map),
        result => result.map(|()| all),
    }
}

/// Shows all entries to `see`, in batches: a key, and as many values as the map has for one (`per_key`: 1, or all possible CPUs of a
/// per-CPU map, whose `V` is a multiple of 8 bytes). What is said of [`entries`] goes for this, too.
pub(super) fn visit<K: Pod, V: Pod>(map: &OwnedFd, max: u32, per_key: usize, mut see: impl FnMut(&K, &[V])) -> io::Result<()> {
    // A batch must have room for the fullest bucket of a hash.
    let room = max.clamp(1, 4_096);
    let per_key = per_key.max(1);
    // SAFETY: zeros are valid for `Pod`.
    let (mut keys, mut values) = unsafe {
        (
            vec![std::mem::zeroed::<K>(); room as usize],
            vec![std::mem::zeroed::<V>(); room as usize * per_key],
        )
    };
    let mut token = [0u8; 64];
    let mut first = true;
    loop {
        let mut batch = Batch {
            in_batch: if first { 0 } else { token.as_ptr() as u64 },
            out_batch: token.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room,
            map_fd: fd(map),
            ..Batch::default()
        };
        // SAFETY: `keys` and `values` have room for `count` entries of the map's sizes, `token` for the largest key.
        let result = unsafe { bpf(LOOKUP_BATCH, &mut batch) };
        let last = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = (batch.count as usize).min(keys.len());
        for (key, values) in keys.iter().zip(values.chunks_exact(per_key)).take(count) {
            see(key, values);
        }
        if last {
            return Ok(());
        }
        first = false;
    }
}

/// The first `count` elements of an array, in batches.
pub(super) fn elements<V: Pod>(map: &OwnedFd, count: u32) -> io::Result<Vec<V>> {
    let count = count as usize;
    // SAFETY: zeros are valid for `Pod`.
    let mut values = vec![unsafe { std::mem::zeroed::<V>() }; count];
    let mut keys = vec![0u32; count];
    let (mut read, mut last) = (0, 0u32);
    while read < count {
        let mut batch = Batch {
            in_batch: if read == 0 { 0 } else { (&raw const last) as u64 },
            out_batch: (&raw mut last) as u64,
            keys: keys[read..].as_mut_ptr() as u64,
            values: values[read..].as_mut_ptr() as u64,
            count: u32::try_from(count - read).unwrap_or(u32::MAX),
            map_fd: fd(map),
            ..Batch::default()
        };
        // SAFETY: `keys` and `values` have room for `count - read` elements of the map's sizes; the token of an array is a key.
        let result = unsafe { bpf(LOOKUP_BATCH, &mut batch) };
        let end = match result {
            Ok(_) => batch.count == 0,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        read += (batch.count as usize).min(count - read);
        if end {
            break;
        }
    }
    values.truncate(read);
    Ok(values)
}

fn one_by_one<K: Pod, V: Pod>(map: &OwnedFd) -> io::Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    let mut key: Option<K> = None;
    loop {
        let mut next = std::mem::MaybeUninit::<K>::zeroed();
        let at = key.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut attr = Element {
            map_fd: fd(map),
            pad: 0,
            key: at as u64,
            value: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both keys have the map's size; a null key asks for the first.
        match unsafe { bpf(NEXT_KEY, &mut attr) } {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(all),
            Err(error) => return Err(error),
        }
        // SAFETY: filled by the kernel; any bits are valid for `Pod`.
        let next = unsafe { next.assume_init() };
        if let Some(value) = lookup(map, &next)? {
            all.push((next, value));
        }
        key = Some(next);
    }
}
