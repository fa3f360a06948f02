//! Settings of the agent: flags over a TOML file over defaults, turned by one function into a validated type.

mod digest;
mod duration;
mod file;
mod origin;
mod reload;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
pub use sipauth_common::config::DefaultPolicy;
use sipauth_common::config::{LANES, Lane};

use crate::{auth::DigestRules, records::Target};

pub use self::{
    digest::{DigestError, RawDigest},
    duration::parse_duration,
    file::{RawSettings, load},
    origin::{Origin, Read},
    reload::Reloaded,
};

/// Where the agent listens for the command line.
pub const DEFAULT_SOCKET: &str = "/run/sipauth/sipauth.sock";
/// Where maps and links are pinned.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/sipauth";
/// Where the store is.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/sipauth";
/// Where the audit and the records are.
pub const DEFAULT_LOG_DIR: &str = "/var/log/sipauth";
/// Where `run` and `check` look for settings unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/sipauth/sipauth.toml";
/// The file with every key, its meaning and default.
pub const DEFAULT_TEXT: &str = include_str!("config/default.toml");
/// First punt port.
pub const DEFAULT_PUNT_PORT: u16 = 61_060;
/// Most protected ports.
pub const MAX_PORTS: usize = 64;

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack; works on every interface, and is slower.
    Generic,
}

impl XdpMode {
    /// Name on the command line and in output.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Who challenges requests without credentials, and checks the passwords of sources that called lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Challenger {
    /// The kernel program, where the interfaces can send what it makes: not on veth pairs.
    Auto,
    /// The kernel program.
    Kernel,
    /// The agent.
    Agent,
}

/// The default policy as operators write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PolicyChoice {
    /// Refuse sources that no gateway has; challenge them where a password gateway may call from anywhere.
    Deny,
    /// Challenge them.
    Challenge,
    /// Admit them.
    Allow,
}

/// Name of a default policy in output.
#[must_use]
pub const fn policy_label(policy: DefaultPolicy) -> &'static str {
    match policy {
        DefaultPolicy::Deny => "deny",
        DefaultPolicy::Challenge => "challenge",
        DefaultPolicy::Allow => "allow",
    }
}

/// Validated settings of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Interfaces to protect, at least one, without repetitions.
    pub interfaces: Vec<String>,
    /// Directory of the store.
    pub state_dir: PathBuf,
    /// Directory of the audit and the records.
    pub log_dir: PathBuf,
    /// Where refused calls are recorded.
    pub records: Target,
    /// How many files of records are kept.
    pub records_files: usize,
    /// Directory for pins; the layout version is a directory below it.
    pub bpffs: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Group that may use the control socket besides root.
    pub socket_group: Option<String>,
    /// Protected ports, sorted, without repetitions.
    pub ports: Vec<u16>,
    /// First of the punt ports.
    pub punt_port: u16,
    /// How the program is attached.
    pub xdp_mode: XdpMode,
    /// What the operator chose; see [`Settings::policy_in_force`].
    pub default_policy: PolicyChoice,
    /// Count every verdict, pass everything.
    pub monitor: bool,
    /// Admit what needs the agent while it is down.
    pub fail_open: bool,
    /// Answer 403 instead of dropping.
    pub reply_unauthorized: bool,
    /// Answer refused TCP connections by a reset.
    pub tcp_reset: bool,
    /// Who challenges plain requests.
    pub challenger: Challenger,
    /// Realm of challenges and of new gateways.
    pub realm: String,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// Where to serve the web console.
    pub console: Option<SocketAddr>,
    /// File with its token; without it the agent makes one in `state_dir`.
    pub console_token_file: Option<PathBuf>,
    /// How long a learned peer is kept.
    pub peer_ttl: Duration,
    /// How long an idle flow is kept.
    pub flow_idle: Duration,
    /// How sources are challenged and what is accepted, where a gateway does not say otherwise.
    pub digest: Arc<DigestRules>,
    /// Authenticated flows that the kernel program remembers; where more gateways have a password, as many as these.
    pub max_flows: u32,
    /// Peers that it remembers.
    pub max_peers: u32,
    /// Bans; those by hand get room besides.
    pub max_bans: u32,
    /// Failures until a source is banned; 0 for never.
    pub ban_limit: u32,
    /// How long the first ban lasts.
    pub ban_time: Duration,
    /// Punted packets per second from one source and CPU, by lane.
    pub source_rate: [u32; LANES],
    /// Punted packets per second and CPU, by lane.
    pub lane_rates: [u32; LANES],
}

impl Settings {
    /// The default policy that the kernel program gets. A password gateway that may call from anywhere could never call
    /// where unknown sources are refused, so `deny` becomes `challenge` while there is one (`anywhere`).
    #[must_use]
    pub const fn policy_in_force(&self, anywhere: bool) -> DefaultPolicy {
        match self.default_policy {
            PolicyChoice::Deny if anywhere => DefaultPolicy::Challenge,
            PolicyChoice::Deny => DefaultPolicy::Deny,
            PolicyChoice::Challenge => DefaultPolicy::Challenge,
            PolicyChoice::Allow => DefaultPolicy::Allow,
        }
    }

    /// Each protected port with its punt port in each lane: consecutive ports, in the order of [`Lane::ALL`].
    pub fn punt_ports(&self) -> impl Iterator<Item = (u16, [u16; LANES])> + '_ {
        self.ports.iter().enumerate().map(|(index, port)| {
            let punt = Lane::ALL.map(|lane| u16::try_from(usize::from(self.punt_port) + index * LANES + lane as usize).unwrap_or(0));
            (*port, punt)
        })
    }
}

/// Why settings are not acceptable: names the key and the remedy in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check --config", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{}:{line}: {detail}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Line number.
        line: usize,
        /// What the parser said.
        detail: String,
    },
    /// A rule is broken by what a line of the file says.
    #[error("{}:{line}: {error}", path.display())]
    Value {
        /// Which.
        path: PathBuf,
        /// Line number.
        line: usize,
        /// Which rule.
        error: Box<ConfigError>,
    },
    /// No interface.
    #[error("interface: none given; name the one that SIP arrives on, by --interface eth0 or in the file: interface = [\"eth0\"]")]
    NoInterface,
    /// Not an interface name.
    #[error("interface: {name:?} cannot be the name of an interface; `ip link` lists them")]
    Interface {
        /// What was given.
        name: String,
    },
    /// Port 0.
    #[error("port: 0 is not a port; give the port that the softswitch listens on, such as 5060")]
    PortZero,
    /// SSH.
    #[error("port: 22 is SSH, and protecting it would lock you out; give the softswitch's SIP port")]
    PortSsh,
    /// Not a size that a map can have.
    #[error("{key}: {given} is not between {min} and {max}")]
    MapSize {
        /// The key.
        key: &'static str,
        /// What was given.
        given: u32,
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// Too many.
    #[error("port: {count} protected ports, at most {MAX_PORTS} are possible; leave some out")]
    TooManyPorts {
        /// How many were given.
        count: usize,
    },
    /// The punt ports do not fit.
    #[error(
        "punt-port: {base} is no room for {needed} consecutive ports between 1024 and 65535; choose a lower one, such as {DEFAULT_PUNT_PORT}"
    )]
    PuntRange {
        /// What was given.
        base: u16,
        /// How many are needed.
        needed: usize,
    },
    /// A port cannot be both.
    #[error("punt-port: {base} and the {needed} ports from there include the protected port {port}; choose another")]
    PuntOverlap {
        /// What was given.
        base: u16,
        /// How many are needed.
        needed: usize,
        /// The port that is both.
        port: u16,
    },
    /// Not a realm.
    #[error("realm: it must be 1 to 256 printable ASCII characters without quotes and backslashes; choose another")]
    Realm,
    /// Not a duration, or out of range.
    #[error("{key}: {value:?} is not a time between {min} and {max}; write it like 300s, 5m or 12h")]
    Duration {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: String,
        /// Shortest.
        min: &'static str,
        /// Longest.
        max: &'static str,
    },
    /// A setting of the digest.
    #[error("digest.{0}")]
    Digest(#[from] DigestError),
    /// A rate of 0 would refuse every call that needs the agent.
    #[error("{key}: the rate of lane {lane} is 0, which would refuse all of it; give packets per second, from 1 to 10000000")]
    Rate {
        /// Which key.
        key: &'static str,
        /// Which lane.
        lane: &'static str,
    },
    /// No number of files.
    #[error("records-files: {given} files cannot be kept; give a number from 1 to 10000; each file has a day or 32 MiB at most")]
    RecordsFiles {
        /// What was given.
        given: usize,
    },
    /// Not an absolute path.
    #[error("{key}: {} is not an absolute path; write it from / on", path.display())]
    RelativePath {
        /// Which key.
        key: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// A Unix socket's path has 107 bytes at most.
    #[error("socket: {} is longer than the 107 bytes that a Unix socket can have; choose a shorter path", path.display())]
    SocketPath {
        /// What was given.
        path: PathBuf,
    },
}

impl ConfigError {
    /// The key of a rule that is broken, with its table: what its text begins with.
    fn key(&self) -> String {
        let text = self.to_string();
        text.split(':').next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests;
