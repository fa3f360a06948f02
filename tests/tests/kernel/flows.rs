//! The map of flows as the kernel fills it: up to the agent's bound, and its head room, nothing is pushed out.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use sipauth_common::{
    abi,
    address::Address,
    decide::{Lookup as _, UDP},
    flow::{Flow, FlowKey},
};
use sipauth_tests::require_root;
use sipauth_user::datapath::{self, Bounds, Demand, Sizes};

fn key(number: u32) -> FlowKey {
    FlowKey {
        address: Address::from_v4(number.to_be()),
        port: 5060,
        protocol: UDP,
        reserved: 0,
    }
}

#[test]
fn nothing_is_evicted_of_the_map_of_flows_while_its_head_room_lasts_whichever_cpus_fill_it() {
    require_root!();
    let cpus = datapath::cpus().expect("CPUs");
    let flows = 2_000;
    let bounds = Bounds {
        flows: datapath::entries_for_flows(flows, cpus),
        peers: abi::LEAST_ENTRIES,
        bans: abi::LEAST_ENTRIES,
    };
    let maps = datapath::load(None, &Sizes::new(&Demand::default(), &bounds)).expect("loaded").maps;
    assert_eq!(maps.flow_room(), flows);
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("CPUs");
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect();
    let enter = |number: u32| {
        let flow = Flow {
            expires: u64::MAX,
            seen: 1,
            gateway: 1,
            registering: 0,
        };
        maps.put_flow(&key(number), &flow).expect("FLOWS");
    };
    let all = flows + flows / 4;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // First a flow of each CPU, which then sets aside what it does not use; the last CPU enters the rest.
            for number in 0..all {
                let at = allowed.get(number as usize).or(allowed.last());
                let mut one = CpuSet::new();
                one.set(*at.expect("a CPU")).expect("in the set");
                sched_setaffinity(Pid::from_raw(0), &one).expect("moved");
                enter(number);
            }
            // Flows that are entered again take an element for a moment.
            (0..all).for_each(enter);
        });
    });
    let gone: Vec<u32> = (0..all).filter(|number| maps.flow(&key(*number)).is_none()).collect();
    assert!(gone.is_empty(), "{} of {all} were pushed out: {gone:?}", gone.len());
    // The control: it is such a map.
    for number in all..2 * all {
        enter(number);
    }
    assert!((0..all).any(|number| maps.flow(&key(number)).is_none()), "the map has no end");
}
