//! Budgets of punted packets.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use sipauth_common::{
    config::{DefaultPolicy, LANES, Lane},
    reason::Reason,
};
use sipauth_tests::{
    frame::{ACK, Frame},
    require_root,
};

use crate::bench::{Bench, DROP, ENTRIES, PASS, populate};

/// Buckets are per CPU, and a test run stays where its thread is.
fn stay_on_one_cpu() {
    let mut set = CpuSet::new();
    set.set(0).expect("CPU 0");
    sched_setaffinity(Pid::from_raw(0), &set).expect("CPU 0 is ours");
}

fn from(source: &str) -> Vec<u8> {
    Frame {
        source: source.parse().expect("an address"),
        ..Frame::invite()
    }
    .bytes()
}

/// Runs a frame `n` times: how many passed, and how many `reason` counted.
fn many(bench: &mut Bench, bytes: &[u8], n: u64, reason: Reason) -> (u64, u64) {
    let before = bench.stats()[reason as usize].packets;
    let mut passed = 0;
    for _ in 0..n {
        match bench.run(bytes).action {
            PASS => passed += 1,
            action => assert_eq!(action, DROP),
        }
    }
    (passed, bench.stats()[reason as usize].packets - before)
}

#[test]
fn a_source_beyond_its_rate_is_dropped_and_others_are_not() {
    require_root!();
    stay_on_one_cpu();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        // Two tokens at first, and another after half a minute or so: no test takes that long.
        bench.change(|c| c.source_rate = [1; LANES]);
        let (passed, dropped) = many(&mut bench, &from("203.0.113.3"), 100, Reason::SourceRate);
        assert_eq!(passed + dropped, 100, "{entry}");
        assert!((2..10).contains(&passed), "{entry}: {passed}");
        assert_eq!(
            many(&mut bench, &from("203.0.113.4"), 1, Reason::SourceRate),
            (1, 0),
            "{entry}: another source"
        );
        assert_eq!(
            many(&mut bench, &from("203.0.113.5"), 1, Reason::SourceRate),
            (1, 0),
            "{entry}: the trusted lane"
        );
        assert_eq!(
            many(&mut bench, &from("203.0.113.1"), 50, Reason::IpMatch),
            (50, 50),
            "{entry}: mode ip has no budget"
        );
    }
}

#[test]
fn a_lane_beyond_its_rate_is_dropped_and_the_lanes_above_are_not() {
    require_root!();
    stay_on_one_cpu();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        // The stranger is challenged, so that he has a lane.
        bench.change(|c| {
            c.default_policy = DefaultPolicy::Challenge as u32;
            c.lane_rate[Lane::Untrusted as usize] = 1;
        });
        let (passed, dropped) = many(&mut bench, &from("203.0.113.9"), 100, Reason::LaneRate);
        assert_eq!(passed + dropped, 100, "{entry}");
        assert!((2..10).contains(&passed), "{entry}: {passed}");
        for source in ["203.0.113.3", "203.0.113.7"] {
            assert_eq!(
                many(&mut bench, &from(source), 50, Reason::Challenge),
                (50, 50),
                "{entry}: an address of a gateway, and one that the softswitch calls"
            );
        }
        // A bucket that was filled at the old rate is full for long: another one.
        drop(bench);
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        bench.change(|c| c.lane_rate[Lane::Known as usize] = 1);
        let (passed, dropped) = many(&mut bench, &from("203.0.113.3"), 100, Reason::LaneRate);
        assert_eq!(passed + dropped, 100, "{entry}");
        assert!((2..10).contains(&passed), "{entry}: {passed}");
        assert_eq!(
            many(&mut bench, &from("203.0.113.5"), 50, Reason::Challenge),
            (50, 50),
            "{entry}: the trusted lane"
        );
    }
}

#[test]
fn of_tcp_only_what_opens_a_connection_costs_a_token() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = Bench::new(ENTRIES[0]);
    populate(&mut bench);
    bench.change(|c| c.source_rate = [0; LANES]);
    let segment = |flags| {
        Frame {
            protocol: 6,
            flags,
            source: "203.0.113.3".parse().expect("an address"),
            ..Frame::invite()
        }
        .bytes()
    };
    assert_eq!(many(&mut bench, &segment(ACK), 50, Reason::Challenge), (50, 50));
    assert_eq!(many(&mut bench, &segment(2), 50, Reason::SourceRate), (0, 50));
}
