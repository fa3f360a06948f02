//! How many entries each map has room for.
//!
//! What holds gateways follows from how many there are, and grows with them: three gateways do not carry the memory of a million, nor are
//! their few entries spread over buckets that miss the cache. What sources fill by themselves (flows, peers, bans) begins small, since such
//! maps take the memory of all their entries from the start, and grows up to the operator's bound as entries come.

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
    /// Sizes for what sources fill: flows, peers, bans.
    pub learned: [u32; LEARNED.len()],
}

/// Maps that sources fill, up to a bound of [`Bounds`].
pub const LEARNED: [&str; 3] = [abi::MAP_FLOWS, abi::MAP_PEERS, abi::MAP_BANS];

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

impl Bounds {
    /// In the order of [`LEARNED`].
    #[must_use]
    pub const fn learned(&self) -> [u32; LEARNED.len()] {
        [self.flows, self.peers, self.bans]
    }
}

/// What sources fill has room for so many from the start. Of rates no more are remembered: a source that is pushed out begins anew, with the burst
/// that everybody has, and the budget of its lane bounds them all together.
const FEW: u32 = 4_096;
/// Entries of an LRU map for each CPU, at least. A CPU sets up to 128 free ones aside for itself (kernel/bpf/bpf_lru_list.c), which others go without:
/// a map of fewer would push out what is in use while it is half empty.
const LRU_OF_CPU: u32 = 256;
/// A map that sources fill grows when one entry of so many is taken, so that none is pushed out meanwhile,
const ROOMY: u64 = 3;
/// and gets so many times as large: each time costs loading the programs.
const STEP: u32 = 4;

/// Least entries of a map that sources fill, on a machine of so many CPUs.
fn few(cpus: usize) -> u32 {
    let apart = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(LRU_OF_CPU);
    apart.min(abi::MAX_ENTRIES).next_power_of_two().max(FEW)
}

/// The CPUs that run. Not the possible ones: the others insert nothing.
fn cpus() -> usize {
    aya::util::online_cpus().map_or(1, |online| online.len())
}

/// Entries of each map of [`abi::SIZED`], in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes([u32; abi::SIZED.len()]);

impl Sizes {
    /// For so many gateways, and these bounds.
    #[must_use]
    pub fn new(demand: &Demand, bounds: &Bounds) -> Self {
        let mut sizes = Self::least();
        if let Some(rates) = sizes.of_mut(abi::MAP_PUNT_RATE) {
            *rates = few(cpus());
        }
        sizes.grown(&demand.following(bounds)).with_prefilter()
    }

    /// For tests and measurements that fill maps without asking for room.
    #[must_use]
    pub fn ample() -> Self {
        let many = 200_000;
        let demand = Demand {
            hosts: [many; 2],
            ports: many,
            gateways: many / 2,
            bans: 0,
            learned: [262_144, 65_536, 131_072],
        };
        let [flows, peers, bans] = demand.learned;
        let bounds = Bounds { flows, peers, bans };
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
        for (map, wanted) in LEARNED.into_iter().zip(demand.learned) {
            if let Some(size) = grown.of_mut(map) {
                *size = wanted.max(*size);
            }
        }
        if grown == *self { grown } else { grown.with_prefilter() }
    }

    /// With as many lines of the prefilter as all that it knows of may need, or more.
    fn with_prefilter(mut self) -> Self {
        let [v4, v6, _, _, _, peers, bans, _, lines] = &mut self.0;
        let entries = [v4, v6, peers, bans].map(|size| *size as usize).iter().sum();
        *lines = prefilter_lines(entries).max(*lines);
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

    fn of_mut(&mut self, map: &str) -> Option<&mut u32> {
        let (_, size) = abi::SIZED.into_iter().zip(&mut self.0).find(|(name, _)| *name == map)?;
        Some(size)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        abi::SIZED.into_iter().zip(self.0)
    }

    /// The sizes to load with where these are `wanted` and maps of other sizes may be `present`. A map that is too small is replaced, and one that is
    /// much too large; not one that only came out of use a little, since to replace it costs more than it gains. What sources filled stays within its
    /// bound.
    #[must_use]
    pub fn over(&self, bounds: &Bounds, present: impl Fn(&'static str) -> Option<u32>) -> Self {
        /// From so many times too large on.
        const MUCH: u32 = 8;
        let mut chosen = *self;
        for (map, size) in abi::SIZED.into_iter().zip(&mut chosen.0) {
            let Some(present) = present(map) else { continue };
            let bound = LEARNED.into_iter().zip(bounds.learned()).find(|(learned, _)| *learned == map);
            if let Some((_, bound)) = bound {
                *size = present.clamp(*size, bound.max(*size));
            } else if map != abi::MAP_PUNT_RATE && (*size..size.saturating_mul(MUCH)).contains(&present) {
                *size = present;
            }
        }
        chosen.with_prefilter()
    }
}

impl Demand {
    /// In the order of [`abi::SIZED`].
    const fn entries(&self) -> [usize; abi::SIZED.len()] {
        let [v4, v6] = self.hosts;
        // What is not known beforehand makes no demand.
        [v4, v6, self.ports, self.gateways, 0, 0, self.bans, 0, 0]
    }

    /// With room for what so many gateways teach, should all of them do so at once: two places each.
    #[must_use]
    pub fn following(mut self, bounds: &Bounds) -> Self {
        let few = few(cpus());
        let of_gateways = room(2 * self.gateways);
        let wanted = [few.max(of_gateways), few.max(of_gateways), few];
        for (learned, (wanted, bound)) in self.learned.iter_mut().zip(wanted.into_iter().zip(bounds.learned())) {
            *learned = wanted.min(bound).max(*learned);
        }
        self
    }

    /// The size that a map of [`LEARNED`] should have that has so many entries; `None` where its own will do.
    #[must_use]
    pub fn learned(entries: u64, size: u32, bound: u32) -> Option<u32> {
        let taken = entries.saturating_mul(ROOMY) > u64::from(size);
        (taken && size < bound).then(|| size.saturating_mul(STEP).min(bound))
    }

    /// The maps that have no room for this, and how many entries it would take.
    pub fn beyond(&self, capacity: impl Fn(&'static str) -> u32) -> Vec<(&'static str, usize)> {
        let learned = LEARNED.into_iter().zip(self.learned.map(|size| size as usize));
        let entries = abi::SIZED.into_iter().zip(self.entries()).chain(learned);
        entries.filter(|(map, needed)| *needed > capacity(map) as usize).collect()
    }
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
    fn what_sources_fill_begins_small_and_ends_at_the_operators_bounds() {
        let wide = Bounds {
            flows: 4_000_000,
            peers: 4_000_000,
            bans: 3_000,
        };
        let sizes = Sizes::new(&ip(3), &wide);
        let all = LEARNED.map(|map| sizes.of(map));
        assert_eq!(all, [Some(few(cpus())), Some(few(cpus())), Some(3_000)]);
        assert_eq!(Sizes::new(&ip(1_000_000), &BOUNDS).of(abi::MAP_FLOWS), Some(5_000));
        // Gateways that all register at once find room.
        let many = Sizes::new(&ip(100_000), &wide);
        assert_eq!(LEARNED.map(|map| many.of(map)), [Some(262_144), Some(262_144), Some(3_000)]);
        // What grew stays, within the bounds.
        let over = |present, bounds| sizes.over(bounds, |_| Some(present)).of(abi::MAP_FLOWS);
        assert_eq!(over(1 << 20, &wide), Some(1 << 20));
        assert_eq!(over(1_024, &wide), Some(few(cpus())));
        assert_eq!(
            Sizes::new(&ip(3), &BOUNDS).over(&BOUNDS, |_| Some(9_000)).of(abi::MAP_FLOWS),
            Some(5_000)
        );
        assert_eq!(sizes.of(abi::MAP_CONFIG), None);
    }

    #[test]
    fn a_map_that_sources_fill_grows_before_it_is_full() {
        for (entries, size, bound, wanted) in [
            (1_365, 4_096, 32_768, None),
            (1_366, 4_096, 32_768, Some(16_384)),
            (8_000, 16_384, 32_768, Some(32_768)),
            (32_768, 32_768, 32_768, None),
            (5_000, 5_000, 6_000, Some(6_000)),
        ] {
            assert_eq!(Demand::learned(entries, size, bound), wanted, "{entries} of {size}");
        }
        let sizes = Sizes::new(&ip(3), &BOUNDS);
        let demand = Demand {
            learned: [0, 0, 6_500],
            ..ip(3)
        };
        let capacity = |map| sizes.of(map).unwrap_or(0);
        assert_eq!(demand.beyond(capacity), [(abi::MAP_BANS, 6_500)]);
        assert_eq!(sizes.grown(&demand).of(abi::MAP_BANS), Some(6_500));
    }

    #[test]
    fn what_cpus_set_aside_is_not_missing() {
        assert_eq!([1, 16, 17, 64].map(few), [4_096, 4_096, 8_192, 16_384]);
        assert_eq!(few(usize::MAX), abi::MAX_ENTRIES);
    }

    #[test]
    fn a_map_that_is_there_stays_unless_it_is_too_small_or_much_too_large() {
        let sizes = Sizes::new(&ip(3_000), &BOUNDS);
        for (present, chosen) in [(2_048, 4_096), (4_096, 4_096), (16_384, 16_384), (32_768, 4_096)] {
            assert_eq!(
                sizes.over(&BOUNDS, |_| Some(present)).of(abi::MAP_HOSTS_V4),
                Some(chosen),
                "{present}"
            );
        }
        assert_eq!(sizes.over(&BOUNDS, |_| None), sizes);
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
        assert_eq!(grown.of(abi::MAP_FLOWS), sizes.of(abi::MAP_FLOWS));
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
