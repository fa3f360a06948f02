use super::*;
use crate::control::{Health, InterfaceStatus, LaneReport, ReasonCount, Setup, StatsReport};

/// A sample at a time, with these counters by reason (verdict, label, packets; 100 bytes each) and of gateways that passed.
pub(crate) fn sample(seconds: f64, reasons: &[(&str, &str, u64)], gateways: &[(&str, u64)]) -> Sample {
    let stats = StatsReport {
        reasons: reasons
            .iter()
            .map(|(verdict, label, packets)| {
                let count = ReasonCount {
                    packets: *packets,
                    bytes: packets * 100,
                    verdict: (*verdict).to_owned(),
                };
                ((*label).to_owned(), count)
            })
            .collect(),
        gateways: gateways
            .iter()
            .map(|(name, packets)| {
                let counts = GatewayCounts {
                    pass: Counted {
                        packets: *packets,
                        bytes: packets * 100,
                    },
                    ..GatewayCounts::default()
                };
                ((*name).to_owned(), counts)
            })
            .collect(),
        authentication: BTreeMap::from([("authenticated".to_owned(), 3)]),
    };
    Sample {
        at_ns: whole(seconds * 1e9),
        stats,
        setup: Setup {
            version: "0.1.0".to_owned(),
            uptime: 4_000,
            interfaces: vec![InterfaceStatus {
                name: "eth0".to_owned(),
                xdp_mode: "native".to_owned(),
                link: "up".to_owned(),
            }],
            default_policy: "deny".to_owned(),
            obstacles: Vec::new(),
        },
        health: Health {
            workers: 2,
            bans: 3,
            flows: 4,
            events_lost: 0,
            faults: BTreeMap::from([("receive".to_owned(), 0)]),
        },
        lanes: ["trusted", "known", "untrusted", "denied"]
            .map(|lane| LaneReport {
                lane: lane.to_owned(),
                budget: 1_000,
                admitted: whole(seconds * 10.0),
                over_budget: 0,
                left: if lane == "untrusted" { 0.25 } else { 1.0 },
            })
            .to_vec(),
    }
}

#[test]
fn a_rate_is_what_was_counted_by_the_time_that_passed() {
    let before = sample(
        10.0,
        &[("pass", "ip_match", 100), ("drop", "unknown_source", 7), ("pass", OTHER, 5_000)],
        &[("a", 100)],
    );
    let after = sample(
        12.5,
        &[("pass", "ip_match", 350), ("drop", "unknown_source", 12), ("pass", OTHER, 6_000)],
        &[("a", 350)],
    );
    let rates = Rates::between(&before, &after).unwrap();
    assert_eq!(
        (rates.seconds, rates.verdicts.pass.packets, rates.verdicts.drop.packets),
        (2.5, 100.0, 2.0)
    );
    assert_eq!(rates.verdicts.pass.bits, 100.0 * 800.0);
    assert_eq!(
        (rates.other.packets, rates.verdicts.total()),
        (400.0, 102.0),
        "what is not SIP is apart"
    );
    assert_eq!(rates.gateways["a"].pass.packets, 100.0);
    assert_eq!(rates.authentication["authenticated"], 0.0);
    assert_eq!(
        (rates.lanes[2].lane.as_str(), rates.lanes[2].admitted, rates.lanes[2].left),
        ("untrusted", 10.0, 0.25)
    );
}

#[test]
fn without_time_between_there_is_no_rate() {
    let at = |seconds| sample(seconds, &[("pass", "ip_match", 1)], &[]);
    assert_eq!(Rates::between(&at(5.0), &at(5.0)), None);
    assert_eq!(Rates::between(&at(5.0), &at(4.0)), None, "the machine was started anew");
    assert_eq!(Rates::between(&at(5.0), &at(500.0)), None, "says nothing about now");
    assert!(Rates::between(&at(5.0), &at(6.0)).is_some());
}

#[test]
fn a_counter_that_began_anew_counts_from_zero() {
    let before = sample(1.0, &[("pass", "ip_match", 900)], &[("a", 900), ("gone", 9)]);
    let after = sample(2.0, &[("pass", "ip_match", 30)], &[("a", 30), ("new", 5)]);
    let rates = Rates::between(&before, &after).unwrap();
    assert_eq!(rates.verdicts.pass.packets, 30.0);
    assert_eq!(rates.gateways["a"].pass.packets, 30.0);
    assert_eq!(
        rates.gateways.keys().collect::<Vec<_>>(),
        ["a"],
        "of a new one nothing is known yet, of one that is gone no more"
    );
}

#[test]
fn history_goes_on_after_an_interruption_without_a_wrong_rate() {
    let at = |seconds, packets| sample(seconds, &[("pass", "ip_match", packets)], &[("a", packets)]);
    let mut history = History::default();
    history.push(at(1.0, 0));
    assert!(history.rates().is_none());
    history.push(at(2.0, 10));
    assert_eq!(history.rates().unwrap().verdicts.pass.packets, 10.0);
    assert_eq!(history.trend("a").collect::<Vec<_>>(), [10.0]);
    history.interrupt();
    assert!(history.rates().is_none() && history.sample().is_some());
    history.push(at(9.0, 5_000));
    assert!(history.rates().is_none(), "nothing is known of the time between");
    history.push(at(10.0, 5_020));
    assert_eq!(history.rates().unwrap().verdicts.pass.packets, 20.0);
    assert_eq!(history.verdicts().len(), 2);
}

#[test]
fn history_is_bounded_and_forgets_idle_gateways() {
    let mut history = History::default();
    for n in 0..1_000_u64 {
        let a = n.min(10);
        history.push(sample(n as f64, &[("pass", "ip_match", n)], &[("a", a), ("b", n)]));
    }
    assert_eq!(history.verdicts().len(), REMEMBERED);
    assert_eq!(history.trend("a").len(), 0, "idle for long");
    assert_eq!(history.trend("b").len(), REMEMBERED_OF_GATEWAY);
}

#[test]
fn rates_are_short_whatever_their_size() {
    for (rate, text) in [
        (0.0, "0"),
        (0.01, "<0.1"),
        (0.4, "0.4"),
        (99.94, "99.9"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1,000"),
        (9_999.6, "10.0k"),
        (56_789.0, "56.8k"),
        (999_960.0, "1.0M"),
        (14.2e6, "14.2M"),
    ] {
        assert_eq!(short(rate), text);
        assert!(short(rate).len() <= 6);
    }
    assert_eq!(bits(1_234_567.0), "1.2 Mbit/s");
    assert_eq!(bits(0.0), "0 bit/s");
}
