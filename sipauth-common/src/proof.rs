//! Passwords that the kernel program checks by itself: of whom, and which of its nonces are used up.
//!
//! A source whose call the agent has let through calls again. From then on for a while the kernel program knows what its credentials must be
//! ([`Caller`]), and a right answer to a challenge of its own passes there. Nothing is refused: what is not right, or not plain, goes
//! to the agent, as does the first call of a source.

use crate::{
    challenge::{SipHash, Text},
    pod,
};

/// Room for a username, bytes.
pub const USERNAME_ROOM: usize = 64;

/// Value of `CALLERS`: what the source of a flow proves its password with. As secret as a password. Written by the agent when it has let a
/// call through; used as long as the flow lives, it is of the generation in force, and its time has not come.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// `CLOCK_MONOTONIC`, ns: from then on the agent is to see a call again.
    pub until: u64,
    /// That of the flow.
    pub gateway: u32,
    /// [`crate::config::Config::generation`] of the account.
    pub generation: u32,
    /// The account's username.
    pub username: Text<USERNAME_ROOM>,
    /// MD5 of username, realm and password, in lower-case hex.
    pub ha1: [u8; 32],
}
const _: () = assert!(size_of::<Caller>() == 16 + 8 + USERNAME_ROOM + 32);
pod!(Caller);

impl core::fmt::Debug for Caller {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Caller(redacted)")
    }
}

/// Nonces whose use is remembered, a power of two: of the last so many that were made, for strangers and for others apart. However many
/// strangers ask for challenges, no gateway's nonce is forgotten for that.
pub const USES: u32 = 65_536;
/// Elements of `NONCES`.
pub const SLOTS: u32 = 2 * (1 + USES);
/// Bit of the numbers of nonces that strangers got. The others count them.
pub const STRANGERS: u32 = 1 << 31;

/// An element of `NONCES`. The first two have how many nonces were made for others and for strangers, and nothing else; those behind them what
/// was used of a nonce ([`place`]).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slot {
    /// The nonce's number (upper half), and when it was used, by [`moment`] (lower half). Taken by an atomic exchange: whoever has it has
    /// used the nonce.
    pub claim: u64,
    /// The [`Fingerprint`] of what used it; written behind the claim.
    pub fingerprint: u64,
}
const _: () = assert!(size_of::<Slot>() == 16);
pod!(Slot);

/// Where in `NONCES` the nonces of such numbers are counted.
#[inline(always)]
#[must_use]
pub const fn counter(number: u32) -> u32 {
    number >> 31
}

/// The number of the nonce that was counted last, in an element that has this claim.
#[inline(always)]
#[must_use]
pub const fn last(made: u64, strangers: bool) -> u32 {
    let count = (made & 0x7fff_ffff) as u32;
    if strangers { count | STRANGERS } else { count }
}

/// Where in `NONCES` the nonce of a number has its slot.
#[inline(always)]
#[must_use]
pub const fn place(number: u32) -> u32 {
    2 + counter(number) * USES + (number & (USES - 1))
}

/// A time (`CLOCK_MONOTONIC`, ns) in units of 2^20 ns, as far as 32 bits go.
#[inline(always)]
#[must_use]
pub const fn moment(now: u64) -> u32 {
    (now >> 20 & 0xffff_ffff) as u32
}

/// What a slot says of a nonce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not used. To use it exchange the claim for this one.
    Free(u64),
    /// Used at this [`moment`].
    Used(u32),
    /// So many were made since that its use may be forgotten.
    Forgotten,
}

/// Of the nonce `number` when `made` were made, from the claim in its slot.
#[inline(always)]
#[must_use]
pub const fn state(number: u32, made: u64, claim: u64, now: u64) -> State {
    let (holder, at) = ((claim >> 32) as u32, (claim & 0xffff_ffff) as u32);
    if since(last(made, number & STRANGERS != 0), number) >= USES {
        return State::Forgotten;
    }
    if holder == number {
        return State::Used(at);
    }
    // A later one has the slot: more were made meanwhile. An earlier one has it for good where nobody has it, which is the claim 0.
    if claim != 0 && since(holder, number) < STRANGERS / 2 {
        return State::Forgotten;
    }
    State::Free((number as u64) << 32 | moment(now) as u64)
}

/// How many were made from one number to a later one.
#[inline(always)]
const fn since(later: u32, earlier: u32) -> u32 {
    later.wrapping_sub(earlier) & (STRANGERS - 1)
}

/// What makes a datagram the same as another: a keyed hash over its source port and all of its bytes (SipHash-2-4, with the key of the
/// nonces). A nonce is bound to the address.
#[derive(Clone, Copy)]
pub struct Fingerprint(SipHash);

impl Fingerprint {
    /// Of a datagram from this port.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: [u64; 2], port: u16) -> Self {
        Self(SipHash::new(key).word(port as u64))
    }

    /// Behind eight more of its bytes, as a little-endian word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        Self(self.0.word(word))
    }

    /// With the bytes that are left, up to seven, and zeros above; `len` is that of the datagram.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self, last: u64, len: usize) -> u64 {
        // With the port's eight bytes. Never that of a nonce's MAC, as a request is longer.
        self.0.finish(last | (len as u64 + 8) << 56)
    }

    /// Of a whole datagram.
    #[must_use]
    pub fn of(key: [u64; 2], port: u16, datagram: &[u8]) -> u64 {
        let (words, rest) = datagram.as_chunks();
        let fingerprint = words.iter().fold(Self::new(key, port), |fingerprint, word| {
            fingerprint.word(u64::from_le_bytes(*word))
        });
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        fingerprint.finish(u64::from_le_bytes(last), datagram.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 5 << 30;

    fn claimed(number: u32) -> u64 {
        match state(number, u64::from(number), 0, NOW) {
            State::Free(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_nonce_can_be_used_once_as_long_as_its_slot_is_its_own() {
        let claim = claimed(7);
        assert_eq!(state(7, 9, claim, NOW + 1), State::Used(moment(NOW)));
        assert_eq!(state(7, 6 + u64::from(USES), claim, NOW), State::Used(moment(NOW)));
        assert_eq!(state(7, 7 + u64::from(USES), claim, NOW), State::Forgotten);
        assert_eq!(
            state(7, 7 + u64::from(USES), 0, NOW),
            State::Forgotten,
            "though nobody used the slot"
        );
        // The next one of the slot.
        let next = 7 + USES;
        assert_eq!(place(next), place(7));
        assert!(matches!(state(next, u64::from(next), claim, NOW), State::Free(_)));
        // Whoever counted before that one was made, and looks when it was used.
        assert_eq!(state(7, 8, claimed(next), NOW), State::Forgotten);
    }

    #[test]
    fn one_that_was_not_made_yet_is_none() {
        assert_eq!(state(10, 9, 0, NOW), State::Forgotten);
    }

    #[test]
    fn those_of_strangers_are_counted_and_kept_apart() {
        let (one, other) = (7, 7 | STRANGERS);
        assert_ne!(place(one), place(other));
        assert!(place(u32::MAX) < SLOTS && place(STRANGERS - 1) < place(STRANGERS));
        assert_eq!((counter(one), counter(other)), (0, 1));
        assert_eq!((last(7, false), last(7, true)), (one, other));
        assert!(matches!(state(other, 7, 0, NOW), State::Free(_)));
        assert_eq!(state(other, 9, claimed(other), NOW), State::Used(moment(NOW)));
        assert_eq!(state(other, 7 + u64::from(USES), claimed(other), NOW), State::Forgotten);
    }

    #[test]
    fn numbers_go_round() {
        let last = STRANGERS - 1;
        let claim = claimed(last);
        assert_eq!(state(last, u64::from(last) + 3, claim, NOW), State::Used(moment(NOW)));
        let first = last.wrapping_add(USES) & (STRANGERS - 1);
        assert!(matches!(
            state(first, u64::from(last) + u64::from(USES), claim, NOW),
            State::Free(_)
        ));
        assert_eq!(state(last, u64::from(last), claimed(first), NOW), State::Forgotten);
    }

    #[test]
    fn a_fingerprint_follows_port_key_length_and_every_byte() {
        let text = b"INVITE sip:100@192.0.2.1 SIP/2.0 and so on";
        let fingerprint = Fingerprint::of([1, 2], 5060, text);
        assert_eq!(fingerprint, Fingerprint::of([1, 2], 5060, text));
        assert_ne!(fingerprint, Fingerprint::of([1, 2], 5061, text));
        assert_ne!(fingerprint, Fingerprint::of([1, 3], 5060, text));
        assert_ne!(fingerprint, Fingerprint::of([1, 2], 5060, &text[..text.len() - 1]));
        assert_ne!(fingerprint, Fingerprint::of([1, 2], 5060, &[&text[..], b"\0"].concat()));
        for at in 0..text.len() {
            let mut other = *text;
            other[at] ^= 0x80;
            assert_ne!(fingerprint, Fingerprint::of([1, 2], 5060, &other), "{at}");
        }
    }
}
