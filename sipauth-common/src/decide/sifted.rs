//! The maps behind the prefilter: what it rules out is not looked up.

use super::Lookup;
use crate::{
    address::Address,
    config::{Config, PortRole},
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Possible,
};

/// The maps, for questions about one address alone.
///
/// Flows are not sifted: one can outlive what the address was known for. So it costs a look-up where flows count, which is no
/// packet of a stranger's but a TCP segment.
pub struct Sifted<'a, L> {
    maps: &'a L,
    possible: Possible,
}

impl<'a, L: Lookup> Sifted<'a, L> {
    /// With what the prefilter says of `address`, which it is asked once.
    #[inline(always)]
    #[must_use]
    pub fn new(maps: &'a L, address: &Address) -> Self {
        Self {
            maps,
            possible: maps.possible(address),
        }
    }
}

impl<L: Lookup> Lookup for Sifted<'_, L> {
    #[inline(always)]
    fn config(&self) -> Option<Config> {
        self.maps.config()
    }

    #[inline(always)]
    fn port_role(&self, port: u16) -> PortRole {
        self.maps.port_role(port)
    }

    #[inline(always)]
    fn possible(&self, _: &Address) -> Possible {
        self.possible
    }

    #[inline(always)]
    fn host(&self, address: &Address) -> Option<Policy> {
        if self.possible.single { self.maps.host(address) } else { None }
    }

    #[inline(always)]
    fn net(&self, address: &Address) -> Option<Policy> {
        if self.possible.net { self.maps.net(address) } else { None }
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<u32> {
        self.maps.port(key)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.maps.flow(key)
    }

    #[inline(always)]
    fn peer(&self, address: &Address) -> Option<u64> {
        if self.possible.single { self.maps.peer(address) } else { None }
    }

    #[inline(always)]
    fn ban(&self, address: &Address) -> Option<Ban> {
        if self.possible.single { self.maps.ban(address) } else { None }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        self.maps.now()
    }
}
