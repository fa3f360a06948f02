//! Text that is put together in the draft: a response, or what a digest is over.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sipauth_common::{address::Address, challenge::hex};

use super::{REQUEST_ROOM, search::Request};

/// A longer response is the agent's: this one could not be sent in fragments.
pub(super) const MAX: usize = 1_300;

/// The text in the making, at the beginning of the draft.
pub(crate) struct Text {
    bytes: *mut u8,
    pub(crate) len: usize,
}

impl Text {
    /// An empty one.
    #[inline(always)]
    pub(crate) fn new() -> Option<Self> {
        super::response().map(|bytes| Self { bytes, len: 0 })
    }

    /// Where the next piece goes; the first half of the draft, so that any piece has room.
    #[inline(always)]
    fn next(&self) -> *mut u8 {
        let mut at = self.len;
        // SAFETY: masks a register, see `search::Request::word`; the result is inside the draft.
        unsafe {
            asm!("{at} &= 2047", at = inout(reg) at, options(nomem, nostack));
            self.bytes.add(at)
        }
    }

    /// Appends `len` bytes that are at an address.
    #[inline(always)]
    pub(crate) fn copy(&mut self, from: usize, len: usize) -> Option<()> {
        let mut n = len;
        // SAFETY: masks a register, see `search::Request::word`.
        unsafe { asm!("{n} &= 2047", n = inout(reg) n, options(nomem, nostack)) };
        if n != len || self.len + n > MAX {
            return None;
        }
        // SAFETY: `n` bytes from the first half of the draft on are inside it; the helper takes any address to read from.
        if unsafe { bpf_probe_read_kernel(self.next().cast(), n as u32, from as *const _) } != 0 {
            return None;
        }
        self.len += n;
        Some(())
    }

    /// Appends a part of the request.
    #[inline(always)]
    pub(crate) fn request(&mut self, from: usize, to: usize) -> Option<()> {
        if from > to || to > REQUEST_ROOM {
            return None;
        }
        self.copy(Request::get()?.address() + from, to - from)
    }

    /// Appends the first `n` bytes of a word.
    #[inline(always)]
    pub(crate) fn word(&mut self, word: u64, n: usize) {
        // SAFETY: eight bytes from the first half of the draft on are inside it. In assembly, since the compiler would write an
        // unaligned word byte by byte.
        unsafe { asm!("*(u64 *)({to} + 0) = {word}", to = in(reg) self.next(), word = in(reg) word.to_le(), options(nostack)) };
        self.len += n;
    }

    /// Appends a number in 16 hex digits.
    #[inline(always)]
    pub(super) fn hex(&mut self, number: u64) {
        self.word(hex((number >> 32) as u32), 8);
        self.word(hex(number as u32), 8);
    }

    #[inline(always)]
    pub(super) fn decimal(&mut self, number: u32) {
        let digits = sipauth_decimal(number);
        self.word(digits & 0xff_ffff_ffff, (digits >> 56) as usize & 7);
    }

    /// Appends an address, of IPv6 without leaving out zeros.
    #[inline(always)]
    pub(super) fn address(&mut self, address: &Address) {
        if let Some(v4) = address.v4() {
            let v4 = u32::from_be(v4);
            for shift in [24, 16, 8, 0] {
                self.decimal(v4 >> shift & 0xff);
                if shift > 0 {
                    self.word(u64::from(b'.'), 1);
                }
            }
            return;
        }
        for (i, part) in address.0.iter().enumerate() {
            let digits = hex(u32::from_be(*part));
            if i > 0 {
                self.word(u64::from(b':'), 1);
            }
            self.word(digits & 0xffff_ffff | u64::from(b':') << 32, 5);
            self.word(digits >> 32, 4);
        }
    }
}

/// The decimal digits of a 16-bit number, the first in the lowest byte, and how many there are, in the highest.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_decimal(number: u32) -> u64 {
    let (mut digits, mut n, mut rest) = (0_u64, 0_u64, number & 0xffff);
    for _ in 0..5 {
        digits = digits << 8 | u64::from(b'0' as u32 + rest % 10);
        rest /= 10;
        n += 1;
        if rest == 0 {
            break;
        }
    }
    digits | n << 56
}
