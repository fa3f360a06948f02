//! SIP digest authentication without I/O: bytes and a clock go in, actions come out.

use std::{net::SocketAddr, time::Duration};

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

/// A flow that a gateway has earned by its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowGrant {
    /// Gateway id.
    pub gateway: u32,
    /// Valid for this long whether used or not (a registration); `None`: as long as it is used.
    pub lifetime: Option<Duration>,
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

/// How the agent dealt with a datagram: counter, metric label and reason at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// To be extended by the module's owner.
    Authenticated,
}
