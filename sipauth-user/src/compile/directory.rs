//! What the digest side and the command line look up: an immutable snapshot of all gateways.
//!
//! A change makes a new snapshot that shares all but what it touches, or nearly so, with the old one ([`Shards`]), so that it costs little
//! among a million gateways, too.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use sipauth_common::{
    address::Address,
    policy::{FLAG_MORE_PORTS, Policy, PortKey},
    prefilter::blocks,
};
use smallvec::SmallVec;

use super::{HOST, Place, Shards, Step, Tables, by_id::ById, diff::Steps, place};
use crate::{datapath::Demand, gateway::Gateway};

/// A change of gateways, by id.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Those that go.
    pub remove: Vec<u32>,
    /// Those that come, or take the place of one with the same id.
    pub put: Vec<(u32, Arc<Gateway>)>,
}

/// What an [`Edit`] does to the maps.
#[derive(Clone, Debug)]
pub struct MapChange {
    /// The state before, as far as it is touched: for [`Step::inverse`].
    pub before: Tables,
    /// In their order.
    pub steps: Vec<Step>,
    /// What the maps must have room for while the steps are taken.
    pub demand: Demand,
}

/// All gateways at one moment, and what is compiled from them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    gateways: ById,
    names: Shards<String, u32>,
    usernames: Shards<Vec<u8>, u32>,
    /// Host names, and the gateways that have them.
    hosts: Shards<String, Vec<u32>>,
    places: Shards<Place, Shared>,
    /// How many places have a prefix of this length: a look-up tries no other.
    lengths: BTreeMap<u8, usize>,
    demand: Demand,
    anywhere: usize,
    /// The realm of the general challenge.
    realm: Arc<str>,
}

/// A place, and whose it is.
#[derive(Clone, Debug, Default)]
struct Shared {
    /// Ids; nearly always one.
    by: SmallVec<[u32; 2]>,
    policy: Option<Policy>,
    /// It has come, goes or has others, while a snapshot is made: `policy` is that of before.
    touched: bool,
}

impl Snapshot {
    /// Of these gateways, with their ids, where nobody is challenged by the general rules.
    #[must_use]
    pub fn new(gateways: Vec<(u32, Gateway)>) -> Self {
        Self::for_realm("", gateways)
    }

    /// Of these gateways, with their ids, where the general challenge is for `realm`.
    #[must_use]
    pub fn for_realm(realm: &str, gateways: Vec<(u32, Gateway)>) -> Self {
        let mut made = Self {
            realm: realm.into(),
            ..Self::default()
        };
        let mut touched = Vec::with_capacity(gateways.len());
        for (id, gateway) in gateways {
            made.enter(id, Arc::new(gateway), &mut touched);
        }
        made.compile(touched, &Self::default());
        made
    }

    /// The snapshot after a change, and what the change does to the maps.
    #[must_use]
    pub fn edited(&self, edit: Edit) -> (Self, MapChange) {
        let mut new = self.clone();
        let mut touched = Vec::with_capacity(edit.put.len());
        for id in edit.remove {
            new.leave(id, &mut touched);
        }
        for (id, gateway) in edit.put {
            new.leave(id, &mut touched);
            new.enter(id, gateway, &mut touched);
        }
        let (before, steps) = new.compile(touched, self);
        // What goes is removed last: until then the maps have both.
        let mut demand = self.demand;
        for step in &steps {
            match step {
                Step::PutHost(address, _) if before.host(address).is_none() => demand.hosts[family(address)] += 1,
                Step::PutPort(key, _) if before.port(key).is_none() => demand.ports += 1,
                _ => {}
            }
        }
        demand.gateways = demand.gateways.max(new.demand.gateways);
        demand.blocks = demand.blocks.max(new.demand.blocks);
        (new, MapChange { before, steps, demand })
    }

    fn enter(&mut self, id: u32, gateway: Arc<Gateway>, touched: &mut Vec<Place>) {
        for place in gateway.addresses.iter().map(place) {
            self.touch(place, touched).by.push(id);
        }
        self.names.insert(gateway.name.clone(), id);
        if let Some(username) = &gateway.username {
            self.usernames.insert(username.clone().into_bytes(), id);
        }
        for host in gateway.names.hosts() {
            self.hosts.get_mut_or_default(host.name.clone()).push(id);
        }
        self.anywhere += usize::from(gateway.is_anywhere());
        // Ids are given from the lowest on, so the highest that there ever was is near enough.
        self.demand.gateways = self.demand.gateways.max(id as usize + 1);
        self.gateways.insert(id, gateway);
    }

    /// Does nothing where there is no such gateway.
    fn leave(&mut self, id: u32, touched: &mut Vec<Place>) {
        let Some(gateway) = self.gateways.get(id).cloned() else {
            return;
        };
        for place in gateway.addresses.iter().map(place) {
            self.touch(place, touched).by.retain(|other| *other != id);
        }
        // Another gateway of the same change may have the name already.
        if self.names.get(&gateway.name) == Some(&id) {
            self.names.remove(&gateway.name);
        }
        if let Some(username) = gateway.username.as_ref().map(String::as_bytes)
            && self.usernames.get(username) == Some(&id)
        {
            self.usernames.remove(username);
        }
        for host in gateway.names.hosts() {
            let ids = self.hosts.get_mut_or_default(host.name.clone());
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.hosts.remove(&host.name);
            }
        }
        self.anywhere -= usize::from(gateway.is_anywhere());
        self.gateways.remove(id);
    }

    /// A place that gets or loses a gateway; each is noted once.
    fn touch(&mut self, place: Place, touched: &mut Vec<Place>) -> &mut Shared {
        let shared = self.places.get_mut_or_default(place);
        if !std::mem::replace(&mut shared.touched, true) {
            touched.push(place);
        }
        shared
    }

    /// Brings the policies of the touched places up to date; answers those of before, and the steps from there.
    fn compile(&mut self, touched: Vec<Place>, old: &Self) -> (Tables, Vec<Step>) {
        let mut before = Tables {
            anywhere: old.anywhere(),
            ..Tables::default()
        };
        let mut steps = Steps::default();
        // In the order of the gateways, in which they are found again: by another, each would be far from the one before.
        for place in touched {
            let (gateways, shared) = (&self.gateways, self.places.get_mut_or_default(place));
            let after = (!shared.by.is_empty()).then(|| gateways.union(place, &shared.by, &self.realm));
            let (after, ports) = after.map_or((None, Vec::new()), |(policy, ports)| (Some(policy), ports));
            let was = std::mem::replace(&mut shared.policy, after);
            shared.touched = false;
            if after.is_none() {
                self.places.remove(&place);
            }
            let had = was.map_or_else(Vec::new, |policy| {
                before.put(place, policy);
                old.further_ports(place, policy)
            });
            self.count(place, was.is_some(), after.is_some());
            self.demand.ports = self.demand.ports + ports.len() - had.len();
            steps.place(place, was, after);
            for (key, _) in had.iter().filter(|(key, _)| !ports.iter().any(|(other, _)| other == key)) {
                steps.delete_port(*key, after.is_some());
            }
            before.ports.extend(had);
            for (key, owner) in ports {
                steps.put_port(&key, before.port(&key), owner);
            }
        }
        (before, steps.in_order())
    }

    /// Counts a place that comes or goes.
    fn count(&mut self, (network, prefix): Place, was: bool, is: bool) {
        let (taken, by) = if prefix == HOST {
            (&mut self.demand.hosts[family(&network)], 1)
        } else {
            (&mut self.demand.blocks, blocks(&network, prefix))
        };
        let count = self.lengths.entry(prefix).or_default();
        match (was, is) {
            (false, true) => {
                *count += 1;
                *taken += by;
            }
            (true, false) => {
                *count -= 1;
                *taken -= by;
            }
            _ => {}
        }
        if *count == 0 {
            self.lengths.remove(&prefix);
        }
    }

    /// Those that no policy has.
    fn further_ports(&self, place: Place, policy: Policy) -> Vec<(PortKey, u32)> {
        let shared = self.places.get(&place).filter(|_| policy.flags & FLAG_MORE_PORTS != 0);
        shared.map_or_else(Vec::new, |shared| self.gateways.union(place, &shared.by, &self.realm).1)
    }

    /// The gateway in mode `password` with this username.
    #[must_use]
    pub fn account(&self, username: &[u8]) -> Option<(u32, &Gateway)> {
        self.usernames.get(username).and_then(|id| Some((*id, self.gateway(*id)?)))
    }

    /// The policy that decides about a source: as `Lookup::host`, else `Lookup::net`. An IPv6 prefix never contains an IPv4
    /// address: the maps are separate.
    #[must_use]
    pub fn policy(&self, source: IpAddr) -> Option<Policy> {
        let address = Address::from(source.to_canonical());
        let shortest = if address.v4().is_some() { 96 } else { 0 };
        let lengths = self.lengths.range(shortest..=HOST).rev();
        lengths
            .into_iter()
            .find_map(|(prefix, _)| self.places.get(&(address.network(*prefix), *prefix))?.policy)
    }

    /// The gateway with this id.
    #[must_use]
    pub fn gateway(&self, id: u32) -> Option<&Gateway> {
        self.gateways.get(id).map(|gateway| &**gateway)
    }

    /// The gateway with this name, and its id.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<(u32, &Gateway)> {
        self.names.get(name).and_then(|id| Some((*id, self.gateway(*id)?)))
    }

    /// Every host name that a gateway has, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|(name, _)| name.as_str())
    }

    /// How many host names there are.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// What a host name stands for now; `None` where no gateway has it.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&[IpNet]> {
        let gateway = self.gateway(*self.hosts.get(name)?.first()?)?;
        let host = gateway.names.hosts().iter().find(|host| host.name == name)?;
        Some(&host.addresses)
    }

    /// The gateways that have a host name.
    #[must_use]
    pub fn with_host(&self, name: &str) -> &[u32] {
        self.hosts.get(name).map_or(&[], Vec::as_slice)
    }

    /// The gateways that have exactly this place.
    pub(crate) fn at(&self, place: Place) -> impl Iterator<Item = &Gateway> {
        let ids = self.places.get(&place).into_iter().flat_map(|shared| &shared.by);
        ids.filter_map(|id| self.gateway(*id))
    }

    /// The places of other gateways that contain this one, the longest prefix first.
    pub(crate) fn around(&self, (network, prefix): Place) -> impl Iterator<Item = Place> {
        let shortest = if network.v4().is_some() { 96 } else { 0 };
        self.lengths
            .range(shortest..prefix)
            .rev()
            .map(move |(length, _)| (network.network(*length), *length))
            .filter(|place| self.places.get(place).is_some())
    }

    /// All gateways with their ids, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Gateway)> {
        self.gateways.iter()
    }

    /// All gateways with their ids, by name.
    #[must_use]
    pub fn sorted(&self) -> Vec<(u32, &Gateway)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.gateways.size()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gateways.size() == 0
    }

    /// Whether a gateway in mode `password` may call from anywhere.
    #[must_use]
    pub const fn anywhere(&self) -> bool {
        self.anywhere > 0
    }

    /// What the maps must have room for.
    #[must_use]
    pub const fn demand(&self) -> Demand {
        self.demand
    }

    /// All that the maps are to hold.
    #[must_use]
    pub fn tables(&self) -> Tables {
        let mut tables = Tables {
            anywhere: self.anywhere(),
            ..Tables::default()
        };
        tables.hosts.reserve(self.places.len());
        for (place, shared) in self.places.iter() {
            if let Some(policy) = shared.policy {
                tables.put(*place, policy);
                tables.ports.extend(self.further_ports(*place, policy));
            }
        }
        tables
    }
}

/// Its place in [`Demand::hosts`].
fn family(address: &Address) -> usize {
    usize::from(address.v4().is_none())
}
