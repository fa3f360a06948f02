//! The only module that touches packet memory.
//!
//! Loads and stores are written in assembly: headers stand at odd places (an IPv4 header two bytes off a word), which the
//! processors that we run on, and the verifier there, allow in packets. The compiler would load byte by byte instead, or,
//! told that unaligned access is fine, use it on the stack too, where the verifier forbids it (kernel 6.18).

use core::arch::asm;

/// Offsets beyond this are refused: the verifier wants a bound, and headers end long before.
const MAX_OFFSET: usize = 1_280;

/// The first (for most: the only) buffer of a frame, between two addresses that the kernel vouches for.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    data: usize,
    end: usize,
    /// Bytes of the whole frame; more than the first buffer holds in multi-buffer frames.
    pub(crate) len: usize,
}

/// Integers that any bytes are valid for, with their load instruction.
pub(crate) trait Wire: Copy {
    /// Loads from a packet.
    ///
    /// # Safety
    /// `[at, at + size)` is inside the packet, and the verifier has seen that checked.
    unsafe fn load(at: usize) -> Self;
}

macro_rules! wire {
    ($($type:ty, $instruction:literal;)+) => {$(
        impl Wire for $type {
            #[inline(always)]
            unsafe fn load(at: usize) -> Self {
                let value: u64;
                // SAFETY: the caller's promise.
                unsafe { asm!($instruction, value = out(reg) value, at = in(reg) at, options(nostack, readonly)) };
                value as $type
            }
        }
    )+};
}
wire! {
    u16, "{value} = *(u16 *)({at} + 0)";
    u32, "{value} = *(u32 *)({at} + 0)";
    u64, "{value} = *(u64 *)({at} + 0)";
}

impl Packet {
    /// `data` and `end` as the context gives them; `len` of the whole frame.
    #[inline(always)]
    pub(crate) const fn new(data: usize, end: usize, len: usize) -> Self {
        Self { data, end, len }
    }

    /// Where `size` bytes at `offset` begin, if they are all in the first buffer.
    #[inline(always)]
    fn address(&self, offset: usize, size: usize) -> Option<usize> {
        if offset > MAX_OFFSET {
            return None;
        }
        let mut at = self.data;
        // SAFETY: an addition. In assembly, so that the compiler derives the check and the access from one register: of two that
        // it computes separately, the verifier takes the checked one for another packet offset than the used one.
        unsafe { asm!("{at} += {offset}", at = inout(reg) at, offset = in(reg) offset, options(nomem, nostack)) };
        if at + size > self.end { None } else { Some(at) }
    }

    /// An integer at `offset`, its bytes in memory as they are on the wire.
    #[inline(always)]
    pub(crate) fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        let at = self.address(offset, size_of::<T>())?;
        // SAFETY: inside the packet, checked by `address`.
        Some(unsafe { T::load(at) })
    }

    /// A 16-bit number in network order at `offset`, as the host counts.
    #[inline(always)]
    pub(crate) fn number(&self, offset: usize) -> Option<u16> {
        self.read::<u16>(offset).map(u16::from_be)
    }

    /// Overwrites two bytes at `offset`; false where they are not in the first buffer.
    #[inline(always)]
    pub(crate) fn write(&self, offset: usize, value: u16) -> bool {
        let Some(at) = self.address(offset, 2) else { return false };
        // SAFETY: inside the packet, checked by `address`; XDP packets are writable.
        unsafe { asm!("*(u16 *)({at} + 0) = {value}", at = in(reg) at, value = in(reg) u64::from(value), options(nostack)) };
        true
    }

    /// Whether the first buffer is all of it.
    #[inline(always)]
    pub(crate) const fn is_whole(&self) -> bool {
        self.end - self.data == self.len
    }

    /// Where the bytes at `offset` begin, and how many of the wanted ones are in the first buffer.
    /// For `bpf_probe_read_kernel`, which takes any address.
    #[inline(always)]
    pub(crate) fn span(&self, offset: usize, wanted: usize) -> (usize, usize) {
        let Some(at) = self.address(offset, 0) else { return (0, 0) };
        let there = self.end - at;
        (at, if wanted < there { wanted } else { there })
    }
}
