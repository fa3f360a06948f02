//! What the digest side and the command line look up: an immutable snapshot of all gateways, replaced as a whole.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use sipauth_common::{address::Address, policy::Policy};

use super::Tables;
use crate::gateway::Gateway;

/// All gateways at one moment, with the tables compiled from them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    gateways: HashMap<u32, Gateway>,
    names: HashMap<String, u32>,
    usernames: HashMap<Vec<u8>, u32>,
    tables: Arc<Tables>,
}

impl Snapshot {
    /// Of these gateways, with their ids.
    #[must_use]
    pub fn new(gateways: Vec<(u32, Gateway)>) -> Self {
        let tables = Arc::new(Tables::compile(&gateways));
        let names = gateways.iter().map(|(id, gateway)| (gateway.name.clone(), *id)).collect();
        let usernames = gateways
            .iter()
            .filter_map(|(id, gateway)| gateway.username.as_ref().map(|name| (name.clone().into_bytes(), *id)))
            .collect();
        Self {
            gateways: gateways.into_iter().collect(),
            names,
            usernames,
            tables,
        }
    }

    /// The gateway in mode `password` with this username.
    #[must_use]
    pub fn account(&self, username: &[u8]) -> Option<(u32, &Gateway)> {
        self.usernames.get(username).and_then(|id| Some((*id, self.gateways.get(id)?)))
    }

    /// The policy that decides about a source.
    #[must_use]
    pub fn policy(&self, source: IpAddr) -> Option<Policy> {
        self.tables.policy(&Address::from(source.to_canonical()))
    }

    /// The gateway with this id.
    #[must_use]
    pub fn gateway(&self, id: u32) -> Option<&Gateway> {
        self.gateways.get(&id)
    }

    /// The gateway with this name, and its id.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<(u32, &Gateway)> {
        self.names.get(name).and_then(|id| Some((*id, self.gateways.get(id)?)))
    }

    /// All gateways with their ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Gateway)> {
        self.gateways.iter().map(|(id, gateway)| (*id, gateway))
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
        self.gateways.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gateways.is_empty()
    }

    /// What the maps are to hold.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The snapshot with one gateway more.
    #[must_use]
    pub fn with(&self, id: u32, gateway: Gateway) -> Self {
        let mut all = self.owned();
        all.push((id, gateway));
        Self::new(all)
    }

    /// The snapshot without a gateway.
    #[must_use]
    pub fn without(&self, id: u32) -> Self {
        let mut all = self.owned();
        all.retain(|(other, _)| *other != id);
        Self::new(all)
    }

    fn owned(&self) -> Vec<(u32, Gateway)> {
        self.gateways.iter().map(|(id, gateway)| (*id, gateway.clone())).collect()
    }
}
