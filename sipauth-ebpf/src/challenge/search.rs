//! Searching the request in the map. Functions that the verifier checks by themselves, for any argument: their loops would otherwise
//! be walked on each of the ways that lead to them.

use core::arch::asm;

use super::REQUEST_ROOM;
use crate::maps::MESSAGE;

/// Lower case for letters; what it does to other bytes of a header's name does not matter.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// The request in the map: found once for many words.
#[derive(Clone, Copy)]
pub(crate) struct Request(*const u8);

impl Request {
    #[inline(always)]
    pub(crate) fn get() -> Option<Self> {
        MESSAGE.get_ptr_mut(0).map(|message| Self(message.cast()))
    }

    /// Where it begins.
    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        self.0 as usize
    }

    /// The eight bytes at an offset, the first in the lowest bits; `None` beyond the room.
    #[inline(always)]
    pub(crate) fn word(self, offset: usize) -> Option<u64> {
        if offset >= REQUEST_ROOM {
            return None;
        }
        let word: u64;
        // SAFETY: eight bytes at an offset below `REQUEST_ROOM`, inside the element, which is longer. In assembly, since the compiler would
        // read an unaligned word byte by byte, and prove the mask needless, by which the verifier sees the bound.
        unsafe {
            asm!(
                "{at} &= 2047", "{from} += {at}", "{word} = *(u64 *)({from} + 0)",
                at = inout(reg) offset => _, from = inout(reg) self.0 => _, word = out(reg) word, options(nostack, readonly),
            );
        }
        Some(u64::from_le(word))
    }

    /// As [`Self::word`], letters in lower case.
    #[inline(always)]
    pub(crate) fn lower(self, offset: usize) -> Option<u64> {
        self.word(offset).map(|word| word | LOWER)
    }
}

/// Where the line that begins at `from` ends: the offset behind its CR LF. 0 where there is none within `len` bytes, or a
/// control character other than a tab before it (DEL is one).
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_line(from: u32, len: u32) -> u32 {
    let Some(request) = Request::get() else { return 0 };
    for i in 0..REQUEST_ROOM / 8 {
        // In even steps: an offset that depends on what was read would be a state of its own for the verifier.
        let at = from as usize + 8 * i;
        let Some(bytes) = request.word(at) else { return 0 };
        let found = control(bytes) | zero(bytes ^ 0x7f7f_7f7f_7f7f_7f7f);
        if found != 0 {
            let at = at + first(found);
            return match request.word(at) {
                Some(two) if two & 0xffff == 0x0a0d && at + 2 <= len as usize => (at + 2) as u32,
                _ => 0,
            };
        }
    }
    0
}

const HIGHEST: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of each byte that is below a space and no tab. Sums of seven bits, so that no byte carries into the next.
#[inline(always)]
const fn control(bytes: u64) -> u64 {
    let from_space = (bytes & !HIGHEST) + 0x6060_6060_6060_6060;
    let no_tab = bytes ^ 0x0909_0909_0909_0909;
    let no_tab = ((no_tab & !HIGHEST) + !HIGHEST) | no_tab;
    !(from_space | bytes) & no_tab & HIGHEST
}

/// The highest bit of the first byte that is zero, and of none before it; of those above it perhaps.
#[inline(always)]
const fn zero(bytes: u64) -> u64 {
    bytes.wrapping_sub(ONES) & !bytes & HIGHEST
}

/// The first byte of those whose highest bit is set; there is one.
#[inline(always)]
const fn first(marked: u64) -> usize {
    let lowest = (marked & marked.wrapping_neg()) >> 7;
    // One less has all lower bytes full: their number is the sum of their lowest bits.
    (((lowest - 1) & 0x0101_0101_0101_0101).wrapping_mul(0x0101_0101_0101_0101) >> 56) as usize
}

/// The first offset in `from..to` whose bytes under `mask`, in lower case, are `wanted`; 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_seek(from: u32, to: u32, wanted: u64, mask: u64) -> u32 {
    let Some(request) = Request::get() else { return 0 };
    let mut at = from as usize;
    for _ in 0..REQUEST_ROOM / 4 {
        if at >= to as usize {
            return 0;
        }
        match request.lower(at) {
            Some(bytes) if bytes & mask == wanted => return at as u32,
            Some(_) => at += 1,
            None => return 0,
        }
    }
    0
}

/// The first offset in `from..to` with this byte; 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sipauth_find(from: u32, to: u32, byte: u32) -> u32 {
    let Some(request) = Request::get() else { return 0 };
    for i in 0..REQUEST_ROOM / 8 {
        // In even steps, as above.
        let at = from as usize + 8 * i;
        if at >= to as usize {
            return 0;
        }
        let Some(bytes) = request.word(at) else { return 0 };
        let found = zero(bytes ^ ONES.wrapping_mul(u64::from(byte & 0xff)));
        if found != 0 {
            let at = at + first(found);
            return if at < to as usize { at as u32 } else { 0 };
        }
    }
    0
}

/// The number of up to nine digits at an offset, behind spaces where it has any, and above it the offset behind it; 0 where there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sipauth_number(from: u32) -> u64 {
    let Some(request) = Request::get() else { return 0 };
    let (mut number, mut digits) = (0_u64, 0_u32);
    for i in 0..16_u32 {
        let Some(bytes) = request.word(from as usize + i as usize) else {
            return 0;
        };
        match bytes as u8 {
            b' ' if digits == 0 => {}
            digit @ b'0'..=b'9' if digits < 9 => {
                number = number * 10 + u64::from(digit - b'0');
                digits += 1;
            }
            b'0'..=b'9' => return 0,
            _ if digits == 0 => return 0,
            _ => return number | u64::from(from + i) << 32,
        }
    }
    0
}

/// A hash of the bytes in `from..to`, of at most 256, beginning with `seed`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_hash(from: u32, to: u32, seed: u64) -> u64 {
    let Some(request) = Request::get() else { return seed };
    let mut hash = seed;
    let (mut at, to) = (from as usize, to as usize);
    for _ in 0..32 {
        if at >= to {
            break;
        }
        let Some(mut bytes) = request.word(at) else { break };
        let left = to - at;
        if left < 8 {
            bytes &= u64::MAX >> (64 - 8 * (left as u32 & 7));
        }
        hash = (hash ^ bytes).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
        at += 8;
    }
    hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ hash >> 32
}
