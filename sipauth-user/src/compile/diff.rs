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

/// Steps from one state to another, collected in any order.
///
/// They are taken in one in which at every point between two of them each packet gets the answer that it got before or the one that it gets after:
///
/// 1. Place by place, the most specific first: the ports, then the policy that points to them. A place that is to
///    shadow another one is there before the other one changes.
/// 2. Ports that a policy no longer points to, at places that stay. Before step 3, because that uncovers such places.
/// 3. Places that go, the least specific first, so that none of them is uncovered by another; then their ports.
#[derive(Default)]
pub(super) struct Steps {
    written: Vec<Step>,
    stale: Vec<PortKey>,
    removed: Vec<Place>,
    orphans: Vec<PortKey>,
}

impl Steps {
    pub(super) fn place(&mut self, place: Place, before: Option<Policy>, after: Option<Policy>) {
        match after {
            Some(_) if before == after => {}
            Some(_) => self.written.push(put_or_delete(place, after)),
            None if before.is_some() => self.removed.push(place),
            None => {}
        }
    }

    pub(super) fn put_port(&mut self, key: &PortKey, before: Option<u32>, owner: u32) {
        if before != Some(owner) {
            self.written.push(Step::PutPort(*key, owner));
        }
    }

    /// `stays`: its place does.
    pub(super) fn delete_port(&mut self, key: PortKey, stays: bool) {
        if stays { &mut self.stale } else { &mut self.orphans }.push(key);
    }

    pub(super) fn in_order(mut self) -> Vec<Step> {
        self.written.sort_by_key(|step| match step {
            Step::PutPort(key, _) => (Reverse(key.prefix), false),
            Step::PutNet(_, prefix, _) => (Reverse(*prefix), true),
            _ => (Reverse(HOST), true),
        });
        self.removed.sort_by_key(|(_, prefix)| *prefix);
        let mut steps = self.written;
        steps.extend(self.stale.into_iter().map(Step::DeletePort));
        steps.extend(self.removed.into_iter().map(|place| put_or_delete(place, None)));
        steps.extend(self.orphans.into_iter().map(Step::DeletePort));
        steps
    }
}

impl Tables {
    /// The steps from this state to `new`, in the order of [`Steps`].
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Step> {
        let mut steps = Steps::default();
        for (place, policy) in new.places() {
            steps.place(place, self.at(place), Some(policy));
        }
        for (place, policy) in self.places() {
            if new.at(place).is_none() {
                steps.place(place, Some(policy), None);
            }
        }
        for (key, owner) in &new.ports {
            steps.put_port(key, self.port(key), *owner);
        }
        for key in self.ports.keys().filter(|key| !new.ports.contains_key(key)) {
            steps.delete_port(*key, new.at((key.network, key.prefix)).is_some());
        }
        steps.in_order()
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
