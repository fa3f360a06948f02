//! The raw form, from flags and file, and its validation.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sipauth_common::{
    abi,
    config::{LANES, Lane},
};

use super::{
    Challenger, ConfigError, DEFAULT_BPFFS, DEFAULT_LOG_DIR, DEFAULT_PUNT_PORT, DEFAULT_SOCKET, DEFAULT_STATE_DIR, MAX_PORTS, PolicyChoice,
    RawDigest, Settings, XdpMode, parse_duration,
};
use crate::{auth::DigestRules, records::Target};

/// Rates by lane: packets per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRates {
    /// Sources that authenticated lately.
    pub trusted: Option<u32>,
    /// Addresses of gateways that have not yet.
    pub known: Option<u32>,
    /// Strangers that have not yet.
    pub untrusted: Option<u32>,
    /// Sources that are refused with an answer.
    pub denied: Option<u32>,
}

/// Settings as they were written; what is missing gets a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[allow(missing_docs, reason = "the fields of Settings, where they are documented")]
pub struct RawSettings {
    pub interface: Option<Vec<String>>,
    pub state_dir: Option<PathBuf>,
    pub log_dir: Option<PathBuf>,
    pub records: Option<Target>,
    pub records_files: Option<usize>,
    pub bpffs: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub socket_group: Option<String>,
    pub port: Option<Vec<u16>>,
    pub punt_port: Option<u16>,
    pub xdp_mode: Option<XdpMode>,
    pub default_policy: Option<PolicyChoice>,
    pub monitor: Option<bool>,
    pub fail_open: Option<bool>,
    pub reply_unauthorized: Option<bool>,
    pub tcp_reset: Option<bool>,
    pub challenger: Option<Challenger>,
    pub realm: Option<String>,
    pub metrics: Option<SocketAddr>,
    pub console: Option<SocketAddr>,
    pub console_token_file: Option<PathBuf>,
    pub peer_ttl: Option<String>,
    pub flow_idle: Option<String>,
    pub max_flows: Option<u32>,
    pub max_peers: Option<u32>,
    pub max_bans: Option<u32>,
    pub digest: RawDigest,
    pub ban_limit: Option<u32>,
    pub ban_time: Option<String>,
    pub source_rate: Option<RawRates>,
    pub lane_rates: Option<RawRates>,
}

/// Packets per second from one source and CPU. A gateway sends two INVITEs a call, the first of which is challenged.
const SOURCE_RATE: [u32; LANES] = [5_000, 1_000, 200, 5];
/// Packets per second and CPU: what one core of the agent can answer, with the untrusted kept well below.
const LANE_RATES: [u32; LANES] = [50_000, 20_000, 10_000, 500];

/// Flows, peers and bans that the kernel program remembers.
const MAX_FLOWS: u32 = 32_768;
const MAX_PEERS: u32 = 16_384;
const MAX_BANS: u32 = 16_384;

/// Reads the file.
///
/// # Errors
/// It cannot be read, is not TOML, or has a key that there is not.
pub fn load(path: &Path) -> Result<RawSettings, ConfigError> {
    parse(path, &read(path)?)
}

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn parse(path: &Path, text: &str) -> Result<RawSettings, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let mut detail = error.message().replace('\n', " ");
        if let Some(key) = unknown(&error).filter(|key| is_general(key)) {
            // As when it was added at the end of the file.
            detail = format!("`{key}` stands in a table here; it belongs above the first one (`[digest]` and so on)");
        }
        ConfigError::Syntax {
            path: path.to_owned(),
            line,
            detail,
        }
    })
}

/// The key that serde does not know, if that is the error.
fn unknown(error: &toml::de::Error) -> Option<&str> {
    error.message().strip_prefix("unknown field `")?.split('`').next()
}

/// Whether a key is one of the file's that are in no table.
fn is_general(key: &str) -> bool {
    toml::from_str::<RawSettings>(&format!("{key} = []")).map_or_else(|error| unknown(&error).is_none(), |_| true)
}

/// The line of a key, such as `realm` or `digest.qop`.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut start = None;
    for part in key.split('.') {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
        start = Some(name.span().start);
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    Some(text.get(..start?)?.matches('\n').count() + 1)
}

impl RawSettings {
    /// These settings, with those of `below` where there is none here: flags over the file.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            interface: self.interface.or(below.interface),
            state_dir: self.state_dir.or(below.state_dir),
            log_dir: self.log_dir.or(below.log_dir),
            records: self.records.or(below.records),
            records_files: self.records_files.or(below.records_files),
            bpffs: self.bpffs.or(below.bpffs),
            socket: self.socket.or(below.socket),
            socket_group: self.socket_group.or(below.socket_group),
            port: self.port.or(below.port),
            punt_port: self.punt_port.or(below.punt_port),
            xdp_mode: self.xdp_mode.or(below.xdp_mode),
            default_policy: self.default_policy.or(below.default_policy),
            monitor: self.monitor.or(below.monitor),
            fail_open: self.fail_open.or(below.fail_open),
            reply_unauthorized: self.reply_unauthorized.or(below.reply_unauthorized),
            tcp_reset: self.tcp_reset.or(below.tcp_reset),
            challenger: self.challenger.or(below.challenger),
            realm: self.realm.or(below.realm),
            metrics: self.metrics.or(below.metrics),
            console: self.console.or(below.console),
            console_token_file: self.console_token_file.or(below.console_token_file),
            peer_ttl: self.peer_ttl.or(below.peer_ttl),
            flow_idle: self.flow_idle.or(below.flow_idle),
            max_flows: self.max_flows.or(below.max_flows),
            max_peers: self.max_peers.or(below.max_peers),
            max_bans: self.max_bans.or(below.max_bans),
            digest: self.digest.over(below.digest),
            ban_limit: self.ban_limit.or(below.ban_limit),
            ban_time: self.ban_time.or(below.ban_time),
            source_rate: self.source_rate.or(below.source_rate),
            lane_rates: self.lane_rates.or(below.lane_rates),
        }
    }

    /// Checks everything that can be checked without looking at the machine.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(self) -> Result<Settings, ConfigError> {
        let interfaces = check_interfaces(self.interface.unwrap_or_default())?;
        let ports = check_ports(self.port.unwrap_or_else(|| vec![5060]))?;
        let punt_port = self.punt_port.unwrap_or(DEFAULT_PUNT_PORT);
        check_punt_ports(punt_port, &ports)?;
        let realm = self.realm.unwrap_or_else(|| "sipauth".to_owned());
        if !(1..=256).contains(&realm.len())
            || !realm
                .bytes()
                .all(|byte| (0x20..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\'))
        {
            return Err(ConfigError::Realm);
        }
        let socket = absolute("socket", self.socket, DEFAULT_SOCKET)?;
        if socket.as_os_str().len() > 107 {
            return Err(ConfigError::SocketPath { path: socket });
        }
        Ok(Settings {
            interfaces,
            state_dir: absolute("state-dir", self.state_dir, DEFAULT_STATE_DIR)?,
            log_dir: absolute("log-dir", self.log_dir, DEFAULT_LOG_DIR)?,
            records: self.records.unwrap_or(Target::File),
            records_files: match self.records_files.unwrap_or(30) {
                given @ 1..=10_000 => given,
                given => return Err(ConfigError::RecordsFiles { given }),
            },
            bpffs: absolute("bpffs", self.bpffs, DEFAULT_BPFFS)?,
            socket,
            socket_group: self.socket_group,
            ports,
            punt_port,
            xdp_mode: self.xdp_mode.unwrap_or(XdpMode::Native),
            default_policy: self.default_policy.unwrap_or(PolicyChoice::Deny),
            monitor: self.monitor.unwrap_or(false),
            fail_open: self.fail_open.unwrap_or(false),
            reply_unauthorized: self.reply_unauthorized.unwrap_or(false),
            tcp_reset: self.tcp_reset.unwrap_or(false),
            challenger: self.challenger.unwrap_or(Challenger::Auto),
            realm,
            metrics: self.metrics,
            console: self.console,
            console_token_file: self
                .console_token_file
                .map(|path| absolute("console-token-file", Some(path), ""))
                .transpose()?,
            peer_ttl: duration("peer-ttl", self.peer_ttl, "12h", ("1s", "30d"))?,
            flow_idle: duration("flow-idle", self.flow_idle, "12h", ("1s", "30d"))?,
            max_flows: map_size("max-flows", self.max_flows.unwrap_or(MAX_FLOWS))?,
            max_peers: map_size("max-peers", self.max_peers.unwrap_or(MAX_PEERS))?,
            max_bans: map_size("max-bans", self.max_bans.unwrap_or(MAX_BANS))?,
            digest: Arc::new(self.digest.rules(&DigestRules::default())?),
            ban_limit: self.ban_limit.unwrap_or(6),
            ban_time: duration("ban-time", self.ban_time, "180s", ("1s", "1d"))?,
            source_rate: rates("source-rate", self.source_rate, SOURCE_RATE)?,
            lane_rates: rates("lane-rates", self.lane_rates, LANE_RATES)?,
        })
    }
}

fn check_interfaces(given: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let mut interfaces: Vec<String> = Vec::new();
    for name in given {
        // The kernel's own rule (`dev_valid_name`).
        let valid = (1..=15).contains(&name.len())
            && name != "."
            && name != ".."
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if !valid {
            return Err(ConfigError::Interface { name });
        }
        if !interfaces.contains(&name) {
            interfaces.push(name);
        }
    }
    if interfaces.is_empty() {
        Err(ConfigError::NoInterface)
    } else {
        Ok(interfaces)
    }
}

fn check_ports(mut ports: Vec<u16>) -> Result<Vec<u16>, ConfigError> {
    ports.sort_unstable();
    ports.dedup();
    match ports.as_slice() {
        [] | [0, ..] => Err(ConfigError::PortZero),
        all if all.contains(&22) => Err(ConfigError::PortSsh),
        all if all.len() > MAX_PORTS => Err(ConfigError::TooManyPorts { count: all.len() }),
        _ => Ok(ports),
    }
}

fn check_punt_ports(base: u16, ports: &[u16]) -> Result<(), ConfigError> {
    let needed = ports.len() * LANES;
    let first = usize::from(base);
    if first < 1024 || first + needed > 65_536 {
        return Err(ConfigError::PuntRange { base, needed });
    }
    match ports.iter().find(|port| (first..first + needed).contains(&usize::from(**port))) {
        Some(port) => Err(ConfigError::PuntOverlap { base, needed, port: *port }),
        None => Ok(()),
    }
}

fn absolute(key: &'static str, given: Option<PathBuf>, default: &str) -> Result<PathBuf, ConfigError> {
    let path = given.unwrap_or_else(|| PathBuf::from(default));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(ConfigError::RelativePath { key, path })
    }
}

fn duration(
    key: &'static str,
    given: Option<String>,
    default: &'static str,
    (min, max): (&'static str, &'static str),
) -> Result<Duration, ConfigError> {
    let value = given.unwrap_or_else(|| default.to_owned());
    let range = parse_duration(min)..=parse_duration(max);
    match parse_duration(&value) {
        Some(time) if range.contains(&Some(time)) => Ok(time),
        _ => Err(ConfigError::Duration { key, value, min, max }),
    }
}

const fn map_size(key: &'static str, given: u32) -> Result<u32, ConfigError> {
    let (min, max) = (abi::LEAST_ENTRIES, abi::MAX_ENTRIES);
    if min <= given && given <= max {
        Ok(given)
    } else {
        Err(ConfigError::MapSize { key, given, min, max })
    }
}

fn rates(key: &'static str, given: Option<RawRates>, default: [u32; LANES]) -> Result<[u32; LANES], ConfigError> {
    let given = given.unwrap_or_default();
    let mut rates = default;
    for (lane, value) in Lane::ALL
        .into_iter()
        .zip([given.trusted, given.known, given.untrusted, given.denied])
    {
        let Some(value) = value else { continue };
        match rates.get_mut(lane as usize) {
            Some(rate) if (1..=10_000_000).contains(&value) => *rate = value,
            _ => return Err(ConfigError::Rate { key, lane: lane.label() }),
        }
    }
    Ok(rates)
}
