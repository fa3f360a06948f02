//! What the digest side and the command line look up: an immutable snapshot of all gateways.
//!
//! A change makes a new snapshot that shares all but what it touches with the old one ([`rpds`]), so it costs the same with
//! ten gateways and with a million.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use rpds::HashTrieMapSync;
use sipauth_common::{
    address::Address,
    policy::{FLAG_MORE_PORTS, Policy},
};

use super::{HOST, Place, Step, Tables, by_id::ById, place};
use crate::{datapath::Demand, gateway::Gateway};

/// A change of gateways, by id.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Those that go.
    pub remove: Vec<u32>,
    /// Those that come, or take the place of one with the same id.
    pub put: Vec<(u32, Gateway)>,
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
    names: HashTrieMapSync<String, u32>,
    usernames: HashTrieMapSync<Vec<u8>, u32>,
    /// Host names, and the gateways that have them.
    hosts: HashTrieMapSync<String, Vec<u32>>,
    sharers: HashTrieMapSync<Place, Vec<u32>>,
    policies: HashTrieMapSync<Place, Policy>,
    /// How many places have a prefix of this length: a look-up tries no other.
    lengths: BTreeMap<u8, usize>,
    demand: Demand,
    anywhere: usize,
    /// The realm of the general challenge.
    realm: Arc<str>,
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
        // In the order of the gateways, in which they are found again: by another, each would be far from the one before.
        let touched: Vec<Place> = gateways.into_iter().flat_map(|(id, gateway)| made.enter(id, gateway)).collect();
        let tables = made.tables_of(&touched);
        made.compile(&touched, &Tables::default(), &tables);
        made
    }

    /// The snapshot after a change, and what the change does to the maps.
    #[must_use]
    pub fn edited(&self, edit: Edit) -> (Self, MapChange) {
        let mut new = self.clone();
        let mut touched = Vec::new();
        for id in edit.remove {
            touched.extend(new.leave(id));
        }
        for (id, gateway) in edit.put {
            touched.extend(new.leave(id));
            touched.extend(new.enter(id, gateway));
        }
        let (before, after) = (self.tables_of(&touched), new.tables_of(&touched));
        new.compile(&touched, &before, &after);
        let steps = before.diff(&after);
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
        (new, MapChange { before, steps, demand })
    }

    /// Answers the places that it touches.
    fn enter(&mut self, id: u32, gateway: Gateway) -> Vec<Place> {
        let places: Vec<Place> = gateway.addresses.iter().map(place).collect();
        for place in &places {
            let mut ids = self.sharers.get(place).cloned().unwrap_or_default();
            ids.push(id);
            self.sharers.insert_mut(*place, ids);
        }
        self.names.insert_mut(gateway.name.clone(), id);
        if let Some(username) = &gateway.username {
            self.usernames.insert_mut(username.clone().into_bytes(), id);
        }
        for host in gateway.names.hosts() {
            let mut ids = self.hosts.get(&host.name).cloned().unwrap_or_default();
            ids.push(id);
            self.hosts.insert_mut(host.name.clone(), ids);
        }
        self.anywhere += usize::from(gateway.is_anywhere());
        // Ids are given from the lowest on, so the highest that there ever was is near enough.
        self.demand.gateways = self.demand.gateways.max(id as usize + 1);
        self.gateways.insert(id, Arc::new(gateway));
        places
    }

    /// Answers the places that it touches; none where there is no such gateway.
    fn leave(&mut self, id: u32) -> Vec<Place> {
        let Some(gateway) = self.gateways.get(id).cloned() else {
            return Vec::new();
        };
        let places: Vec<Place> = gateway.addresses.iter().map(place).collect();
        for place in &places {
            let mut ids = self.sharers.get(place).cloned().unwrap_or_default();
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.sharers.remove_mut(place);
            } else {
                self.sharers.insert_mut(*place, ids);
            }
        }
        // Another gateway of the same change may have the name already.
        if self.names.get(&gateway.name) == Some(&id) {
            self.names.remove_mut(&gateway.name);
        }
        if let Some(username) = gateway.username.as_ref().map(String::as_bytes)
            && self.usernames.get(username) == Some(&id)
        {
            self.usernames.remove_mut(username);
        }
        for host in gateway.names.hosts() {
            let mut ids = self.hosts.get(&host.name).cloned().unwrap_or_default();
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.hosts.remove_mut(&host.name);
            } else {
                self.hosts.insert_mut(host.name.clone(), ids);
            }
        }
        self.anywhere -= usize::from(gateway.is_anywhere());
        self.gateways.remove(id);
        places
    }

    /// Brings the policies of these places up to date: those that are in `after`, and none for the others.
    fn compile(&mut self, touched: &[Place], before: &Tables, after: &Tables) {
        for (place, policy) in after.places() {
            let size = self.policies.size();
            self.policies.insert_mut(place, policy);
            if self.policies.size() > size {
                *self.lengths.entry(place.1).or_default() += 1;
                if place.1 == HOST {
                    self.demand.hosts[family(&place.0)] += 1;
                }
            }
        }
        // Of a list that only adds to other places there is none.
        let gone = touched.len() > after.hosts.len() + after.nets.len();
        for place in touched.iter().filter(|place| gone && after.at(**place).is_none()) {
            if !self.policies.remove_mut(place) {
                continue;
            }
            let count = self.lengths.entry(place.1).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.lengths.remove(&place.1);
            }
            if place.1 == HOST {
                self.demand.hosts[family(&place.0)] -= 1;
            }
        }
        self.demand.ports = self.demand.ports + after.ports.len() - before.ports.len();
    }

    fn tables_of<'a>(&self, places: impl IntoIterator<Item = &'a Place>) -> Tables {
        let mut tables = Tables {
            anywhere: self.anywhere > 0,
            ..Tables::default()
        };
        for place in places {
            let of = |id: &u32| Some((*id, &**self.gateways.get(*id)?));
            match self.sharers.get(place).map_or(&[][..], Vec::as_slice) {
                [] => {}
                // Nearly all.
                [id] => {
                    if let Some(one) = of(id) {
                        tables.enter(*place, &[one], &self.realm);
                    }
                }
                ids => tables.enter(*place, &ids.iter().filter_map(of).collect::<Vec<_>>(), &self.realm),
            }
        }
        tables
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
            .find_map(|(prefix, _)| self.policies.get(&(address.network(*prefix), *prefix)).copied())
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
        self.hosts.keys().map(String::as_str)
    }

    /// How many host names there are.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.hosts.size()
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
        let ids = self.sharers.get(&place).into_iter().flatten();
        ids.filter_map(|id| self.gateway(*id))
    }

    /// The places of other gateways that contain this one, the longest prefix first.
    pub(crate) fn around(&self, (network, prefix): Place) -> impl Iterator<Item = Place> {
        let shortest = if network.v4().is_some() { 96 } else { 0 };
        self.lengths
            .range(shortest..prefix)
            .rev()
            .map(move |(length, _)| (network.network(*length), *length))
            .filter(|place| self.sharers.contains_key(place))
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
        // What is compiled need not be again, but for the ports, which no policy has.
        let several = self.policies.iter().filter(|(_, policy)| policy.flags & FLAG_MORE_PORTS != 0);
        let mut tables = self.tables_of(several.map(|(place, _)| place));
        for ((network, prefix), policy) in &self.policies {
            if *prefix == HOST {
                tables.hosts.insert(*network, *policy);
            } else {
                tables.nets.insert((*network, *prefix), *policy);
            }
        }
        tables
    }
}

/// Its place in [`Demand::hosts`].
fn family(address: &Address) -> usize {
    usize::from(address.v4().is_none())
}
