//! SIP digest authentication without I/O: bytes and a clock go in, actions come out.
//!
//! A worker owns one [`Authenticator`] and gives it every datagram that the kernel program handed over. Invariants: no clock,
//! socket or random source is read here; memory that a peer drives is bounded; a request leaves as [`Action::Release`] only
//! for a reason that [`Outcome::releases`] lists; secrets appear in no `Debug`.

mod account;
mod authenticator;
mod challenge;
pub(crate) mod credentials;
mod diagnosis;
mod digest;
mod failures;
mod judge;
mod nonce;
mod outcome;
mod replay;
mod settings;
mod tag;
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#[cfg_attr(not(test), allow(dead_code, reason = "the fuzz targets use a part of it"))]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
mod uses;
mod verify;

use std::{net::SocketAddr, time::Duration};

use sipauth_common::proof::Caller;

pub use account::{Account, Directory, Ha1, Ha1Error, Source};
pub use authenticator::Authenticator;
pub use diagnosis::Diagnosis;
pub use digest::{Algorithm, UnknownAlgorithm};
pub use failures::BanRequest;
pub use judge::{Judged, Judgement};
pub use nonce::NonceKeys;
pub use outcome::Outcome;
pub use settings::{DigestRules, Qop, Settings, UriMatch};
pub use uses::Uses;

/// Unix time in milliseconds. The caller reads the clock; it may step either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// What to do with a punted datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these bytes back to where the datagram came from.
    Reply {
        /// A complete SIP response.
        response: Vec<u8>,
        /// Why.
        outcome: Outcome,
    },
    /// Hand the datagram, unchanged, to the softswitch.
    Release {
        /// To be in `FLOWS` before the datagram is released.
        flow: Option<FlowGrant>,
        /// Why.
        outcome: Outcome,
    },
    /// Neither.
    Absorb {
        /// Why.
        outcome: Outcome,
    },
}

impl Action {
    /// Why, whatever is done.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Reply { outcome, .. } | Self::Release { outcome, .. } | Self::Absorb { outcome } => *outcome,
        }
    }
}

/// A flow that a gateway has earned by its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowGrant {
    /// Gateway id.
    pub gateway: u32,
    /// Valid for this long whether used or not (a registration); `None`: as long as it is used.
    pub lifetime: Option<Duration>,
    /// With what the kernel program may let the next call of the source through by itself, where it can: no time and generation are set.
    pub caller: Option<Caller>,
}

/// How long a flow is to hold for a registration of so many seconds.
#[must_use]
pub fn registration(seconds: u32) -> Duration {
    /// Whatever a client asks for, it must prove its password once a day.
    const MAX: u32 = 24 * 3600;
    /// A refresh may arrive a little late.
    const MARGIN: Duration = Duration::from_secs(30);
    Duration::from_secs(u64::from(seconds.min(MAX))) + MARGIN
}

/// What the datagram was punted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where it came from.
    pub source: SocketAddr,
    /// The local address and protected port that it was sent to.
    pub destination: SocketAddr,
    /// The source has a live flow (it came in by the trusted lane).
    pub trusted: bool,
    /// It came in by the denied lane: the kernel program refuses the source, and asks for an answer.
    pub denied: bool,
}
