//! `sipauth doctor`: what of this machine stands in the way, before the first run and beside a running agent.
//!
//! Each check answers with findings: ok, problem or unknown, and a remedy. A problem is what refuses, loses or lets through what it
//! should not, or will; what cannot be seen is unknown, never ok. Nothing is changed here.

mod firewall;
mod host;
mod interface;
mod kernel;
mod network;
mod sockets;

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Settings, XdpMode},
    control::InterfaceStatus,
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be found out, or depends on what cannot be seen from here.
    Unknown,
    /// It stands in the way.
    Problem,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Problem => "problem",
        })
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `kernel`, `firewall` and so on.
    pub check: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub text: String,
    /// What to do about it; always there with a problem.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(check: &str, text: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            state: State::Ok,
            text: text.into(),
            remedy: None,
        }
    }

    fn unknown(check: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            state: State::Unknown,
            text: text.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn problem(check: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            state: State::Problem,
            text: text.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// What is to be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Interfaces that SIP arrives on.
    pub interfaces: Vec<String>,
    /// Protected ports.
    pub ports: Vec<u16>,
    /// Ports of the agent.
    pub punt: Vec<u16>,
    /// How the program is, or will be, attached.
    pub xdp_mode: XdpMode,
    /// Directory of the store.
    pub state_dir: PathBuf,
    /// Directory of the pins.
    pub bpffs: PathBuf,
    /// The agent, if one runs.
    pub agent: Option<Running>,
}

/// A running agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process, as seen from here; `None` where it cannot be seen.
    pub pid: Option<i32>,
    /// The addresses of its gateways.
    pub addresses: Vec<IpNet>,
    /// How it sees its interfaces.
    pub interfaces: Vec<InterfaceStatus>,
}

impl Site {
    /// Of an agent that is to run with these settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            interfaces: settings.interfaces.clone(),
            ports: settings.ports.clone(),
            punt: settings.punt_ports().flat_map(|(_, punt)| punt).collect(),
            xdp_mode: settings.xdp_mode,
            state_dir: settings.state_dir.clone(),
            bpffs: settings.bpffs.clone(),
            agent: None,
        }
    }

    /// The agent's process, where it can be seen.
    fn pid(&self) -> Option<i32> {
        self.agent.as_ref().and_then(|agent| agent.pid)
    }

    /// A path of the agent, as it is seen from here: it may live in a container.
    fn path(&self, path: &Path) -> PathBuf {
        match self.pid() {
            Some(pid) => Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }
}

/// All checks, in the order in which an operator would go through them. Enters the agent's network namespace, where that is
/// another one: so it is for a process that does nothing else.
#[must_use]
pub fn examine(site: &Site) -> Vec<Finding> {
    let mut findings = kernel::check(site);
    if let Some(finding) = network::enter(site) {
        findings.push(finding);
    }
    for name in &site.interfaces {
        findings.extend(interface::check(name, site));
    }
    findings.extend(sockets::check(site));
    findings.extend(firewall::check(site));
    findings.extend(network::check(site));
    findings.extend(host::check(site));
    findings
}

/// A file of /proc or /sys without the white space around it.
fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    read(path)?.parse().ok()
}

/// Ports as ranges: `61060-61063, 62000`.
fn ranges(ports: &[u16]) -> Vec<(u16, u16)> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in sorted {
        match ranges.last_mut() {
            Some((_, last)) if port.checked_sub(1) == Some(*last) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges
}

/// The same as text.
fn ranges_text(ports: &[u16]) -> String {
    let text = |(first, last): (u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    ranges(ports).into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// An address of a network, to look for the way there.
fn one_of(net: &IpNet) -> IpAddr {
    net.hosts().next().unwrap_or_else(|| net.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_are_a_range() {
        assert_eq!(ranges_text(&[61_063, 61_060, 61_061, 61_062, 5080]), "5080, 61060-61063");
        assert_eq!(ranges_text(&[]), "");
        assert_eq!(ranges_text(&[u16::MAX, 0]), "0, 65535");
    }
}
