//! Challenges that the kernel program makes by itself: what the agent gives it for that, and their nonces.
//!
//! Such a nonce is like a SYN cookie: nothing is remembered of it until it is used ([`crate::proof`]), and whoever has the key knows it again. In text it is [`NONCE_TEXT`]
//! characters: `k`, then in hex, most significant digit first, two words and their MAC:
//!
//! | word | content |
//! |---|---|
//! | [`Nonce::serial`] | `CLOCK_MONOTONIC` in units of 2^26 ns (32 bits), number of the nonce (32 bits): no two are the same |
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
    /// Where in `before` the realm begins, bytes; a quote ends it.
    pub realm_at: u32,
    /// How long a nonce is good, in [`Nonce::TICK`]s.
    pub lifetime: u32,
}
const _: () = assert!(size_of::<Challenge>() == 24 + 8 + STATUS_ROOM + 2 * (8 + TEXT_ROOM) + 8);
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
    /// The unit of its time: 2^26 ns, or 67 ms.
    pub const TICK: u32 = 26;

    /// The `number`th, made at `now` (`CLOCK_MONOTONIC`, ns).
    #[inline(always)]
    #[must_use]
    pub const fn new(now: u64, number: u32, boot_s: u32, run: u32) -> Self {
        Self {
            serial: now >> Self::TICK << 32 | number as u64,
            run: (boot_s as u64) << 32 | run as u64,
        }
    }

    /// Which one of all that the kernel program made.
    #[inline(always)]
    #[must_use]
    pub const fn number(&self) -> u32 {
        (self.serial & 0xffff_ffff) as u32
    }

    /// Whether it is at most so many ticks old at `now` (`CLOCK_MONOTONIC`, ns).
    #[inline(always)]
    #[must_use]
    pub const fn is_fresh(&self, now: u64, lifetime: u32) -> bool {
        match (now >> Self::TICK).checked_sub(self.serial >> 32) {
            Some(age) => age <= lifetime as u64,
            None => false,
        }
    }

    /// When it was made, Unix time in ms; up to a tick and a second early, since [`Challenge::boot_s`] has no fraction.
    #[must_use]
    pub const fn issued_ms(&self) -> u64 {
        (self.run >> 32) * 1_000 + (self.serial >> 32 << Self::TICK) / 1_000_000
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
    let [a, b, c, d] = words;
    // The last block has the length in its highest byte.
    SipHash::new(key).word(a).word(b).word(c).word(d).finish(32 << 56)
}

/// SipHash-2-4 on its way.
#[derive(Clone, Copy)]
pub struct SipHash([u64; 4]);

impl SipHash {
    /// At the beginning.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: [u64; 2]) -> Self {
        Self([
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Behind eight more bytes, as a little-endian word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let mut v = self.0;
        v[3] ^= word;
        v = round(round(v));
        v[0] ^= word;
        Self(v)
    }

    /// The hash. `last` has the bytes that are left, up to seven, and the length of all in its highest byte.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self, last: u64) -> u64 {
        let mut v = self.word(last).0;
        v[2] ^= 0xff;
        v = round(round(round(round(v))));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
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

/// The number that eight hex digits stand for, as [`hex`] writes them and in no other way; `None` for anything else.
#[inline(always)]
#[must_use]
pub const fn unhex(digits: u64) -> Option<u32> {
    // What a letter has and a digit has not; capitals are found out below.
    let letters = digits >> 6 & 0x0101_0101_0101_0101;
    let mut x = digits.wrapping_sub(0x3030_3030_3030_3030 + letters * 39) & 0x0f0f_0f0f_0f0f_0f0f;
    x = x.swap_bytes();
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    let number = ((x | x >> 16) & 0xffff_ffff) as u32;
    if hex(number) == digits { Some(number) } else { None }
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
            assert_eq!(unhex(hex(number)), Some(number));
        }
        for other in [
            b"0000000g",
            b"0000000A",
            b"00000 00",
            b"0000000:",
            b"0000000`",
            b"-0000001",
            b"\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(unhex(u64::from_le_bytes(*other)), None, "{other:?}");
        }
        for at in 0..8 {
            for byte in 0..=255_u8 {
                let mut digits = *b"09af19be";
                digits[at] = byte;
                let expected = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(unhex(u64::from_le_bytes(digits)).is_some(), expected, "{digits:?}");
            }
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
        let early = 1_800_000_090_000 - nonce.issued_ms();
        assert!(early <= 67, "{early}");
        assert_eq!(nonce.number(), 3);
        assert_ne!(nonce, Nonce::new(90_000_000_000, 4, 1_800_000_000, 7));
        assert!(nonce.serial < Nonce::new(90_100_000_000, 0, 1_800_000_000, 7).serial);
        let (one, other) = (Address::from_v4(1), Address::from_v4(2));
        assert_ne!(nonce.mac([1, 2], &one), nonce.mac([1, 2], &other));
        assert_ne!(nonce.mac([1, 2], &one), nonce.mac([1, 3], &one));
        assert!(nonce.is_fresh(90_000_000_000, 0));
        assert!(nonce.is_fresh(90_000_000_000 + (10 << 26), 10));
        assert!(!nonce.is_fresh(90_000_000_000 + (11 << 26), 10));
        assert!(!nonce.is_fresh(80_000_000_000, u32::MAX), "of a time to come");
    }
}
