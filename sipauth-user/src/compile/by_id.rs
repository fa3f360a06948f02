//! Gateways by their id. Ids are given from the lowest on, so a tree of blocks finds one without hashing, and its neighbours lie beside it.

use std::sync::Arc;

use rpds::VectorSync;
use sipauth_common::policy::{Policy, PortKey};

use super::{Place, union};
use crate::gateway::Gateway;

/// Shares what it does not change with the states before.
#[derive(Clone, Debug, Default)]
pub(super) struct ById {
    slots: VectorSync<Option<Arc<Gateway>>>,
    size: usize,
}

impl ById {
    pub(super) fn get(&self, id: u32) -> Option<&Arc<Gateway>> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn insert(&mut self, id: u32, gateway: Arc<Gateway>) {
        let index = id as usize;
        while self.slots.len() <= index {
            self.slots.push_back_mut(None);
        }
        if let Some(slot) = self.slots.get_mut(index)
            && slot.replace(gateway).is_none()
        {
            self.size += 1;
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        // Without the look beforehand the path to an empty slot would be copied.
        if self.get(id).is_some()
            && let Some(slot) = self.slots.get_mut(id as usize)
        {
            *slot = None;
            self.size -= 1;
        }
    }

    /// The policy of a place that these share, and its further ports.
    pub(super) fn union(&self, place: Place, ids: &[u32], realm: &str) -> (Policy, Vec<(PortKey, u32)>) {
        let of = |id: &u32| Some((*id, &**self.get(*id)?));
        match ids {
            // Nearly all.
            [id] => union(place, of(id).as_slice(), realm),
            ids => union(place, &ids.iter().filter_map(of).collect::<Vec<_>>(), realm),
        }
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// In the order of ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Gateway)> {
        (0u32..).zip(&self.slots).filter_map(|(id, slot)| Some((id, &**slot.as_ref()?)))
    }
}
