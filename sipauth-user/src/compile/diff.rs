//! The steps from one state of the maps to another, in an order in which no packet meets a half-made policy.

use std::cmp::Reverse;

use sipauth_common::{
    address::Address,
    policy::{Policy, PortKey},
};

use super::{HOST, Place, Tables};

/// One change of one map entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write an entry of `PORTS`.
    PutPort(PortKey, u32),
    /// Write an entry of `NETS_*`: network, length of the prefix in bits of the 16-byte address, policy.
    PutNet(Address, u8, Policy),
    /// Write an entry of `HOSTS_*`.
    PutHost(Address, Policy),
    /// Remove an entry of `HOSTS_*`.
    DeleteHost(Address),
    /// Remove an entry of `NETS_*`.
    DeleteNet(Address, u8),
    /// Remove an entry of `PORTS`.
    DeletePort(PortKey),
}

impl Step {
    /// The step that undoes this one, where `old` is the state before the whole sequence. Steps are undone in reverse order.
    #[must_use]
    pub fn inverse(&self, old: &Tables) -> Self {
        match *self {
            Self::PutPort(key, _) | Self::DeletePort(key) => {
                old.port(&key).map_or(Self::DeletePort(key), |owner| Self::PutPort(key, owner))
            }
            Self::PutNet(network, prefix, _) | Self::DeleteNet(network, prefix) => {
                put_or_delete((network, prefix), old.at((network, prefix)))
            }
            Self::PutHost(address, _) | Self::DeleteHost(address) => put_or_delete((address, HOST), old.host(&address)),
        }
    }
}

fn put_or_delete((network, prefix): Place, policy: Option<Policy>) -> Step {
    match (policy, prefix) {
        (Some(policy), HOST) => Step::PutHost(network, policy),
        (Some(policy), _) => Step::PutNet(network, prefix, policy),
        (None, HOST) => Step::DeleteHost(network),
        (None, _) => Step::DeleteNet(network, prefix),
    }
}

impl Tables {
    /// The steps from this state to `new`. At every point between two of them, each packet gets the answer that it got before or the one that it gets after.
    ///
    /// 1. Place by place, the most specific first: the ports, then the policy that points to them. A place that is to
    ///    shadow another one is there before the other one changes.
    /// 2. Ports that a policy no longer points to, at places that stay. Before step 3, because that uncovers such places.
    /// 3. Places that go, the least specific first, so that none of them is uncovered by another; then their ports.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Step> {
        let mut written: Vec<(Place, Step)> = Vec::new();
        for (key, owner) in &new.ports {
            if self.port(key) != Some(*owner) {
                written.push(((key.network, key.prefix), Step::PutPort(*key, *owner)));
            }
        }
        for (place, policy) in new.places() {
            if self.at(place) != Some(policy) {
                written.push((place, put_or_delete(place, Some(policy))));
            }
        }
        written.sort_by_key(|((_, prefix), step)| (Reverse(*prefix), !matches!(step, Step::PutPort(..))));

        let (stale, orphans): (Vec<&PortKey>, Vec<&PortKey>) = self
            .ports
            .keys()
            .filter(|key| !new.ports.contains_key(key))
            .partition(|key| new.at((key.network, key.prefix)).is_some());
        let mut removed: Vec<Place> = self
            .places()
            .map(|(place, _)| place)
            .filter(|place| new.at(*place).is_none())
            .collect();
        removed.sort_by_key(|(_, prefix)| *prefix);

        let mut steps: Vec<Step> = written.into_iter().map(|(_, step)| step).collect();
        steps.extend(stale.into_iter().map(|key| Step::DeletePort(*key)));
        steps.extend(removed.into_iter().map(|place| put_or_delete(place, None)));
        steps.extend(orphans.into_iter().map(|key| Step::DeletePort(*key)));
        steps
    }

    /// Does to the tables what the step does to the maps.
    pub fn apply(&mut self, step: &Step) {
        match *step {
            Step::PutPort(key, owner) => drop(self.ports.insert(key, owner)),
            Step::PutNet(network, prefix, policy) => drop(self.nets.insert((network, prefix), policy)),
            Step::PutHost(address, policy) => drop(self.hosts.insert(address, policy)),
            Step::DeleteHost(address) => drop(self.hosts.remove(&address)),
            Step::DeleteNet(network, prefix) => drop(self.nets.remove(&(network, prefix))),
            Step::DeletePort(key) => drop(self.ports.remove(&key)),
        }
    }
}
