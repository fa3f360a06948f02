//! Whose dialogue it is.

use std::net::IpAddr;

use ipnet::IpNet;
use sipauth_common::{
    address::Address,
    decide::{Lookup as _, TCP, UDP},
    flow::FlowKey,
    policy::modes,
};

use super::Seen;
use crate::{
    agent::{directory::Accounts, state::Agent},
    auth::credentials::{Credentials, unescape},
    compile::Snapshot,
    control::{EventRecord, Transport},
    gateway::Mode,
    sip::Message,
};

/// What is traced.
#[derive(Debug)]
pub(super) enum Subject {
    /// An address.
    Address(IpAddr),
    /// A gateway, as it was when the trace began.
    Gateway {
        id: u32,
        name: String,
        mode: Mode,
        addresses: Vec<IpNet>,
    },
}

/// Whether a message belongs to the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    No,
    /// Of a stranger without credentials: it is, if the next message of the call has the gateway's.
    Perhaps,
    Yes,
}

impl Subject {
    /// By the name of a gateway, or an address.
    pub(super) fn find(text: &str, snapshot: &Snapshot) -> Result<Self, String> {
        if let Some((id, gateway)) = snapshot.by_name(text) {
            return Ok(Self::Gateway {
                id,
                name: gateway.name.clone(),
                mode: gateway.mode,
                addresses: gateway.addresses.clone(),
            });
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Address(address.to_canonical())),
            Err(_) => Err(format!(
                "{text} is neither a gateway nor an address; `sipauth gateway list` names the gateways"
            )),
        }
    }

    /// What is traced, and what of it is not seen.
    pub(super) fn notes(&self, agent: &Agent) -> Vec<String> {
        let (first, modes) = match self {
            Self::Address(address) => {
                let accounts = agent.accounts();
                let policy = accounts.snapshot.policy(*address);
                let whose = policy.and_then(|policy| accounts.snapshot.gateway(policy.gateway)).map_or_else(
                    || "no gateway's".to_owned(),
                    |gateway| format!("of gateway {}, mode {}", gateway.name, gateway.mode),
                );
                (format!("tracing {address} ({whose})"), policy.map_or(0, |policy| policy.modes))
            }
            Self::Gateway { name, mode, addresses, .. } => {
                let from = match addresses.as_slice() {
                    [] => "anywhere".to_owned(),
                    [one] => crate::gateway::address_text(one),
                    [one, rest @ ..] => format!("{} and {} more", crate::gateway::address_text(one), rest.len()),
                };
                (format!("tracing gateway {name} (mode {mode}, {from})"), mode.bit())
            }
        };
        let mut notes = vec![first];
        if modes & (modes::IP | modes::IP_PORT) != 0 {
            notes.push(
                "in this mode messages pass in the kernel program and do not come by the agent: only refusals are seen here; tcpdump sees all".to_owned(),
            );
        } else {
            notes.push("of a call only what the agent has to look into is seen here: what passes in the kernel program is not".to_owned());
        }
        notes
    }

    pub(super) fn interest(&self, seen: &Seen<'_>, agent: &Agent, accounts: &Accounts) -> Interest {
        let from = seen.arrival.source.ip().to_canonical();
        match self {
            Self::Address(address) if *address == from => Interest::Yes,
            Self::Address(_) => Interest::No,
            Self::Gateway { addresses, .. } if addresses.iter().any(|net| net.contains(&from)) => Interest::Yes,
            Self::Gateway { id, mode, addresses, .. } => match claimed(seen.datagram, accounts) {
                Claim::Gateway(claimed) if claimed == *id => Interest::Yes,
                Claim::None if flow_of(seen, agent) == Some(*id) => Interest::Yes,
                Claim::None if *mode == Mode::Password && addresses.is_empty() && accounts.snapshot.policy(from).is_none() => {
                    Interest::Perhaps
                }
                _ => Interest::No,
            },
        }
    }

    /// Whether a refusal of the kernel program is of the subject.
    pub(super) fn refused(&self, refusal: &EventRecord) -> bool {
        let from = refusal.source.ip().to_canonical();
        match self {
            Self::Address(address) => *address == from,
            Self::Gateway { name, addresses, .. } => {
                refusal.gateway.as_deref() == Some(name) || addresses.iter().any(|net| net.contains(&from))
            }
        }
    }
}

/// Whose credentials a message has.
enum Claim {
    /// It has none.
    None,
    Gateway(u32),
    Nobody,
}

fn claimed(datagram: &[u8], accounts: &Accounts) -> Claim {
    let Ok((message, _)) = Message::read(datagram) else {
        return Claim::Nobody;
    };
    let mut claim = Claim::None;
    for credentials in message.authorizations().filter_map(Credentials::parse) {
        let Some(username) = credentials.username.map(unescape) else {
            continue;
        };
        let plain = memchr::memrchr(b'@', &username).map(|at| &username[..at]);
        let found = accounts.snapshot.account(&username).or_else(|| accounts.snapshot.account(plain?));
        match found {
            Some((id, _)) => return Claim::Gateway(id),
            None => claim = Claim::Nobody,
        }
    }
    claim
}

/// The gateway that authenticated from where the message came.
fn flow_of(seen: &Seen<'_>, agent: &Agent) -> Option<u32> {
    let key = FlowKey {
        address: Address::from(seen.arrival.source.ip().to_canonical()),
        port: seen.arrival.source.port(),
        protocol: match seen.transport {
            Transport::Udp => UDP,
            Transport::Tcp => TCP,
        },
        reserved: 0,
    };
    agent.maps().flow(&key).map(|flow| flow.gateway)
}
