//! Whose flows go when there are too many. Without I/O.
//!
//! No gateway loses a flow while another one has more: what goes first is what most of its own gateway's flows are later than. So one that fills the
//! map pushes out its own, and who has few keeps all of them, however long they were quiet.

use std::cmp::Reverse;

use sipauth_common::flow::{Flow, FlowKey};

/// The flows that go so that `keep` are left, each with its gateway: of the gateways that have the most, what was not seen for longest.
/// The connections that the softswitch opened (gateway 0) are as those of one gateway.
#[must_use]
pub fn surplus(mut flows: Vec<(FlowKey, Flow)>, keep: usize) -> Vec<(FlowKey, u32)> {
    let Some(last) = flows.len().checked_sub(keep + 1) else {
        return Vec::new();
    };
    flows.sort_unstable_by_key(|(_, flow)| (flow.gateway, Reverse(flow.seen)));
    let mut ranked: Vec<_> = flows
        .chunk_by(|(_, one), (_, next)| one.gateway == next.gateway)
        .flat_map(|own| own.iter().enumerate())
        .map(|(later, (key, flow))| (Reverse(later), flow.seen, *key, flow.gateway))
        .collect();
    ranked.select_nth_unstable_by_key(last, |(later, seen, ..)| (*later, *seen));
    ranked.truncate(last + 1);
    ranked.into_iter().map(|(.., key, gateway)| (key, gateway)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    /// Of each gateway: its id, how many flows, and when the first was seen; each further one a moment later.
    fn flows(gateways: &[(u32, u16, u64)]) -> Vec<(FlowKey, Flow)> {
        let of = |&(gateway, count, first): &(u32, u16, u64)| {
            (0..count).map(move |port| {
                let key = FlowKey {
                    address: sipauth_common::address::Address::from_v4(gateway),
                    port,
                    protocol: 17,
                    reserved: 0,
                };
                let flow = Flow {
                    expires: u64::MAX,
                    seen: first + u64::from(port),
                    gateway,
                    registering: 0,
                };
                (key, flow)
            })
        };
        gateways.iter().flat_map(of).collect()
    }

    /// How many each gateway loses.
    fn losses(gateways: &[(u32, u16, u64)], keep: usize) -> BTreeMap<u32, usize> {
        let all = flows(gateways);
        let surplus = surplus(all.clone(), keep);
        let distinct: HashSet<_> = surplus.iter().map(|(key, _)| *key).collect();
        assert_eq!(distinct.len(), all.len().saturating_sub(keep), "as many as are too many");
        let mut losses = BTreeMap::new();
        for (_, gateway) in surplus {
            *losses.entry(gateway).or_default() += 1;
        }
        losses
    }

    #[test]
    fn while_there_is_room_nobody_loses_any() {
        assert!(losses(&[(1, 1_000, 0)], 1_000).is_empty());
        assert!(losses(&[], 0).is_empty());
    }

    #[test]
    fn the_gateway_with_the_most_gives_way_however_old_the_others_are() {
        assert_eq!(losses(&[(1, 3, 0), (2, 1_000, 9_000)], 900), BTreeMap::from([(2, 103)]));
    }

    #[test]
    fn many_accounts_of_one_attacker_push_nobody_below_an_equal_share() {
        let mut gateways = vec![(1, 40, 0)];
        gateways.extend((2..=21).map(|gateway| (gateway, 100, 9_000)));
        let lost = losses(&gateways, 1_000);
        assert_eq!(lost.get(&1), None, "21 gateways, 47 each: the 40 stay");
        assert!(lost.values().all(|lost| [52, 53].contains(lost)), "{lost:?}");
        // Who has more than that is brought down to what the others keep, and no further.
        gateways[0] = (1, 400, 0);
        assert_eq!(losses(&gateways, 1_050)[&1], 350);
    }

    #[test]
    fn of_its_own_a_gateway_loses_what_was_not_seen_for_longest() {
        let mut all = flows(&[(1, 100, 1_000)]);
        // A call that goes on, however early it began.
        all[0].1.seen = 5_000;
        let ports: HashSet<u16> = surplus(all, 90).into_iter().map(|(key, _)| key.port).collect();
        assert_eq!(ports, (1..=10).collect());
    }

    #[test]
    fn where_gateways_are_more_than_there_is_room_for_each_loses_all_but_the_last_before_one_loses_that() {
        assert_eq!(losses(&[(1, 1, 5), (2, 1, 6), (3, 2, 7)], 3), BTreeMap::from([(3, 1)]));
        assert_eq!(losses(&[(1, 1, 5), (2, 1, 6), (3, 2, 7)], 2), BTreeMap::from([(1, 1), (3, 1)]));
    }
}
