//! The reports of the agent. They are also what `--json` prints, so their names are a contract.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::Transport;
use crate::{
    config::{RawDigest, XdpMode},
    gateway::{Gateway, HostName, Mode, address_text},
};

/// What became of settings that were read again; each by its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Changed, and in force.
    pub applied: Vec<String>,
    /// Changed, and in force only after a restart.
    pub restart: Vec<String>,
    /// In the file, and set to something else by a flag of `run`.
    pub overruled: Vec<String>,
    /// What may surprise.
    pub warnings: Vec<String>,
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

/// A source that has authenticated, or a connection that the softswitch opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowInfo {
    /// Source address.
    pub address: IpAddr,
    /// Source port.
    pub port: u16,
    /// Transport protocol.
    pub transport: Transport,
    /// The gateway that proved its password; `None` where the softswitch opened the connection.
    pub gateway: Option<String>,
    /// Seconds until a registration ends; `None`: as long as the flow is used.
    pub expires_in: Option<u64>,
    /// Seconds since the last packet.
    pub idle: u64,
}

/// A host name of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameInfo {
    /// The name.
    pub name: String,
    /// What it stands for by the last good answer; enforced.
    pub addresses: Vec<String>,
    /// Since when there is no good answer, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
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
    /// Addresses, prefixes and host names, as they were given.
    pub addresses: Vec<String>,
    /// What the host names stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameInfo>,
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

impl NameInfo {
    /// Of a name as far as its gateway knows it.
    #[must_use]
    pub fn new(host: &HostName) -> Self {
        Self {
            name: host.name.clone(),
            addresses: host.addresses.iter().map(address_text).collect(),
            failing_since: None,
            failure: None,
        }
    }
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
            names: gateway.names.hosts().iter().map(NameInfo::new).collect(),
            ports: gateway.ports.clone(),
            username: gateway.username.clone(),
            realm: gateway.realm.clone(),
            digest: gateway.digest.clone(),
            priority: gateway.priority,
        }
    }
}

/// A gateway, and the last refusals of credentials with its username.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// The gateway itself.
    #[serde(flatten)]
    pub gateway: GatewayInfo,
    /// The oldest first.
    pub refusals: Vec<EventRecord>,
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
    /// ACKs to answers of the agent, which end in the kernel.
    pub absorb: Counted,
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
    /// `native` or `generic`: how our program is attached in fact; `none` where it is not.
    pub xdp_mode: String,
    /// `up`, `down` (nothing at the other end), `off` or `missing`.
    pub link: String,
}

/// Packets per second lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Over how many seconds.
    pub seconds: u64,
    /// To the softswitch.
    pub pass: u64,
    /// Nowhere.
    pub drop: u64,
    /// To the agent.
    pub punt: u64,
}

/// How often something happened in the last minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentCount {
    /// Label of a reason or of the agent's outcome.
    pub reason: String,
    /// Packets.
    pub count: u64,
}

/// The database of gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its file.
    pub path: PathBuf,
    /// `ok`, `busy` with a change, or what is wrong.
    pub health: String,
}

/// A map of the kernel program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapStatus {
    /// Its name, as in the metrics.
    pub map: String,
    /// Entries that it has; `None` where it has as many as there is room for, always.
    pub entries: Option<u64>,
    /// Entries that it has room for now.
    pub room: u32,
    /// Entries that it can get room for.
    pub most: u32,
    /// Memory that the kernel has for it.
    pub bytes: u64,
}

/// How full the prefilter is: shares, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrefilterStatus {
    /// Its bits that are set.
    pub bits: f64,
    /// Strangers that cost a look-up of their address.
    pub address: f64,
    /// Strangers that cost a search of the prefixes.
    pub prefix: f64,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the agent.
    pub version: String,
    /// Layout of the maps.
    pub layout: u32,
    /// Process id.
    pub pid: u32,
    /// Seconds since the agent began to enforce.
    pub uptime: u64,
    /// Whether what is refused is kept from the softswitch, on every interface.
    pub enforcing: bool,
    /// Why it is not.
    pub obstacles: Vec<String>,
    /// What else an operator should look into.
    pub warnings: Vec<String>,
    /// Each protected interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// Protected ports.
    pub ports: Vec<u16>,
    /// Ports of the agent, which the host's firewall must let in.
    pub agent_ports: Vec<u16>,
    /// How the settings say that the program is attached.
    pub xdp_mode: XdpMode,
    /// Directory of the store.
    pub state_dir: PathBuf,
    /// Directory of the pins.
    pub bpffs: PathBuf,
    /// `deny`, `challenge` or `allow`: the one in force.
    pub default_policy: String,
    /// Whether everything passes.
    pub monitor: bool,
    /// Whether calls that need the agent pass while it is down.
    pub fail_open: bool,
    /// Who challenges plain requests now: `kernel` or `agent`.
    pub challenger: String,
    /// How many gateways there are.
    pub gateways: usize,
    /// How many of each mode; every mode is there.
    pub gateways_by_mode: BTreeMap<String, usize>,
    /// Seconds since gateways were last changed; `None`: not since the start.
    pub last_change: Option<u64>,
    /// Live flows.
    pub flows: u64,
    /// Bans in force, by cause.
    pub bans: BTreeMap<String, u64>,
    /// Packets per second; `None` in the first seconds.
    pub rates: Option<Rates>,
    /// The most frequent refusals of the kernel program in the last minute.
    pub refused: Vec<RecentCount>,
    /// The most frequent refusals of the agent in the last minute; challenges are none.
    pub refused_by_agent: Vec<RecentCount>,
    /// The database of gateways.
    pub store: StoreStatus,
    /// Realm of challenges.
    pub realm: String,
    /// How many host names gateways have.
    #[serde(default)]
    pub host_names: usize,
    /// Those that are not resolved any more; their last addresses stay.
    #[serde(default)]
    pub host_names_failing: Vec<NameInfo>,
    /// What became of the lines of each log.
    #[serde(default)]
    pub logs: Vec<LogStatus>,
    /// The maps of the kernel program.
    #[serde(default)]
    pub maps: Vec<MapStatus>,
    /// What spares the kernel program look-ups of strangers.
    #[serde(default)]
    pub prefilter: PrefilterStatus,
}

/// A log, and what became of its lines since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// `records` or `audit`.
    pub log: String,
    /// `file`, `journald`, `syslog` or `off`.
    pub target: String,
    /// Directory of the files, where it is files.
    pub directory: Option<PathBuf>,
    /// Lines written.
    pub written: u64,
    /// Lines that could not be written, and refusals that came faster than they could be taken note of.
    pub lost: u64,
    /// Where and why the last line was lost; `None` where it was written.
    pub failing: Option<String>,
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
    /// `pass`, `drop` or `punt` of the kernel program, `refuse` of the agent.
    pub verdict: String,
    /// Label of the reason, or of the agent's outcome.
    pub reason: String,
    /// The gateway that it counts for, or that the username belongs to.
    pub gateway: Option<String>,
    /// The verdict was computed, the packet passed.
    pub monitored: bool,
    /// Bytes of the frame.
    pub frame_len: u32,
    /// What the client sent and what was expected, where the agent refused credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// First line of the message, as far as it was captured; control characters replaced.
    pub head: String,
}
