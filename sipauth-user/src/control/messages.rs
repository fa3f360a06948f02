//! What is said over the control socket: requests, and the answers that hold the reports.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sipauth_common::sip::{Class, Method};

use super::{
    ApplyReport, BanInfo, EventRecord, Explanation, FlowInfo, GatewayInfo, GatewayReport, NameInfo, ReloadReport, Sample, StatsReport,
    StatusReport, TraceLine, TraceRequest,
};
use crate::{
    config::RawDigest,
    gateway::{GatewayError, Mode, RawGateway, Secret, SetGateway},
    store::StoreError,
};

/// What the command line asks for.
///
/// Its name goes first and holds the rest: with a tag among the fields, serde would keep a million gateways in a form of its own before it makes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Adds a gateway; enforced when the answer comes.
    GatewayAdd {
        /// Not yet validated: the agent does it again, whoever asks.
        gateway: RawGateway,
    },
    /// Changes fields of a gateway; enforced when the answer comes.
    GatewaySet {
        /// Its name.
        name: String,
        /// Which fields, and to what.
        fields: Box<SetGateway>,
    },
    /// Brings the gateways to a list.
    Apply {
        /// The list; each is validated by the agent again.
        #[serde(serialize_with = "short")]
        gateways: Vec<RawGateway>,
        /// Remove those that are not in it.
        prune: bool,
        /// Say what would be done.
        dry_run: bool,
    },
    /// Reads the settings again, and applies what can be applied while the agent runs.
    Reload,
    /// The gateways in the form that `Apply` takes, with their credentials.
    Export,
    /// Removes a gateway; enforced when the answer comes.
    GatewayRemove {
        /// Its name.
        name: String,
    },
    /// All gateways.
    GatewayList,
    /// One gateway.
    GatewayShow {
        /// Its name.
        name: String,
    },
    /// What would happen to a packet.
    Explain(ExplainRequest),
    /// All counters.
    Stats,
    /// All counters and the health of the agent at one time, for rates.
    Sample,
    /// How the agent is.
    Status,
    /// Take the programs off the interfaces, remove all pins and stop.
    Detach,
    /// Bans addresses, all or none.
    BanAdd {
        /// Each.
        bans: Vec<BanRule>,
    },
    /// Lifts the ban of an address.
    BanRemove {
        /// Which.
        address: IpAddr,
    },
    /// The bans in force.
    BanList,
    /// The sources that have authenticated.
    FlowList,
    /// Sampled refusals.
    Events {
        /// Go on with new ones.
        follow: bool,
    },
    /// The dialogue of one gateway or address, live.
    Trace(TraceRequest),
}

/// Without what is not given: of a million gateways, half of the bytes.
fn short<S: serde::Serializer>(gateways: &[RawGateway], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Short<'a> {
        name: &'a str,
        mode: Mode,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        addresses: &'a [String],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        ports: &'a [u16],
        #[serde(skip_serializing_if = "Option::is_none")]
        username: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        realm: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        password: &'a Option<Secret>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        allow_weak_password: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        credentials: &'a Option<Secret>,
        #[serde(skip_serializing_if = "RawDigest::is_empty")]
        digest: &'a RawDigest,
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<i32>,
    }
    serializer.collect_seq(gateways.iter().map(|gateway| {
        let RawGateway {
            name,
            mode,
            addresses,
            ports,
            username,
            realm,
            password,
            allow_weak_password,
            credentials,
            digest,
            priority,
        } = gateway;
        Short {
            name,
            mode: *mode,
            addresses,
            ports,
            username,
            realm,
            password,
            allow_weak_password: *allow_weak_password,
            credentials,
            digest,
            priority: Some(*priority).filter(|priority| *priority != 0),
        }
    }))
}

/// A ban that the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRule {
    /// Source address.
    pub address: IpAddr,
    /// Only this port of it.
    pub port: Option<u16>,
    /// For how long; `None`: until it is removed.
    pub seconds: Option<u64>,
    /// The operator's words.
    pub reason: String,
}

/// Transport protocol of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// Name in output.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A packet to explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Where it comes from.
    pub source: IpAddr,
    /// Source port, where given.
    pub source_port: Option<u16>,
    /// Destination port; the first protected port where not given.
    pub destination_port: Option<u16>,
    /// Transport protocol.
    pub transport: Transport,
    /// A method, `response` or `keep-alive`, as [`parse_message`] reads it.
    pub message: String,
}

/// The class of `INVITE` and so on, `response`, or `keep-alive`; any other token is an unknown method. `None` for what is no token (RFC 3261, 25.1).
#[must_use]
pub fn parse_message(text: &str) -> Option<Class> {
    if text.eq_ignore_ascii_case("response") {
        return Some(Class::Response);
    }
    if text.eq_ignore_ascii_case("keep-alive") {
        return Some(Class::KeepAlive);
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    if text.is_empty() || text.len() > 32 || !text.bytes().all(token) {
        return None;
    }
    let named = Method::NAMED.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text));
    Some(Class::Request(named.unwrap_or(Method::Unknown)))
}

/// Why there is no better answer; the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The answer is no: there is no such gateway, or there is one already. Exit code 1.
    No,
    /// It could not be done. Exit code 2.
    Failed,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// The gateway is enforced.
    Added {
        /// As it was stored.
        gateway: GatewayInfo,
        /// What may surprise.
        warnings: Vec<String>,
    },
    /// The gateway is enforced with its changes.
    Changed {
        /// As it was stored.
        gateway: GatewayInfo,
        /// What may surprise.
        warnings: Vec<String>,
    },
    /// The list is enforced, or (dry run) would be.
    Applied(ApplyReport),
    /// The settings are in force.
    Reloaded(ReloadReport),
    /// The gateways, by name.
    Exported {
        /// Each, with its credentials.
        gateways: Vec<RawGateway>,
        /// What their host names stand for.
        #[serde(default)]
        names: Vec<NameInfo>,
    },
    /// The gateway is gone.
    Removed {
        /// As it was.
        gateway: GatewayInfo,
    },
    /// All gateways, by name.
    Gateways {
        /// Each.
        gateways: Vec<GatewayInfo>,
    },
    /// One gateway.
    Gateway(GatewayReport),
    /// What would happen to a packet.
    Explanation(Explanation),
    /// All counters.
    Stats(StatsReport),
    /// Counters and health at one time.
    Sample(Box<Sample>),
    /// How the agent is.
    Status(StatusReport),
    /// Nothing is enforced any more.
    Detached {
        /// What was removed.
        removed: Vec<String>,
    },
    /// The bans are in force.
    Banned {
        /// How many addresses.
        count: usize,
    },
    /// The ban is lifted.
    Unbanned,
    /// The bans in force, by address.
    Bans {
        /// Each.
        bans: Vec<BanInfo>,
    },
    /// The sources that have authenticated, by address.
    Flows {
        /// Each.
        flows: Vec<FlowInfo>,
    },
    /// One event; more may follow.
    Event(EventRecord),
    /// A line of a trace; more follow.
    Trace(TraceLine),
    /// No.
    Error {
        /// Which kind of no.
        refusal: Refusal,
        /// One line: the thing and the remedy.
        message: String,
    },
}

impl Response {
    /// It could not be done.
    #[must_use]
    pub fn failed(error: &impl ToString) -> Self {
        Self::Error {
            refusal: Refusal::Failed,
            message: one_line(&error.to_string()),
        }
    }

    /// The answer is no.
    #[must_use]
    pub fn no(error: &impl ToString) -> Self {
        Self::Error {
            refusal: Refusal::No,
            message: one_line(&error.to_string()),
        }
    }
}

impl From<GatewayError> for Response {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Unknown { .. } | GatewayError::Exists { .. } | GatewayError::UsernameTaken { .. } => Self::no(&error),
            _ => Self::failed(&error),
        }
    }
}

impl From<StoreError> for Response {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown { .. } | StoreError::Taken { .. } => Self::no(&error),
            _ => Self::failed(&error),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split(['\r', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}
