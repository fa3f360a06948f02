//! Nonces of the kernel program, which it uses up itself where it checks a password: who uses one up first has it, here as there.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use sipauth_common::proof::{self, Fingerprint, State, moment, place};

use super::{
    Timestamp,
    replay::{RETRANSMISSION, Use},
};

/// What was used, in memory that the kernel program has too: the words of [`sipauth_common::proof::Slot`]s. One for all authenticators.
#[derive(Clone)]
pub struct Uses(Arc<dyn AsRef<[AtomicU64]> + Send + Sync>);

/// The nonce of a request.
pub(super) struct Used {
    pub(super) number: u32,
    /// Unix time at which the kernel's clock was 0, s.
    pub(super) boot_s: u32,
    /// What its MAC was made with.
    pub(super) key: [u64; 2],
}

impl Uses {
    /// In this memory.
    #[must_use]
    pub fn new(words: Arc<dyn AsRef<[AtomicU64]> + Send + Sync>) -> Self {
        Self(words)
    }

    /// In memory of its own.
    #[cfg(test)]
    pub(crate) fn apart() -> Self {
        let words: Vec<AtomicU64> = (0..2 * proof::SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(words))
    }

    /// So many nonces were made, not for strangers.
    #[cfg(test)]
    pub(crate) fn make(&self, count: u64) {
        self.word(0).fetch_add(count, SeqCst);
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        let words = (*self.0).as_ref();
        // The map has a slot for each place.
        &words[at % words.len()]
    }

    /// Uses up a nonce. To be called only with credentials that are right.
    pub(super) fn take(&self, nonce: &Used, datagram: &[u8], from: SocketAddr, now: Timestamp) -> Use {
        let fingerprint = Fingerprint::of(nonce.key, from.port(), datagram);
        // The kernel's clock, to a second, as long as nobody sets ours. Times are compared for retransmissions only.
        let clock = now.0.saturating_sub(u64::from(nonce.boot_s) * 1_000).saturating_mul(1_000_000);
        let slot = 2 * place(nonce.number) as usize;
        let made = self.word(2 * proof::counter(nonce.number) as usize).load(SeqCst);
        let claim = self.word(slot).load(SeqCst);
        match proof::state(nonce.number, made, claim, clock) {
            State::Free(mine) => {
                if self.word(slot).compare_exchange(claim, mine, SeqCst, SeqCst).is_err() {
                    return Use::Replay;
                }
                self.word(slot + 1).store(fingerprint, SeqCst);
                Use::First
            }
            // Either way, as of other nonces.
            State::Used(at) => {
                let apart = u64::from(moment(clock).wrapping_sub(at).cast_signed().unsigned_abs()) << 20;
                let recent = u128::from(apart) <= RETRANSMISSION.as_nanos();
                if recent && self.word(slot + 1).load(SeqCst) == fingerprint {
                    Use::Retransmission
                } else {
                    Use::Replay
                }
            }
            State::Forgotten => Use::Spent,
        }
    }
}
