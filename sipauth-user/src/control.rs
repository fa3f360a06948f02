//! The control socket: JSON lines over a Unix socket, between the command line and the agent.
//!
//! One request is one line; the answer is one line, or several for events. A password crosses this socket once, as
//! plain text: it is root's, or a group's that root chose. Neither side logs a request.

mod applied;
mod client;
mod explanation;
mod messages;
mod reports;
mod sample;
mod server;
mod tracing;

use std::{io, path::PathBuf};

pub use self::{
    applied::{ApplyReport, ChangedGateway, MoreGateways},
    client::{Client, ClientError},
    explanation::{ChallengeInfo, ExplainStep, Explanation, RateInfo, SourceReport},
    messages::{BanRule, ExplainRequest, Refusal, Request, Response, Transport, parse_message},
    reports::{
        BanInfo, Counted, EventRecord, FlowInfo, GatewayCounts, GatewayInfo, GatewayReport, InterfaceStatus, LogStatus, MapStatus,
        NameInfo, PrefilterStatus, Rates, ReasonCount, RecentCount, ReloadReport, StatsReport, StatusReport, StoreStatus,
    },
    sample::{Health, LaneReport, Sample, Setup},
    server::{Caller, Handler, Reply, bind, serve},
    tracing::{TraceField, TraceLine, TraceRecord, TraceRequest},
};

/// Longest request, bytes with its newline: a list of bans or of gateways. Only root, or a group that root chose, can send one.
pub const MAX_REQUEST: usize = 512 << 20;
/// Most connections at a time.
pub const MAX_CONNECTIONS: usize = 32;

/// Why the control socket cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Someone answers there.
    #[error("another agent runs: it answers at {}; stop it first, or choose another --socket", path.display())]
    AlreadyRuns {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is no socket is in the way.
    #[error("{} exists and is not a socket; move it away, or choose another --socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// No such group.
    #[error("socket-group: there is no group {group}; create it with `groupadd {group}`, or choose another")]
    NoGroup {
        /// What was given.
        group: String,
    },
    /// Anything else.
    #[error("cannot listen at {}: {source}; check --socket and the permissions of its directory", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
