//! What the kernel programs count, and how full their maps are: for metrics, read in as few system calls as may be.

use sipauth_common::{
    abi,
    address::Address,
    config::LANES,
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    stats::{Bucket, EventBudget, EventStats, GatewayStats, LaneStats, RateKey},
};

use super::{DatapathError, Maps, maps::at, sizes::flows_in, sys};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Its name in [`abi`].
    pub map: &'static str,
    /// Entries that it has.
    pub entries: u64,
    /// Entries that it has room for, or can get it: maps of gateways grow.
    pub capacity: u32,
}

/// A map and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Its name in [`abi`].
    pub map: &'static str,
    /// Entries that it has room for now.
    pub room: u32,
    /// Bytes that the kernel has for it.
    pub bytes: u64,
}

/// Maps that are replaced by larger ones when they are full.
const GROWING: [&str; 3] = [abi::MAP_HOSTS_V4, abi::MAP_HOSTS_V6, abi::MAP_PORTS];

type Result<T> = std::result::Result<T, DatapathError>;

impl Maps {
    /// What each lane counted, over all CPUs.
    ///
    /// # Errors
    /// The kernel's answer; so with all others here.
    pub fn lane_stats(&self) -> Result<[LaneStats; LANES]> {
        let mut sums = [LaneStats::default(); LANES];
        for (lane, sum) in (0u32..).zip(&mut sums) {
            let all: Vec<LaneStats> = self.per_cpu(abi::MAP_LANE_STATS, lane)?;
            for one in all {
                sum.admitted += one.admitted;
                sum.source_rate += one.source_rate;
                sum.lane_rate += one.lane_rate;
            }
        }
        Ok(sums)
    }

    /// What became of events, over all CPUs.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn event_stats(&self) -> Result<EventStats> {
        let all: Vec<EventBudget> = self.per_cpu(abi::MAP_EVENT_STATS, 0)?;
        Ok(all
            .into_iter()
            .map(|one| one.stats)
            .fold(EventStats::default(), |sum, one| EventStats {
                sent: sum.sent + one.sent,
                over_budget: sum.over_budget + one.over_budget,
                lost: sum.lost + one.lost,
            }))
    }

    /// What gateways counted, in the order of `ids`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn all_gateway_stats(&self, ids: &[u32]) -> Result<Vec<GatewayStats>> {
        let end = ids.iter().max().map_or(0, |highest| highest + 1);
        // Where ids are far apart, reading all in between costs more than a call for each.
        if end as usize > 16 * ids.len() {
            return ids.iter().map(|id| self.gateway_stats(*id)).collect();
        }
        let map = abi::MAP_GATEWAY_STATS;
        let all: Vec<GatewayStats> = sys::elements(self.fd(map), end).map_err(at(map))?;
        Ok(ids.iter().map(|id| all.get(*id as usize).copied().unwrap_or_default()).collect())
    }

    /// How full the maps are that the caller does not go through anyway.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn occupancy(&self) -> Result<[Occupancy; 6]> {
        Ok([
            self.count::<u32, Policy>(abi::MAP_HOSTS_V4, 1)?,
            self.count::<Address, Policy>(abi::MAP_HOSTS_V6, 1)?,
            self.count::<[u8; 8], Policy>(abi::MAP_NETS_V4, 1)?,
            self.count::<[u8; 20], Policy>(abi::MAP_NETS_V6, 1)?,
            self.count::<PortKey, u32>(abi::MAP_PORTS, 1)?,
            self.count::<RateKey, Bucket>(abi::MAP_PUNT_RATE, self.cpus)?,
        ])
    }

    /// How many flows there is room for; the rest of their map is head room.
    #[must_use]
    pub fn flow_room(&self) -> u32 {
        flows_in(self.capacity(abi::MAP_FLOWS), self.cpus)
    }

    /// What each map takes, in the order of [`abi::MAPS`]. Not those that the programs keep to themselves, which always have the same size.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn footprints(&self) -> Result<Vec<Footprint>> {
        let footprint = |map: &'static str| {
            let bytes = sys::memory(self.fd(map)).map_err(at(map))?;
            let room = self.capacity(map);
            Ok(Footprint { map, room, bytes })
        };
        abi::MAPS.into_iter().map(footprint).collect()
    }

    /// Shows all flows to `see`, and answers how full their map is, its head room left out.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn visit_flows(&self, see: impl FnMut(&FlowKey, &Flow)) -> Result<Occupancy> {
        let occupancy = self.visit(abi::MAP_FLOWS, see)?;
        Ok(Occupancy {
            capacity: self.flow_room(),
            ..occupancy
        })
    }

    /// Likewise the learned peers, with the time (ns) at which the softswitch last sent them a request.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn visit_peers(&self, see: impl FnMut(&Address, &u64)) -> Result<Occupancy> {
        self.visit(abi::MAP_PEERS, see)
    }

    /// Likewise the bans, also those that are over.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn visit_bans(&self, see: impl FnMut(&Address, &Ban)) -> Result<Occupancy> {
        self.visit(abi::MAP_BANS, see)
    }

    pub(super) fn visit<K: aya::Pod, V: aya::Pod>(&self, map: &'static str, mut see: impl FnMut(&K, &V)) -> Result<Occupancy> {
        let (mut entries, capacity) = (0, self.capacity(map));
        sys::visit(self.fd(map), capacity, 1, |key: &K, values: &[V]| {
            entries += 1;
            if let Some(value) = values.first() {
                see(key, value);
            }
        })
        .map_err(at(map))?;
        Ok(occupancy(map, entries, capacity))
    }

    fn count<K: aya::Pod, V: aya::Pod>(&self, map: &'static str, per_key: usize) -> Result<Occupancy> {
        let (mut entries, capacity) = (0, self.capacity(map));
        sys::visit(self.fd(map), capacity, per_key, |_: &K, _: &[V]| entries += 1).map_err(at(map))?;
        Ok(occupancy(map, entries, capacity))
    }

    fn per_cpu<V: aya::Pod>(&self, map: &'static str, key: u32) -> Result<Vec<V>> {
        sys::lookup_per_cpu(self.fd(map), &key, self.cpus).map_err(at(map))
    }
}
fn occupancy(map: &'static str, entries: u64, capacity: u32) -> Occupancy {
    let capacity = if GROWING.contains(&map) { abi::MAX_ENTRIES } else { capacity };
    Occupancy { map, entries, capacity }
}
