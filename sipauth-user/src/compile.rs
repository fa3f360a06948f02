//! Gateways to map contents, the difference between two such, and what the digest side looks up.
//!
//! Everything here is pure; `datapath` applies the steps to the kernel's maps.

mod by_id;
mod diff;
mod directory;
mod overlap;
mod shards;

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use sipauth_common::{
    address::Address,
    policy::{FLAG_GENERAL, FLAG_MORE_PORTS, Policy, PortKey},
};

pub(crate) use self::shards::Shards;
pub use self::{
    diff::Step,
    directory::{Edit, MapChange, Snapshot},
    overlap::{interferes, weakened},
};
use crate::gateway::{Gateway, Mode};

/// What the maps of sources are to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `HOSTS_*`.
    pub hosts: HashMap<Address, Policy, RandomState>,
    /// `NETS_*`, by network and length of the prefix in bits of the 16-byte address. An IPv4 prefix has 96 or more.
    pub nets: HashMap<(Address, u8), Policy, RandomState>,
    /// `PORTS`.
    pub ports: HashMap<PortKey, u32, RandomState>,
    /// Whether a gateway in mode `password` may call from anywhere.
    pub anywhere: bool,
}

/// Where a policy stands: a network and its length in bits of the 16-byte address.
pub(crate) type Place = (Address, u8);

/// Prefix length of a single address.
pub(crate) const HOST: u8 = 128;

/// The place of a network.
pub(crate) fn place(net: &IpNet) -> Place {
    let first_bit = if net.addr().is_ipv4() { 96 } else { 0 };
    (Address::from(net.addr()), first_bit + net.prefix_len())
}

impl Tables {
    /// The union of all gateways at each place, as [`Policy`] describes it, where nobody is challenged by the general rules.
    #[must_use]
    pub fn compile(gateways: &[(u32, Gateway)]) -> Self {
        let mut places: HashMap<Place, Vec<(u32, &Gateway)>> = HashMap::new();
        let mut tables = Self::default();
        for (id, gateway) in gateways {
            tables.anywhere |= gateway.is_anywhere();
            for net in &gateway.addresses {
                places.entry(place(net)).or_default().push((*id, gateway));
            }
        }
        for (place, sharers) in places {
            tables.enter(place, &sharers, "");
        }
        tables
    }

    /// Enters the union of the gateways that share a place.
    fn enter(&mut self, place: Place, sharers: &[(u32, &Gateway)], realm: &str) {
        let (policy, ports) = union(place, sharers, realm);
        self.put(place, policy);
        self.ports.extend(ports);
    }

    fn put(&mut self, (network, prefix): Place, policy: Policy) {
        if prefix == HOST {
            self.hosts.insert(network, policy);
        } else {
            self.nets.insert((network, prefix), policy);
        }
    }

    /// As `Lookup::host`.
    #[must_use]
    pub fn host(&self, address: &Address) -> Option<Policy> {
        self.hosts.get(address).copied()
    }

    /// As `Lookup::net`: the longest prefix. An IPv6 prefix never contains an IPv4 address: the maps are separate.
    #[must_use]
    pub fn net(&self, address: &Address) -> Option<Policy> {
        let shortest = if address.v4().is_some() { 96 } else { 0 };
        (shortest..HOST)
            .rev()
            .find_map(|prefix| self.nets.get(&(address.network(prefix), prefix)).copied())
    }

    /// As `Lookup::port`.
    #[must_use]
    pub fn port(&self, key: &PortKey) -> Option<u32> {
        self.ports.get(key).copied()
    }

    /// The policy that decides about an address.
    #[must_use]
    pub fn policy(&self, address: &Address) -> Option<Policy> {
        self.host(address).or_else(|| self.net(address))
    }

    pub(crate) fn at(&self, (network, prefix): Place) -> Option<Policy> {
        if prefix == HOST {
            self.host(&network)
        } else {
            self.nets.get(&(network, prefix)).copied()
        }
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = (Place, Policy)> + '_ {
        let hosts = self.hosts.iter().map(|(network, policy)| ((*network, HOST), *policy));
        hosts.chain(self.nets.iter().map(|(place, policy)| (*place, *policy)))
    }
}

/// The policy of a place that these gateways share, and its further ports.
fn union((network, prefix): Place, sharers: &[(u32, &Gateway)], realm: &str) -> (Policy, Vec<(PortKey, u32)>) {
    let leader = [Mode::Ip, Mode::Password, Mode::IpPort, Mode::Peer]
        .into_iter()
        .find_map(|mode| first_of(sharers, mode));
    let mut policy = Policy {
        prefix,
        ..Policy::default()
    };
    policy.gateway = leader.map_or(0, |(id, _)| id);
    if leader.is_some_and(|(_, gateway)| gateway.digest.is_empty() && gateway.realm.as_deref() == Some(realm)) {
        policy.flags |= FLAG_GENERAL;
    }
    policy.modes = sharers.iter().fold(0, |union, (_, gateway)| union | gateway.mode.bit());
    let mut owners = port_owners(sharers).into_iter();
    if let Some((port, owner)) = owners.next() {
        policy.port = port;
        policy.port_gateway = owner;
    }
    let key = |port| PortKey {
        network,
        port,
        prefix,
        reserved: 0,
    };
    let ports: Vec<_> = owners.map(|(port, owner)| (key(port), owner)).collect();
    if !ports.is_empty() {
        policy.flags |= FLAG_MORE_PORTS;
    }
    (policy, ports)
}

/// The gateway of a mode with the highest priority; of equals, the one with the lowest id.
fn first_of<'a>(sharers: &[(u32, &'a Gateway)], mode: Mode) -> Option<(u32, &'a Gateway)> {
    sharers
        .iter()
        .filter(|(_, gateway)| gateway.mode == mode)
        .copied()
        .min_by_key(|(id, gateway)| (std::cmp::Reverse(gateway.priority), *id))
}

/// Ports that pass at a place, and whose they are.
///
/// Where a gateway in mode `ip` is present every port passes anyway, so a port only decides who is counted: a gateway in
/// mode `ip-port` is, when its priority is higher.
fn port_owners(sharers: &[(u32, &Gateway)]) -> BTreeMap<u16, u32> {
    let bar = first_of(sharers, Mode::Ip).map(|(_, gateway)| gateway.priority);
    let mut candidates: Vec<_> = sharers
        .iter()
        .filter(|(_, gateway)| gateway.mode == Mode::IpPort && bar.is_none_or(|bar| gateway.priority > bar))
        .collect();
    candidates.sort_by_key(|(id, gateway)| (std::cmp::Reverse(gateway.priority), *id));
    let mut owners = BTreeMap::new();
    for (id, gateway) in candidates {
        for port in &gateway.ports {
            owners.entry(*port).or_insert(*id);
        }
    }
    owners
}

#[cfg(test)]
mod tests;
