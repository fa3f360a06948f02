//! How many entries each map has room for.
//!
//! What holds gateways follows from how many there are, and grows with them: three gateways do not carry the memory of a million, nor are
//! their few entries spread over buckets that miss the cache. What sources fill by themselves (flows, peers, bans) has the operator's bound; of flows
//! the agent sees to it, and the map has head room above it, so that the kernel never chooses which to forget.

use sipauth_common::abi;

use super::prefilter::prefilter_lines;

/// What the maps that hold gateways must have room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Addresses, IPv4 and IPv6.
    pub hosts: [usize; 2],
    /// Ports of places that have several.
    pub ports: usize,
    /// The highest gateway id plus one.
    pub gateways: usize,
    /// Bans, those of failures included.
    pub bans: usize,
    /// Blocks of the prefilter that prefixes touch ([`sipauth_common::prefilter::blocks`]).
    pub blocks: usize,
}

/// Bounds of what sources fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Authenticated flows.
    pub flows: u32,
    /// Peers that the softswitch calls.
    pub peers: u32,
    /// Bans.
    pub bans: u32,
}

/// Sources whose punt rate is remembered. A source that is pushed out begins anew, with the burst that everybody has; the budget of its lane bounds
/// them all together.
const PUNT_RATE: u32 = 8_192;

/// Entries of each map of [`abi::SIZED`], in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes([u32; abi::SIZED.len()]);

/// Elements that each CPU may set aside for itself of an LRU map (`LOCAL_FREE_TARGET`). Where fewer are left, the kernel pushes out entries although
/// others are free.
const SET_ASIDE: u32 = 128;

/// Entries of a map of flows with room for so many. Above them a quarter is for what comes while the agent makes room, and what the softswitch opens;
/// then what CPUs set aside. At most [`abi::MAX_ENTRIES`], head room included.
#[must_use]
pub fn entries_for_flows(flows: u32, cpus: usize) -> u32 {
    let entries = flows.saturating_add(flows / 4).saturating_add(set_aside(cpus));
    entries.clamp(abi::LEAST_ENTRIES, abi::MAX_ENTRIES)
}

/// The flows that a map of so many entries has room for: the inverse of [`entries_for_flows`].
#[must_use]
pub fn flows_in(entries: u32, cpus: usize) -> u32 {
    let flows = (u64::from(entries.saturating_sub(set_aside(cpus))) * 4).div_ceil(5);
    u32::try_from(flows).unwrap_or(entries)
}

fn set_aside(cpus: usize) -> u32 {
    SET_ASIDE.saturating_mul(u32::try_from(cpus).unwrap_or(u32::MAX))
}

impl Sizes {
    /// For so many gateways, and these bounds.
    #[must_use]
    pub fn new(demand: &Demand, bounds: &Bounds) -> Self {
        let Bounds { flows, peers, bans } = *bounds;
        let [v4, v6, ports, gateways, ..] = demand.entries().map(room);
        Self([v4, v6, ports, gateways, flows, peers, bans, PUNT_RATE, abi::LEAST_ENTRIES]).grown(demand)
    }

    /// For tests and measurements that fill maps without asking for room.
    #[must_use]
    pub fn ample() -> Self {
        let many = 200_000;
        let demand = Demand {
            hosts: [many; 2],
            ports: many,
            gateways: many / 2,
            ..Demand::default()
        };
        let bounds = Bounds {
            flows: 262_144,
            peers: 65_536,
            bans: 131_072,
        };
        Self::new(&demand, &bounds)
    }

    /// The smallest.
    #[must_use]
    pub const fn least() -> Self {
        Self([abi::LEAST_ENTRIES; abi::SIZED.len()])
    }

    /// Those of the maps that are there, the smallest of others.
    #[must_use]
    pub fn kept(present: impl Fn(&'static str) -> Option<u32>) -> Self {
        Self(abi::SIZED.map(|map| present(map).unwrap_or(abi::LEAST_ENTRIES)))
    }

    /// These, with room for what is to come. Nothing gets smaller.
    #[must_use]
    pub fn grown(&self, demand: &Demand) -> Self {
        let mut grown = *self;
        for (size, needed) in grown.0.iter_mut().zip(demand.entries()) {
            if needed > *size as usize {
                *size = room(needed);
            }
        }
        grown.with_prefilter(demand.blocks)
    }

    /// With as many lines of the prefilter as all that it knows of may need, or more.
    fn with_prefilter(mut self, blocks: usize) -> Self {
        let wanted = lines(|map| self.of(map).unwrap_or(0), blocks);
        let [.., present] = &mut self.0;
        *present = wanted.max(*present);
        self
    }

    /// Length of [`Self::to_bytes`].
    pub(super) const BYTES: usize = 4 * abi::SIZED.len();

    /// For another process of this program.
    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, size) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = size.to_le_bytes();
        }
        bytes
    }

    /// From [`Self::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut sizes = Self::least();
        for (size, bytes) in sizes.0.iter_mut().zip(bytes.as_chunks().0) {
            *size = u32::from_le_bytes(*bytes).clamp(abi::LEAST_ENTRIES, abi::MAX_ENTRIES);
        }
        sizes
    }

    /// The map's size; `None` for one that always has the same.
    #[must_use]
    pub fn of(&self, map: &str) -> Option<u32> {
        let (_, size) = self.iter().find(|(name, _)| *name == map)?;
        Some(size)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        abi::SIZED.into_iter().zip(self.0)
    }

    /// The sizes to load with where these are `wanted` and maps of other sizes may be `present`. A map that is too small is replaced, and one that is
    /// much too large; not one that only came out of use a little, since to replace it costs more than it gains.
    #[must_use]
    pub fn over(&self, demand: &Demand, present: impl Fn(&'static str) -> Option<u32>) -> Self {
        /// From so many times too large on.
        const MUCH: u32 = 8;
        let mut chosen = *self;
        for (map, size) in abi::SIZED.into_iter().zip(&mut chosen.0) {
            let Some(present) = present(map) else { continue };
            let bounded = matches!(map, abi::MAP_FLOWS | abi::MAP_PEERS | abi::MAP_BANS | abi::MAP_PUNT_RATE);
            if !bounded && (*size..size.saturating_mul(MUCH)).contains(&present) {
                *size = present;
            }
        }
        chosen.with_prefilter(demand.blocks)
    }
}

impl Demand {
    /// In the order of [`abi::SIZED`].
    const fn entries(&self) -> [usize; abi::SIZED.len()] {
        let [v4, v6] = self.hosts;
        // What is not known beforehand makes no demand.
        [v4, v6, self.ports, self.gateways, 0, 0, self.bans, 0, 0]
    }

    /// The maps that have no room for this, and how many entries it would take.
    pub fn beyond(&self, capacity: impl Fn(&'static str) -> u32) -> Vec<(&'static str, usize)> {
        let lines = lines(&capacity, self.blocks);
        let entries = abi::SIZED
            .into_iter()
            .zip(self.entries())
            .chain([(abi::MAP_PREFILTER, lines as usize)]);
        entries.filter(|(map, needed)| *needed > capacity(map) as usize).collect()
    }
}

/// Lines of a prefilter that knows what these maps have room for, and so many blocks.
fn lines(capacity: impl Fn(&'static str) -> u32, blocks: usize) -> u32 {
    let maps = [abi::MAP_HOSTS_V4, abi::MAP_HOSTS_V6, abi::MAP_PEERS, abi::MAP_BANS];
    prefilter_lines(blocks + maps.map(|map| capacity(map) as usize).iter().sum::<usize>())
}

/// A power of two, as the kernel makes the buckets of a hash, with some room to go on: at a million 3 %, so that these fit into 2^20.
fn room(entries: usize) -> u32 {
    let wanted = u32::try_from(entries + entries / 32).unwrap_or(abi::MAX_ENTRIES);
    wanted.clamp(abi::LEAST_ENTRIES, abi::MAX_ENTRIES).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        flows: 5_000,
        peers: 6_000,
        bans: 7_000,
    };

    fn ip(gateways: usize) -> Demand {
        Demand {
            hosts: [gateways, 0],
            gateways: gateways + 1,
            ..Demand::default()
        }
    }

    #[test]
    fn few_gateways_have_the_smallest_maps_and_a_million_fit_into_a_power_of_two() {
        let few = Sizes::new(&ip(3), &BOUNDS);
        assert_eq!(few.of(abi::MAP_HOSTS_V4), Some(1_024));
        assert_eq!(few.of(abi::MAP_GATEWAY_STATS), Some(1_024));
        let many = Sizes::new(&ip(1_000_000), &BOUNDS);
        assert_eq!(many.of(abi::MAP_HOSTS_V4), Some(1 << 20));
        assert_eq!(many.of(abi::MAP_GATEWAY_STATS), Some(1 << 20));
        assert_eq!(many.of(abi::MAP_HOSTS_V6), Some(1_024), "of the other family there are none");
    }

    #[test]
    fn there_is_always_room_for_more_up_to_the_bound() {
        for entries in [1_000, 1_024, 40_000, 65_536, 1_000_000] {
            assert!(room(entries) as usize > entries, "{entries}");
        }
        assert_eq!(room(usize::MAX / 2), abi::MAX_ENTRIES);
    }

    #[test]
    fn the_operators_bounds_are_taken_as_they_are() {
        let sizes = Sizes::new(&ip(3), &BOUNDS);
        assert_eq!(sizes.of(abi::MAP_FLOWS), Some(5_000));
        assert_eq!(sizes.of(abi::MAP_PEERS), Some(6_000));
        assert_eq!(sizes.of(abi::MAP_BANS), Some(7_000));
        // Whatever is there.
        assert_eq!(sizes.over(&ip(3), |_| Some(9_000)).of(abi::MAP_FLOWS), Some(5_000));
        assert_eq!(sizes.of(abi::MAP_CONFIG), None);
    }

    #[test]
    fn the_map_of_flows_has_head_room_above_the_bound_whatever_cpus_set_aside() {
        for flows in [1_024, 1_025, 1_026, 1_027, 32_768, 1_000_000] {
            for cpus in [1, 2, 256] {
                let entries = entries_for_flows(flows, cpus);
                assert_eq!(flows_in(entries, cpus), flows);
                let usable = entries - 128 * u32::try_from(cpus).expect("few");
                assert!(usable >= flows + flows / 4, "{flows} {cpus}");
            }
        }
        assert_eq!(entries_for_flows(abi::MAX_ENTRIES, 2), abi::MAX_ENTRIES);
        assert!(flows_in(abi::MAX_ENTRIES, 2) < abi::MAX_ENTRIES / 5 * 4 + 1);
        // Pinned by another version.
        assert_eq!(flows_in(1_024, 64), 0);
    }

    #[test]
    fn a_map_that_is_there_stays_unless_it_is_too_small_or_much_too_large() {
        let demand = ip(3_000);
        let sizes = Sizes::new(&demand, &BOUNDS);
        for (present, chosen) in [(2_048, 4_096), (4_096, 4_096), (16_384, 16_384), (32_768, 4_096)] {
            assert_eq!(
                sizes.over(&demand, |_| Some(present)).of(abi::MAP_HOSTS_V4),
                Some(chosen),
                "{present}"
            );
        }
        assert_eq!(sizes.over(&demand, |_| None), sizes);
    }

    #[test]
    fn the_prefilter_has_room_for_the_blocks_that_prefixes_touch() {
        let prefixes = |blocks| Demand { blocks, ..ip(3) };
        let few = Sizes::new(&ip(3), &BOUNDS);
        let capacity = |map| few.of(map).unwrap_or(0);
        assert_eq!(prefixes(100).beyond(capacity), []);
        let many = prefixes(1_000_000);
        let beyond = many.beyond(capacity);
        assert_eq!(beyond.iter().map(|(map, _)| *map).collect::<Vec<_>>(), [abi::MAP_PREFILTER]);
        let grown = few.grown(&many);
        assert!(grown.of(abi::MAP_PREFILTER) > Some(2 * 1_000_000 * 12 / 512));
        assert_eq!(grown, Sizes::new(&many, &BOUNDS));
        assert_eq!(grown.over(&many, |map| grown.of(map)), grown);
        assert_eq!(many.beyond(|map| grown.of(map).unwrap_or(0)), []);
        // All of IPv4 in /16s and more than fits are no reason to fail.
        let all = prefixes(usize::MAX / 64);
        assert_eq!(all.beyond(|map| few.grown(&all).of(map).unwrap_or(0)), []);
    }

    #[test]
    fn what_has_no_room_grows_and_nothing_else_changes() {
        let sizes = Sizes::new(&ip(3), &BOUNDS);
        assert_eq!(sizes.grown(&ip(900)), sizes);
        let grown = sizes.grown(&ip(200_000));
        assert!(grown.of(abi::MAP_PREFILTER) > sizes.of(abi::MAP_PREFILTER));
        let grown = sizes.grown(&ip(2_000));
        assert_eq!(grown.of(abi::MAP_HOSTS_V4), Some(4_096));
        assert_eq!(grown.of(abi::MAP_GATEWAY_STATS), Some(4_096));
        assert_eq!(grown.of(abi::MAP_HOSTS_V6), Some(1_024));
        assert_eq!(grown.of(abi::MAP_FLOWS), Some(5_000));
        assert_eq!(grown.grown(&ip(3)), grown);
    }

    #[test]
    fn another_process_gets_the_same_sizes() {
        let sizes = Sizes::new(&ip(70_000), &BOUNDS);
        assert_eq!(Sizes::from_bytes(&sizes.to_bytes()), sizes);
        assert_eq!(Sizes::from_bytes(&[0; Sizes::BYTES]), Sizes::least());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let demand = ip(2_000);
        assert_eq!(
            demand.beyond(|_| 1_024),
            [(abi::MAP_HOSTS_V4, 2_000), (abi::MAP_GATEWAY_STATS, 2_001)]
        );
        assert_eq!(demand.beyond(|_| 2_048), []);
    }
}
