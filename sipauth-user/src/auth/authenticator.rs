//! The decision about a punted datagram.

use std::sync::Arc;

use super::{Action, Arrival, Directory, NonceKeys, Outcome, Settings, Timestamp, nonce::Mint};

/// Authenticates what one worker receives.
pub struct Authenticator {
    _settings: Arc<Settings>,
    _mint: Mint,
}

impl Authenticator {
    /// For worker `worker` (each its own number), starting at `started`.
    #[must_use]
    pub fn new(settings: Arc<Settings>, keys: &NonceKeys, worker: u16, started: Timestamp) -> Self {
        let _ = (worker, started);
        Self { _settings: settings, _mint: Mint::new(keys) }
    }

    /// New keys (rotation) or settings, from now on.
    pub fn reconfigure(&mut self, settings: Arc<Settings>, keys: &NonceKeys) {
        *self = Self { _settings: settings, _mint: Mint::new(keys) };
    }

    /// What to do with a datagram.
    pub fn handle<D: Directory + ?Sized>(&mut self, datagram: &[u8], arrival: &Arrival, directory: &D, now: Timestamp) -> Action {
        let _ = (datagram, arrival, directory, now);
        Action::Absorb { outcome: Outcome::Unparseable }
    }
}
