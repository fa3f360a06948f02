//! What is said over the control socket. The reports are also what `--json` prints, so their names are a contract.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use sipauth_common::sip::{Class, Method};

use crate::{
    config::RawDigest,
    gateway::{Gateway, GatewayError, Mode, RawGateway},
    store::StoreError,
};

/// What the command line asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Adds a gateway; enforced when the answer comes.
    GatewayAdd {
        /// Not yet validated: the agent does it again, whoever asks.
        gateway: RawGateway,
    },
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
    /// Sampled refusals.
    Events {
        /// Go on with new ones.
        follow: bool,
    },
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

/// A ban in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInfo {
    /// Source address.
    pub address: IpAddr,
    /// Only this port of it.
    pub port: Option<u16>,
    /// Seconds that are left; `None`: until it is removed.
    pub expires_in: Option<u64>,
    /// `manual` or `failures`.
    pub cause: String,
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
    Gateway {
        /// It.
        gateway: GatewayInfo,
    },
    /// What would happen to a packet.
    Explanation(Explanation),
    /// All counters.
    Stats(StatsReport),
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
    /// One event; more may follow.
    Event(EventRecord),
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

/// A gateway without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayInfo {
    /// Unique name.
    pub name: String,
    /// Id in the maps.
    pub id: u32,
    /// What is verified.
    pub mode: Mode,
    /// Addresses and prefixes.
    pub addresses: Vec<String>,
    /// Source ports in mode `ip-port`.
    pub ports: Vec<u16>,
    /// Digest username.
    pub username: Option<String>,
    /// Digest realm.
    pub realm: Option<String>,
    /// What was set for this gateway alone.
    #[serde(default, skip_serializing_if = "RawDigest::is_empty")]
    pub digest: RawDigest,
    /// Higher wins where gateways share an address.
    pub priority: i32,
}

impl GatewayInfo {
    /// Of a gateway and its id.
    #[must_use]
    pub fn new(id: u32, gateway: &Gateway) -> Self {
        Self {
            name: gateway.name.clone(),
            id,
            mode: gateway.mode,
            addresses: gateway.addresses_text().collect(),
            ports: gateway.ports.clone(),
            username: gateway.username.clone(),
            realm: gateway.realm.clone(),
            digest: gateway.digest.clone(),
            priority: gateway.priority,
        }
    }
}

/// What would happen to a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// `pass`, `drop` or `punt`.
    pub verdict: String,
    /// Label of the reason, as in the counters.
    pub reason: String,
    /// What the reason means.
    pub text: String,
    /// The gateway that it counts for.
    pub gateway: Option<String>,
    /// That gateway's mode.
    pub mode: Option<Mode>,
    /// Where a punted packet queues.
    pub lane: Option<String>,
    /// In monitor mode the packet passes whatever the verdict.
    pub monitor: bool,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Packets and bytes of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// What happens for this reason.
    pub verdict: String,
}

/// Packets and bytes of one gateway, by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayCounts {
    /// To the softswitch.
    pub pass: Counted,
    /// Nowhere.
    pub drop: Counted,
    /// To the agent.
    pub punt: Counted,
}

/// All counters. Every reason is there, also with 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReport {
    /// By label of the reason.
    pub reasons: BTreeMap<String, ReasonCount>,
    /// By name of the gateway.
    pub gateways: BTreeMap<String, GatewayCounts>,
    /// By label of the agent's outcome.
    pub authentication: BTreeMap<String, u64>,
}

/// A protected interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native` or `generic`: how the program is attached in fact.
    pub xdp_mode: String,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the agent.
    pub version: String,
    /// Layout of the maps.
    pub layout: u32,
    /// Process id.
    pub pid: u32,
    /// Seconds since the agent began to enforce.
    pub uptime: u64,
    /// Each protected interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// Protected ports.
    pub ports: Vec<u16>,
    /// `deny`, `challenge` or `allow`: the one in force.
    pub default_policy: String,
    /// Whether everything passes.
    pub monitor: bool,
    /// Whether calls that need the agent pass while it is down.
    pub fail_open: bool,
    /// How many gateways there are.
    pub gateways: usize,
    /// Realm of challenges.
    pub realm: String,
}

/// A sampled refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Seconds since 1970.
    pub time: f64,
    /// Where the packet came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// Transport protocol.
    pub transport: Transport,
    /// `pass`, `drop` or `punt`.
    pub verdict: String,
    /// Label of the reason.
    pub reason: String,
    /// The gateway that it counts for.
    pub gateway: Option<String>,
    /// The verdict was computed, the packet passed.
    pub monitored: bool,
    /// Bytes of the frame.
    pub frame_len: u32,
    /// First line of the message, as far as it was captured; control characters replaced.
    pub head: String,
}
