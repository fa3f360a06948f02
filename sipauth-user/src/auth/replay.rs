//! Which (nonce, nonce count) pairs were used, in bounded memory.
//!
//! Entries are in the order of the nonces' serial numbers. What is forgotten is forgotten from the oldest on, and `floor` moves
//! with it: a nonce below the floor is stale, whatever the clock says. So neither a full table nor a clock that steps back lets
//! anything be used twice.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::Timestamp;

/// How long the same datagram counts as a retransmission: 64 × T1, which is also how long the softswitch's own
/// transaction absorbs it instead of making a second call (RFC 3261, 17.1.1.2; RFC 6026, 7.1).
pub(super) const RETRANSMISSION: Duration = Duration::from_secs(32);
/// Transactions that may be in flight with one nonce besides the last, and still be recognised.
const EARLIER: usize = 3;

/// What makes a datagram the same as another: all of it, and whom it is from. Stricter than comparing branch, Call-ID, CSeq and
/// response, since a retransmission is identical (RFC 3261, 17.1.1.2). 128 bits: nobody finds another datagram for one.
pub(super) type Fingerprint = [u8; 16];

pub(super) fn fingerprint(datagram: &[u8], from: SocketAddr) -> Fingerprint {
    let mut hash = Sha256::new();
    match from.ip().to_canonical() {
        IpAddr::V4(v4) => hash.update(v4.octets()),
        IpAddr::V6(v6) => hash.update(v6.octets()),
    }
    hash.update(from.port().to_be_bytes());
    hash.update(datagram);
    let mut print = [0; 16];
    print.copy_from_slice(&hash.finalize()[..16]);
    print
}

/// What the memory says of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The first. It is remembered now.
    First,
    /// The same datagram again.
    Retransmission,
    /// A count that was not used, of a nonce that was and is good for one request only.
    Spent,
    /// Anything else.
    Replay,
}

/// How long a nonce is good, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) issued: Timestamp,
    pub(super) lifetime: Duration,
    pub(super) one_time: bool,
}

impl Term {
    fn end(&self) -> Timestamp {
        let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.issued.0.saturating_add(lifetime))
    }
}

/// The uses of a nonce. Most are used once, and there are many: what only more uses need is apart.
struct Window {
    end: Timestamp,
    /// The highest count used, and with it the meaning of `bits`: bit n is count `highest - n`.
    highest: u32,
    bits: u64,
    /// The last request; time 0 for none.
    last: Seen,
    /// Where in `earlier` the next goes.
    next: u32,
    earlier: Option<Box<[Seen; EARLIER]>>,
}

/// A request, and when it came.
type Seen = (Fingerprint, Timestamp);
const NOTHING: Seen = ([0; 16], Timestamp(0));

/// See the module.
pub(super) struct Replay {
    windows: BTreeMap<u64, Window>,
    floor: u64,
    capacity: usize,
}

impl Replay {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            windows: BTreeMap::new(),
            floor: 0,
            capacity: capacity.max(1),
        }
    }

    /// Whether uses of this nonce may have been forgotten.
    pub(super) const fn forgotten(&self, serial: u64) -> bool {
        serial < self.floor
    }

    /// Number of nonces remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    /// To be called only with credentials that are right, else anybody could use up a count or fill the memory.
    pub(super) fn commit(&mut self, serial: u64, term: Term, count: u32, fingerprint: Fingerprint, now: Timestamp) -> Use {
        if self.forgotten(serial) {
            return Use::Replay;
        }
        self.expire(now, serial);
        if let Some(window) = self.windows.get_mut(&serial) {
            return if window.has_recent(fingerprint, now) {
                Use::Retransmission
            } else if !window.take(count) {
                Use::Replay
            } else if term.one_time {
                Use::Spent
            } else {
                window.remember((fingerprint, now));
                Use::First
            };
        }
        if self.windows.len() >= self.capacity {
            self.forget_oldest();
            // The newcomer itself may be older than what was forgotten.
            if self.forgotten(serial) {
                return Use::Replay;
            }
        }
        let mut window = Window::new(term.end());
        if !window.take(count) {
            return Use::Replay;
        }
        window.remember((fingerprint, now));
        self.windows.insert(serial, window);
        Use::First
    }

    /// A few at a time, so that no datagram pays for all. One that lives longer keeps those behind it, which the capacity bounds.
    fn expire(&mut self, now: Timestamp, keep: u64) {
        for _ in 0..4 {
            match self.windows.first_key_value() {
                Some((serial, window)) if *serial != keep && window.end < now => self.forget_oldest(),
                _ => return,
            }
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((serial, _)) = self.windows.pop_first() {
            self.floor = self.floor.max(serial.saturating_add(1));
        }
    }
}

impl Window {
    const fn new(end: Timestamp) -> Self {
        Self {
            end,
            highest: 0,
            next: 0,
            bits: 0,
            last: NOTHING,
            earlier: None,
        }
    }

    fn remember(&mut self, seen: Seen) {
        if self.last != NOTHING {
            let earlier = self.earlier.get_or_insert_with(|| Box::new([NOTHING; EARLIER]));
            if let Some(slot) = earlier.get_mut(self.next as usize % EARLIER) {
                *slot = self.last;
            }
            self.next = self.next.wrapping_add(1);
        }
        self.last = seen;
    }

    /// Either way: a clock that stepped back must not lengthen the time.
    fn has_recent(&self, fingerprint: Fingerprint, now: Timestamp) -> bool {
        [self.last]
            .iter()
            .chain(self.earlier.iter().flat_map(|earlier| earlier.iter()))
            .any(|(seen, at)| *seen == fingerprint && at.0 != 0 && u128::from(now.0.abs_diff(at.0)) <= RETRANSMISSION.as_millis())
    }

    /// Marks a count as used; false if it was, or is too old to tell.
    fn take(&mut self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        if count > self.highest {
            let shift = count - self.highest;
            self.bits = self.bits.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let Some(bit) = 1_u64.checked_shl(self.highest - count) else {
            return false;
        };
        let fresh = self.bits & bit == 0;
        self.bits |= bit;
        fresh
    }
}
