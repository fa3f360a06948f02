//! The live maps as the decision asks them.

use aya::maps::lpm_trie::Key;
use sipauth_common::{
    abi,
    address::Address,
    config::{Config, PortRole},
    decide::Lookup,
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Possible,
};

use super::{Maps, monotonic_ns};

/// The decision over the live maps, for `explain`. What cannot be read is not there; the kernel program sees it so too.
impl Lookup for Maps {
    fn config(&self) -> Option<Config> {
        self.get(abi::MAP_CONFIG, &0u32).ok().flatten()
    }

    fn port_role(&self, port: u16) -> PortRole {
        self.get(abi::MAP_PORT_ROLES, &u32::from(port)).ok().flatten().unwrap_or_default()
    }

    fn possible(&self, address: &Address) -> Possible {
        self.prefilter.possible(address)
    }

    fn host(&self, address: &Address) -> Option<Policy> {
        match address.v4() {
            Some(word) => self.get(abi::MAP_HOSTS_V4, &word),
            None => self.get(abi::MAP_HOSTS_V6, address),
        }
        .ok()
        .flatten()
    }

    fn net(&self, address: &Address) -> Option<Policy> {
        match address.v4() {
            Some(word) => self.get(abi::MAP_NETS_V4, &Key::new(32, word)),
            None => self.get(abi::MAP_NETS_V6, &Key::new(128, *address)),
        }
        .ok()
        .flatten()
    }

    fn port(&self, key: &PortKey) -> Option<u32> {
        self.get(abi::MAP_PORTS, key).ok().flatten()
    }

    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.get(abi::MAP_FLOWS, key).ok().flatten()
    }

    fn peer(&self, address: &Address) -> Option<u64> {
        self.get(abi::MAP_PEERS, address).ok().flatten()
    }

    fn ban(&self, address: &Address) -> Option<Ban> {
        self.get(abi::MAP_BANS, address).ok().flatten()
    }

    fn now(&self) -> u64 {
        monotonic_ns()
    }
}
