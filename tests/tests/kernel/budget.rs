//! Budgets of punted packets.

use sipauth_common::{
    abi,
    config::{DefaultPolicy, LANES, Lane},
    event::Event,
    reason::Reason,
    stats::{EventStats, LaneStats},
};
use sipauth_tests::{
    frame::{ACK, Frame},
    require_root,
};

use crate::bench::{Bench, DROP, ENTRIES, PASS, populate, stay_on_one_cpu};

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
fn a_lane_counts_what_its_budgets_admitted_and_refused() {
    require_root!();
    stay_on_one_cpu();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        let known = |bench: &Bench| bench.programs.maps.lane_stats().expect("LANE_STATS")[Lane::Known as usize];
        assert_eq!(known(&bench), LaneStats::default());
        assert_eq!(many(&mut bench, &from("203.0.113.3"), 7, Reason::Challenge), (7, 7));
        bench.change(|c| c.source_rate = [0; LANES]);
        assert_eq!(many(&mut bench, &from("203.0.113.4"), 5, Reason::SourceRate), (0, 5));
        bench.change(|c| {
            c.source_rate = [u32::MAX; LANES];
            c.lane_rate = [0; LANES];
        });
        // Full from before, and soon empty at a rate of 0.
        let (passed, dropped) = many(&mut bench, &from("203.0.113.3"), 3, Reason::LaneRate);
        let expected = LaneStats {
            admitted: 7 + passed,
            source_rate: 5,
            lane_rate: dropped,
        };
        assert_eq!(known(&bench), expected, "{entry}");
        let all = bench.programs.maps.lane_stats().expect("LANE_STATS");
        for lane in [Lane::Trusted, Lane::Untrusted, Lane::Denied] {
            assert_eq!(all[lane as usize], LaneStats::default(), "{entry}: {}", lane.label());
        }
        assert_eq!(
            many(&mut bench, &from("203.0.113.1"), 5, Reason::IpMatch),
            (5, 5),
            "{entry}: mode ip"
        );
        assert_eq!(known(&bench), expected, "{entry}: mode ip is not for the agent");
    }
}

#[test]
fn events_are_counted_as_sent_and_beyond_their_budget_and_lost() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = Bench::new(ENTRIES[0]);
    populate(&mut bench);
    let events = |bench: &Bench| bench.programs.maps.event_stats().expect("EVENT_STATS");
    bench.change(|c| c.event_rate = 0);
    many(&mut bench, &from("198.51.100.9"), 10, Reason::UnknownSource);
    assert_eq!(
        events(&bench),
        EventStats {
            over_budget: 10,
            ..EventStats::default()
        }
    );
    // Nobody reads the ring, which has room for some 5,000.
    let room = u64::from(abi::EVENTS_BYTES) / (size_of::<Event>() as u64 + 8);
    // The budget is filled at the agent's next sign of life.
    bench.change(|c| {
        c.event_rate = 1_000_000;
        c.heartbeat_ns += 1;
    });
    many(&mut bench, &from("198.51.100.10"), 2 * room, Reason::UnknownSource);
    let events = events(&bench);
    assert_eq!(events.sent + events.lost + events.over_budget, 2 * room + 10, "{events:?}");
    assert!(events.sent > room / 2 && events.lost > room / 2, "{events:?}");
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
