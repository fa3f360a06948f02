//! The budgets of punted packets.

use aya_ebpf::bindings::BPF_ANY;
use sipauth_common::{
    address::Address,
    config::Lane,
    decide::Lookup,
    reason::Reason,
    stats::{Bucket, RateKey},
};

use crate::maps::{LANE_STATS, LANES, Maps, PUNT_RATE};

/// The reason to drop a punt from `source` in `lane`, if a budget is used up; counted for the lane.
#[inline(always)]
pub(crate) fn refuse(source: &Address, lane: Lane, maps: &Maps) -> Option<Reason> {
    let refused = exhausted(source, lane, maps);
    if let Some(stats) = LANE_STATS.get_ptr_mut(lane as u32) {
        // SAFETY: the value of this CPU; XDP programs do not interrupt each other on one CPU.
        unsafe {
            match refused {
                None => (*stats).admitted += 1,
                Some(Reason::SourceRate) => (*stats).source_rate += 1,
                Some(_) => (*stats).lane_rate += 1,
            }
        }
    }
    refused
}

/// The source's own budget comes first, so that one source that sends too much takes nothing from the others. But where the lane has
/// nothing left the source does not matter: under a flood each packet is from another one, and to remember them is what costs most.
#[inline(always)]
fn exhausted(source: &Address, lane: Lane, maps: &Maps) -> Option<Reason> {
    let config = maps.config()?;
    let (source_rate, lane_rate) = match lane {
        Lane::Trusted => (config.source_rate[0], config.lane_rate[0]),
        Lane::Known => (config.source_rate[1], config.lane_rate[1]),
        Lane::Untrusted => (config.source_rate[2], config.lane_rate[2]),
        Lane::Denied => (config.source_rate[3], config.lane_rate[3]),
    };
    let now = maps.now();
    if let Some(bucket) = LANES.get(lane as u32)
        && bucket.is_spent(now)
    {
        return Some(Reason::LaneRate);
    }
    let key = RateKey::new(source, lane);
    let granted = match PUNT_RATE.get_ptr_mut(key) {
        // SAFETY: the value of this CPU; XDP programs do not interrupt each other on one CPU.
        Some(bucket) => unsafe { (*bucket).take(now, source_rate) },
        None => {
            let mut bucket = Bucket {
                last_ns: 0,
                millitokens: 0,
            };
            let granted = bucket.take(now, source_rate);
            // Where the map cannot take the source, the lane's budget is still there.
            let _ = PUNT_RATE.insert(key, bucket, u64::from(BPF_ANY));
            granted
        }
    };
    if !granted {
        return Some(Reason::SourceRate);
    }
    if take(lane as u32, now, lane_rate) {
        None
    } else {
        Some(Reason::LaneRate)
    }
}

#[inline(always)]
fn take(slot: u32, now: u64, rate: u32) -> bool {
    match LANES.get_ptr_mut(slot) {
        // SAFETY: as in `refuse`.
        Some(bucket) => unsafe { (*bucket).take(now, rate) },
        None => false,
    }
}
