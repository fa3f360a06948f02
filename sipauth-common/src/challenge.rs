//! Challenges that the kernel program makes by itself: what the agent gives it for that, and their nonces.
//!
//! Such a nonce is like a SYN cookie: nothing is remembered of it, whoever has the key knows it again. In text it is [`NONCE_TEXT`]
//! characters: `k`, then in hex, most significant digit first, two words and their MAC:
//!
//! | word | content |
//! |---|---|
//! | [`Nonce::serial`] | `CLOCK_MONOTONIC` in units of 64 ns (56 bits), CPU number (8 bits): no two are the same, later ones are higher |
//! | [`Nonce::run`] | [`Challenge::boot_s`] (32 bits), [`Challenge::run`] (32 bits) |
//! | MAC | SipHash-2-4 (Aumasson, Bernstein 2012) over both words and the source address, all as they are in memory |
//!
//! 64 bits of MAC: a forger has one try for each datagram and no way to test offline, and wins a nonce, not a password.

use crate::{address::Address, pod};

/// Room for the status line, bytes.
pub const STATUS_ROOM: usize = 48;
/// Room for the text before and behind the nonce, bytes each.
pub const TEXT_ROOM: usize = 192;
/// Length of a nonce in text.
pub const NONCE_TEXT: usize = 1 + 3 * 16;

/// A piece of text for the kernel program to copy.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    /// How much of `bytes` counts.
    pub len: u64,
    /// Zeros behind the text.
    pub bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// `None` for a longer text.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            len: text.len() as u64,
            bytes,
        })
    }
}

/// The entry of `CHALLENGE`. Written by the agent, with [`crate::config::flags::CHALLENGE`] off meanwhile. As secret as a password.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// Of the MAC.
    pub key: [u64; 2],
    /// Unix time at which `CLOCK_MONOTONIC` was 0, s: the age of a nonce is told by the clock that the agent reads.
    pub boot_s: u32,
    /// Names the agent's run: what was used of nonces of an earlier one is not remembered.
    pub run: u32,
    /// Status line, with its end.
    pub status: Text<STATUS_ROOM>,
    /// All of the challenge's header before the nonce.
    pub before: Text<TEXT_ROOM>,
    /// All from there to the end of the response.
    pub behind: Text<TEXT_ROOM>,
}
const _: () = assert!(size_of::<Challenge>() == 24 + 8 + STATUS_ROOM + 2 * (8 + TEXT_ROOM));
pod!(Challenge);

/// What is in a nonce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce {
    /// Time and CPU, see the module.
    pub serial: u64,
    /// Boot time and run, see the module.
    pub run: u64,
}

impl Nonce {
    /// At `now` (`CLOCK_MONOTONIC`, ns) on a CPU.
    #[inline(always)]
    #[must_use]
    pub const fn new(now: u64, cpu: u32, boot_s: u32, run: u32) -> Self {
        Self {
            serial: now >> 6 << 8 | cpu as u64 & 0xff,
            run: (boot_s as u64) << 32 | run as u64,
        }
    }

    /// When it was made, Unix time in ms; up to a second early, since [`Challenge::boot_s`] has no fraction.
    #[must_use]
    pub const fn issued_ms(&self) -> u64 {
        (self.run >> 32) * 1_000 + (self.serial >> 8 << 6) / 1_000_000
    }

    /// Binds it to a source.
    #[inline(always)]
    #[must_use]
    pub const fn mac(&self, key: [u64; 2], source: &Address) -> u64 {
        let [a, b, c, d] = source.0;
        siphash(
            key,
            [self.serial, self.run, a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32],
        )
    }
}

/// What hashes of a request begin with that a sender sees, as the To tag. They can be computed backwards to here, and no further: with a part
/// of the key instead, he would know that part.
#[inline(always)]
#[must_use]
pub const fn seed(key: [u64; 2]) -> u64 {
    // As long as what a nonce's MAC is over, and never that: no clock reaches the first word.
    siphash(key, [u64::MAX, 0, 0, 0])
}

/// SipHash-2-4 of 32 bytes, given as four little-endian words.
#[inline(always)]
#[must_use]
pub const fn siphash(key: [u64; 2], words: [u64; 4]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let [a, b, c, d] = words;
    v = block(v, a);
    v = block(v, b);
    v = block(v, c);
    v = block(v, d);
    // The last block has the length in its highest byte.
    v = block(v, 32 << 56);
    v[2] ^= 0xff;
    v = round(round(round(round(v))));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
const fn block(mut v: [u64; 4], word: u64) -> [u64; 4] {
    v[3] ^= word;
    v = round(round(v));
    v[0] ^= word;
    v
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// The eight hex digits of a number, the most significant first in memory.
#[inline(always)]
#[must_use]
pub const fn hex(number: u32) -> u64 {
    let mut x = number as u64;
    x = (x << 16 | x) & 0x0000_ffff_0000_ffff;
    x = (x << 8 | x) & 0x00ff_00ff_00ff_00ff;
    x = (x << 4 | x) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    // From '9' to 'a' is a step of 40, one of which the digit itself makes.
    (x + 0x3030_3030_3030_3030 + letters * 39).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(
        deprecated,
        reason = "the standard library's own SipHash-2-4, which it replaced by another number of rounds"
    )]
    fn siphash_is_that_of_the_standard_library() {
        use std::hash::{Hasher, SipHasher};
        for n in 0..100_u64 {
            let words = [n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), !n, n << 40];
            let mut expected = SipHasher::new_with_keys(n ^ 5, !n);
            expected.write(&words.map(u64::to_le_bytes).concat());
            assert_eq!(siphash([n ^ 5, !n], words), expected.finish());
        }
    }

    #[test]
    fn hex_digits_are_those_of_the_library() {
        for number in [0, 1, 0x1234_5678, 0x9abc_def0, u32::MAX, 0x0a0b_090f] {
            assert_eq!(hex(number).to_le_bytes(), *format!("{number:08x}").as_bytes());
        }
    }

    #[test]
    fn the_seed_of_what_is_seen_is_no_part_of_the_key_and_follows_all_of_it() {
        let key = [3, 5];
        assert!(!key.contains(&seed(key)));
        assert_ne!(seed(key), seed([3, 6]));
        assert_ne!(seed(key), seed([4, 5]));
    }

    #[test]
    fn a_nonce_tells_its_age_and_is_bound_to_its_source() {
        let nonce = Nonce::new(90_000_000_000, 3, 1_800_000_000, 7);
        assert_eq!(nonce.issued_ms(), 1_800_000_090_000);
        assert_ne!(nonce, Nonce::new(90_000_000_000, 4, 1_800_000_000, 7));
        assert!(nonce.serial < Nonce::new(90_000_000_064, 0, 1_800_000_000, 7).serial);
        let (one, other) = (Address::from_v4(1), Address::from_v4(2));
        assert_ne!(nonce.mac([1, 2], &one), nonce.mac([1, 2], &other));
        assert_ne!(nonce.mac([1, 2], &one), nonce.mac([1, 3], &one));
    }
}
