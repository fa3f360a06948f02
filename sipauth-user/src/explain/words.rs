//! Questions and answers as an operator reads them.

use std::net::{IpAddr, SocketAddr};

use sipauth_common::{
    address::Address,
    config::{Config, DefaultPolicy, PortRole},
    decide::{Content, Decision, PacketView},
    flow::{Ban, Flow, FlowKey},
    policy::{FLAG_MORE_PORTS, Policy, PortKey, modes},
};

use super::Asked;
use crate::{compile::Snapshot, config::policy_label, control::ExplainStep, gateway::Gateway};

const SECOND: u64 = 1_000_000_000;

/// What is needed to tell a decision.
pub struct Story<'a> {
    /// The packet.
    pub packet: &'a PacketView,
    /// What it carries, in a word.
    pub message: &'a str,
    /// The names behind the ids.
    pub snapshot: &'a Snapshot,
}

/// What was told so far.
#[derive(Default)]
struct Told {
    steps: Vec<ExplainStep>,
    config: Option<Config>,
    /// The next question for the time belongs to the answer before it; any other is about the agent.
    timed: Option<Asked>,
}

impl Told {
    /// `decide` asks some things twice; once is enough to read.
    fn say(&mut self, asked: &str, text: String) {
        if self.steps.iter().all(|step| step.text != text) {
            self.steps.push(ExplainStep {
                asked: asked.to_owned(),
                text,
            });
        }
    }
}

impl Story<'_> {
    /// The steps of a decision, in order; the last is its verdict.
    #[must_use]
    pub fn steps(&self, asked: &[Asked], decision: &Decision) -> Vec<ExplainStep> {
        let mut told = Told::default();
        for one in asked {
            let timed = told.timed.take();
            match *one {
                Asked::Config(config) => self.config(&mut told, config),
                Asked::PortRole(port, role) => told.say("port", port_role(port, role)),
                // The prefixes are asked next, and one step says both.
                Asked::Host(_, None) => {}
                Asked::Host(address, Some(policy)) => self.policy(&mut told, address, &policy),
                Asked::Net(address, Some(policy)) => self.policy(&mut told, address, &policy),
                Asked::Net(address, None) => self.nobody(&mut told, address),
                Asked::Port(key, owner) => self.more_ports(&mut told, &key, owner),
                Asked::Flow(_, None) => told.say("flow", self.no_flow()),
                Asked::Peer(address, None) => told.say("peer", format!("the softswitch has not called {} lately", IpAddr::from(address))),
                Asked::Ban(address, None) => told.say("ban", format!("{} is not banned", IpAddr::from(address))),
                Asked::Ban(address, Some(ban)) if ban.port != 0 && ban.port != self.packet.source_port => {
                    told.say("ban", format!("of {} only port {} is banned", IpAddr::from(address), ban.port))
                }
                Asked::Flow(_, Some(_)) | Asked::Peer(_, Some(_)) | Asked::Ban(_, Some(_)) => told.timed = Some(*one),
                Asked::Now(now) => self.at(&mut told, timed, now),
            }
        }
        let verdict = decision.reason.verdict().label();
        told.say("verdict", format!("{} → {verdict} ({})", self.message, decision.reason.label()));
        told.steps
    }

    fn config(&self, told: &mut Told, config: Option<Config>) {
        if config.is_none_or(|config| config.layout == 0) {
            told.say("settings", "no agent has written settings yet".to_owned());
        }
        told.config = config;
    }

    /// An answer for which the time matters.
    fn at(&self, told: &mut Told, timed: Option<Asked>, now: u64) {
        match timed {
            Some(Asked::Flow(key, Some(flow))) => {
                let idle = told.config.map_or(0, |config| config.flow_idle_ns);
                told.say("flow", self.flow(&key, &flow, now, idle));
            }
            Some(Asked::Peer(address, Some(seen))) => {
                let kept = told.config.map_or(0, |config| config.peer_ttl_ns);
                told.say("peer", peer(address, seen, now, kept));
            }
            Some(Asked::Ban(address, Some(ban))) => told.say("ban", banned(address, &ban, now)),
            _ => {
                if let Some(config) = told.config {
                    told.say("agent", agent(&config, now));
                }
            }
        }
    }

    /// A gateway has the address: whose it is, and what a port of mode `ip-port` says.
    fn policy(&self, told: &mut Told, address: Address, policy: &Policy) {
        let sharers: Vec<String> = self
            .snapshot
            .at((address.network(policy.prefix), policy.prefix))
            .map(described)
            .collect();
        let whose = match sharers.as_slice() {
            [] => "a gateway that has just changed".to_owned(),
            [one] => format!("gateway {one}"),
            several => format!("gateways {}", several.join(" and ")),
        };
        let address = IpAddr::from(address);
        told.say(
            "address",
            match prefix_text(policy, address) {
                None => format!("source {address} matches {whose}"),
                Some(prefix) => format!("source {address} is in {prefix} of {whose}"),
            },
        );
        if !policy.has(modes::IP_PORT) {
            return;
        }
        let port = self.packet.source_port;
        if policy.port != 0 && port == policy.port {
            let owner = self.name(policy.port_gateway);
            told.say("source-port", format!("port {port} is a port of {owner}"));
        } else if policy.flags & FLAG_MORE_PORTS == 0 || port == 0 {
            told.say("source-port", no_port(port, &[policy.port]));
        }
    }

    fn more_ports(&self, told: &mut Told, key: &PortKey, owner: Option<u32>) {
        let text = match owner {
            Some(owner) => format!("port {} is a port of {}", key.port, self.name(owner)),
            None => {
                let sharers = self.snapshot.at((key.network, key.prefix));
                let ports: Vec<u16> = sharers.flat_map(|gateway| gateway.ports.iter().copied()).collect();
                no_port(key.port, &ports)
            }
        };
        told.say("source-port", text);
    }

    fn nobody(&self, told: &mut Told, address: Address) {
        let policy = told.config.map_or("", |config| default_policy(&config));
        told.say(
            "address",
            format!(
                "no gateway has the address {}; what strangers get is the default policy: {policy}",
                IpAddr::from(address)
            ),
        );
    }

    fn flow(&self, key: &FlowKey, flow: &Flow, now: u64, idle_ns: u64) -> String {
        let whose = match flow.gateway {
            0 => "is a connection that the softswitch opened".to_owned(),
            id => format!("authenticated as {}", self.name(id)),
        };
        let source = SocketAddr::new(key.address.into(), key.port);
        let ago = duration(now.saturating_sub(flow.seen));
        if flow.is_live(now, idle_ns) {
            let left = match flow.expires {
                u64::MAX => String::new(),
                expires => format!(", for another {}", duration(expires - now)),
            };
            format!("{source} {whose}, last seen {ago} ago{left}")
        } else {
            format!("{source} {whose}, but that has ended; last seen {ago} ago")
        }
    }

    fn no_flow(&self) -> String {
        let source = SocketAddr::new(self.packet.source.into(), self.packet.source_port);
        match self.packet.content {
            Content::Tcp { .. } => format!("{source} is no connection that the softswitch opened"),
            _ if self.packet.source_port == 0 => "no source port was given, so no authentication of it can be found".to_owned(),
            _ => format!("{source} has not authenticated lately"),
        }
    }

    fn name(&self, id: u32) -> String {
        self.snapshot
            .gateway(id)
            .map_or_else(|| format!("a gateway that is gone (id {id})"), |gateway| gateway.name.clone())
    }
}

fn described(gateway: &Gateway) -> String {
    let ports = match gateway.ports.as_slice() {
        [] => String::new(),
        [one] => format!(", port {one}"),
        several => format!(", ports {}", listed(several)),
    };
    format!("{} (mode {}{ports})", gateway.name, gateway.mode)
}

fn no_port(port: u16, ports: &[u16]) -> String {
    let ports: Vec<u16> = ports.iter().filter(|port| **port != 0).copied().collect();
    match ports.as_slice() {
        _ if port == 0 => "no source port was given, and this gateway is known by its port".to_owned(),
        [] => format!("port {port} is of no gateway in mode ip-port"),
        [one] => format!("port {port} is not {one}"),
        several => format!("port {port} is none of {}", listed(several)),
    }
}

/// The first of a list that may be long.
fn listed(ports: &[u16]) -> String {
    let first: Vec<String> = ports.iter().take(4).map(u16::to_string).collect();
    let more = if ports.len() > 4 {
        format!(" and {} more", ports.len() - 4)
    } else {
        String::new()
    };
    format!("{}{more}", first.join(", "))
}

fn port_role(port: u16, role: PortRole) -> String {
    if role.is_punt() {
        format!("it is for port {port}, which is the agent's own, for port {}", role.protected)
    } else if role.is_protected() {
        format!("it is for port {port}, which is protected")
    } else {
        format!("it is for port {port}, which is not protected")
    }
}

/// `None` for a single address.
fn prefix_text(policy: &Policy, address: IpAddr) -> Option<String> {
    let length = match address {
        IpAddr::V4(_) => policy.prefix.checked_sub(96)?,
        IpAddr::V6(_) => policy.prefix,
    };
    if policy.prefix == 128 {
        return None;
    }
    let network = IpAddr::from(Address::from(address).network(policy.prefix));
    Some(format!("{network}/{length}"))
}

fn default_policy(config: &Config) -> &'static str {
    const CHALLENGE: u32 = DefaultPolicy::Challenge as u32;
    const ALLOW: u32 = DefaultPolicy::Allow as u32;
    policy_label(match config.default_policy {
        CHALLENGE => DefaultPolicy::Challenge,
        ALLOW => DefaultPolicy::Allow,
        _ => DefaultPolicy::Deny,
    })
}

fn peer(address: Address, seen: u64, now: u64, kept: u64) -> String {
    let (address, ago) = (IpAddr::from(address), now.saturating_sub(seen));
    if ago < kept {
        format!("the softswitch called {address} {} ago", duration(ago))
    } else {
        format!(
            "the softswitch called {address} {} ago, which is remembered for {} only",
            duration(ago),
            duration(kept)
        )
    }
}

fn banned(address: Address, ban: &Ban, now: u64) -> String {
    let what = match ban.port {
        0 => IpAddr::from(address).to_string(),
        port => SocketAddr::new(address.into(), port).to_string(),
    };
    match ban.expires {
        u64::MAX => format!("{what} is banned until the ban is removed"),
        expires if now < expires => format!("{what} is banned for another {}", duration(expires - now)),
        _ => format!("{what} was banned; that is over"),
    }
}

fn agent(config: &Config, now: u64) -> String {
    if config.agent_alive(now) {
        "the agent is alive".to_owned()
    } else if config.heartbeat_ns == 0 {
        "the agent is down: it was stopped".to_owned()
    } else {
        let ago = duration(now.saturating_sub(config.heartbeat_ns));
        format!("the agent is down: its last sign of life was {ago} ago")
    }
}

/// A time in ns, in two units at most.
#[must_use]
pub fn duration(ns: u64) -> String {
    let seconds = ns / SECOND;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let (large, small) = match (days, hours, minutes) {
        (0, 0, 0) => return format!("{seconds} s"),
        (0, 0, minutes) => ((minutes, "min"), (seconds % 60, "s")),
        (0, hours, minutes) => ((hours, "h"), (minutes, "min")),
        (days, hours, _) => ((days, "d"), (hours, "h")),
    };
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        _ => format!("{} {} {} {}", large.0, large.1, small.0, small.1),
    }
}
