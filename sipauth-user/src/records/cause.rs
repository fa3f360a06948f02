//! Why a call was refused, in the words of a softswitch: cause values of ITU-T Q.850, as in ISUP and in CDRs, with a text of our own that is
//! as short. One table; the README has it too.

use crate::auth::Outcome;
use sipauth_common::reason;

/// Why a call was refused: by the kernel program, or by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// By the kernel program, without an answer.
    Kernel(reason::Reason),
    /// By the agent.
    Agent(Outcome),
}

/// What a CDR of the softswitch would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// No gateway may call from the address.
    Address,
    /// A gateway has the address, but not the port.
    Port,
    /// The credentials are not right.
    Credentials,
    /// No gateway has the username.
    User,
    /// Banned, or locked out.
    Barred,
    /// A routing gateway calls in.
    CallsIn,
    /// More than is taken at a time.
    Congestion,
    /// The agent is down.
    Unavailable,
    /// No request that can be understood.
    Malformed,
}

impl Termination {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Address,
        Self::Port,
        Self::Credentials,
        Self::User,
        Self::Barred,
        Self::CallsIn,
        Self::Congestion,
        Self::Unavailable,
        Self::Malformed,
    ];

    /// Cause value of Q.850.
    #[must_use]
    pub const fn cause(self) -> u8 {
        match self {
            // Call rejected.
            Self::Credentials | Self::User | Self::Barred => 21,
            // Bearer capability not authorized.
            Self::Address | Self::Port => 57,
            // Incoming calls barred.
            Self::CallsIn => 55,
            // Switching equipment congestion.
            Self::Congestion => 42,
            // Temporary failure.
            Self::Unavailable => 41,
            // Protocol error, unspecified.
            Self::Malformed => 111,
        }
    }

    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Address => "address not authorized",
            Self::Port => "port not authorized",
            Self::Credentials => "authentication failed",
            Self::User => "unknown user",
            Self::Barred => "caller barred",
            Self::CallsIn => "incoming calls barred",
            Self::Congestion => "too many requests",
            Self::Unavailable => "authentication out of service",
            Self::Malformed => "malformed request",
        }
    }
}

impl Reason {
    /// Name in counters, events and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kernel(reason) => reason.label(),
            Self::Agent(outcome) => outcome.label(),
        }
    }

    /// How such a call ends; `None` for what is not the refusal of a call.
    #[must_use]
    pub const fn termination(self) -> Option<Termination> {
        match self {
            Self::Kernel(reason) => kernel(reason),
            Self::Agent(outcome) => agent(outcome),
        }
    }
}

// No `_` arm: a new reason must choose.
const fn kernel(reason: reason::Reason) -> Option<Termination> {
    use reason::Reason::{
        AgentDown, Authenticated, BadExtension, BadIpHeader, BadTcpHeader, BadUdpLength, Banned, Challenge, Challenged, DefaultAllow,
        FailOpen, Flow, FlowAck, Fragment, FragmentUnknown, IpMatch, LaneRate, NoFlow, NotConfigured, NotProtected, OwnAck, Peer,
        PeerRequest, PortMatch, PortMismatch, PuntPort, ReplyMismatch, ReplyUnknown, SourceRate, TinyFragment, Truncated, UnknownSource,
    };
    match reason {
        UnknownSource => Some(Termination::Address),
        PortMismatch => Some(Termination::Port),
        Banned => Some(Termination::Barred),
        SourceRate | LaneRate => Some(Termination::Congestion),
        AgentDown => Some(Termination::Unavailable),
        // Passed, or handed to the agent, which has its own word.
        NotProtected | IpMatch | PortMatch | Flow | Peer | DefaultAllow | Fragment | FailOpen | NotConfigured | Challenge | Challenged
        | FlowAck | PeerRequest | ReplyMismatch | ReplyUnknown | Authenticated => None,
        // No call could be seen in it.
        OwnAck | Truncated | BadIpHeader | BadUdpLength | BadTcpHeader | BadExtension | TinyFragment | PuntPort | FragmentUnknown
        | NoFlow => None,
    }
}

const fn agent(outcome: Outcome) -> Option<Termination> {
    match outcome {
        Outcome::BadNonce
        | Outcome::Replayed
        | Outcome::RealmMismatch
        | Outcome::AlgorithmMismatch
        | Outcome::QopMismatch
        | Outcome::BadCredentials
        | Outcome::UriMismatch
        | Outcome::WrongPassword => Some(Termination::Credentials),
        Outcome::UnknownUser => Some(Termination::User),
        Outcome::WrongAddress | Outcome::UnknownSource | Outcome::Denied => Some(Termination::Address),
        Outcome::LockedOut => Some(Termination::Barred),
        Outcome::PeerInitial => Some(Termination::CallsIn),
        Outcome::BadRequest | Outcome::Unparseable => Some(Termination::Malformed),
        // The client is asked, or asked again, and goes on by itself.
        Outcome::Challenged | Outcome::StaleNonce => None,
        Outcome::Authenticated | Outcome::Retransmission | Outcome::InDialog | Outcome::PeerOptions => None,
        // No calls.
        Outcome::AckAbsorbed | Outcome::AckNoFlow | Outcome::CancelNoFlow | Outcome::KeepAlive | Outcome::Response => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_refuses_a_call_has_a_termination_and_nothing_else_has() {
        for reason in reason::Reason::ALL {
            if Reason::Kernel(*reason).termination().is_some() {
                assert_eq!(reason.verdict(), reason::Verdict::Drop, "{}", reason.label());
            }
        }
        for outcome in Outcome::ALL {
            if Reason::Agent(*outcome).termination().is_some() {
                assert!(!outcome.releases(), "{}", outcome.label());
            }
        }
        assert_eq!(Reason::Kernel(reason::Reason::PortMismatch).termination(), Some(Termination::Port));
        assert_eq!(Reason::Agent(Outcome::Challenged).termination(), None);
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../../README.md");
        for one in Termination::ALL {
            let row = format!("| {} | {} |", one.text(), one.cause());
            assert!(readme.contains(&row), "{row}");
        }
    }
}
