//! The prefilter: it rules out strangers, never anybody that a map has, and a bit too many changes nothing.

use sipauth_common::{address::Address, decide::Lookup as _, flow::Ban, policy::modes, prefilter::Possible, reason::Reason};
use sipauth_tests::{frame::Frame, require_root};

use crate::bench::{Bench, ENTRIES, HOUR, address, policy, populate};

const NOBODY: Possible = Possible { single: false, net: false };

fn from(source: &str) -> Vec<u8> {
    let base = if source.contains(':') {
        Frame::invite_v6()
    } else {
        Frame::invite()
    };
    Frame {
        source: source.parse().expect("an address"),
        ..base
    }
    .bytes()
}

#[test]
fn strangers_are_ruled_out_and_nobody_else() {
    require_root!();
    let mut bench = Bench::new(ENTRIES[0]);
    populate(&mut bench);
    bench.net(address("198.51.100.0"), 96 + 24, policy(8, modes::IP));
    bench.net(address("2001:db8:5::"), 48, policy(9, modes::IP));
    for round in 0..3 {
        for base in ["203.0.113.", "2001:db8::"] {
            for n in [1, 2, 3, 4, 6, 7] {
                let possible = bench.programs.maps.possible(&address(&format!("{base}{n}")));
                assert!(possible.single, "{base}{n} in round {round}");
            }
        }
        for inside in ["198.51.100.77", "2001:db8:5:6::7"] {
            assert!(bench.programs.maps.possible(&address(inside)).net, "{inside} in round {round}");
        }
        // Of so few bits in so many, none meets these.
        let ruled_out = (1..=100)
            .flat_map(|n| [format!("192.0.{n}.1"), format!("3fff:{n:x}::1")])
            .filter(|stranger| bench.programs.maps.possible(&address(stranger)) == NOBODY)
            .count();
        assert!(ruled_out >= 198, "{ruled_out} of 200 in round {round}");
        bench.programs.maps.renew_prefilter().expect("PREFILTER");
    }
}

#[test]
fn bits_of_what_is_gone_change_nothing_and_go() {
    require_root!();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for source in ["198.51.100.9", "2001:db8:9::9"] {
            let at = address(source);
            assert_eq!(bench.check("before", &from(source)).reason, Reason::UnknownSource);
            assert_eq!(bench.programs.maps.possible(&at), NOBODY, "{source}");
            let ban = Ban {
                expires: bench.tables.now + HOUR,
                port: 0,
                cause: 1,
                reserved: 0,
            };
            bench.ban(at, ban);
            assert_eq!(bench.check("banned", &from(source)).reason, Reason::Banned);
            bench.tables.bans.remove(&at);
            assert!(bench.programs.maps.delete_ban(&at).expect("BANS"));
            let prefix = if at.v4().is_some() { 96 + 24 } else { 48 };
            bench.net(at, prefix, policy(8, modes::IP));
            assert_eq!(bench.check("in a prefix", &from(source)).reason, Reason::IpMatch);
            bench.tables.nets.remove(&(at.network(prefix), prefix));
            assert!(bench.programs.maps.delete_net(&at.network(prefix), prefix).expect("NETS"));

            assert_eq!(bench.programs.maps.possible(&at), Possible::ALL, "{source}: old bits");
            assert_eq!(bench.check("old bits", &from(source)).reason, Reason::UnknownSource);
            bench.programs.maps.renew_prefilter().expect("PREFILTER");
            assert_eq!(bench.programs.maps.possible(&at), NOBODY, "{source}: renewed");
            assert_eq!(bench.check("renewed", &from(source)).reason, Reason::UnknownSource);
        }
    }
}

#[test]
fn a_full_prefilter_grows_and_then_rules_out_strangers_again() {
    require_root!();
    let mut bench = Bench::new(ENTRIES[0]);
    let strangers = |bench: &Bench| {
        (1..=200u32)
            .filter(|n| bench.programs.maps.possible(&address(&format!("192.0.2.{n}"))).single)
            .count()
    };
    assert!(!bench.programs.maps.keep_prefilter().expect("PREFILTER"), "there is nothing to do");
    for n in 0..20_000u32 {
        let at = std::net::Ipv4Addr::from(0x0a00_0000 + n * 3).to_string();
        bench.host(address(&at), policy(1, modes::IP));
    }
    let before = strangers(&bench);
    assert!(before > 50, "only {before}: it was not full");
    assert_told_fill_is_met(&bench);
    assert!(bench.programs.maps.keep_prefilter().expect("PREFILTER"));
    let after = strangers(&bench);
    assert!(after < 20, "{after} of 200");
    assert!(!bench.programs.maps.keep_prefilter().expect("PREFILTER"), "once is enough");
    assert_told_fill_is_met(&bench);
    for n in (0..20_000u32).step_by(997) {
        let at = std::net::Ipv4Addr::from(0x0a00_0000 + n * 3).to_string();
        assert_eq!(bench.check(&at, &from(&at)).reason, Reason::IpMatch);
    }
}

/// The table is made for what was there when it was begun.
#[test]
fn what_comes_while_it_is_filled_makes_it_grow_the_next_time() {
    require_root!();
    let bench = Bench::new(ENTRIES[0]);
    let maps = &bench.programs.maps;
    let nets: Vec<Address> = (0..1_000_u32)
        .map(|n| Address::from_v4((0x0a00_0000 + (n << 16)).to_be()))
        .collect();
    for round in 0..8 {
        maps.renew_prefilter().expect("PREFILTER");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for net in &nets {
                    maps.put_net(net, 96 + 16, &policy(1, modes::IP)).expect("NETS_V4");
                }
            });
            while !writer.is_finished() {
                maps.renew_prefilter().expect("PREFILTER");
            }
        });
        maps.keep_prefilter().expect("PREFILTER");
        let fill = maps.prefilter_fill();
        assert!(fill.bits < 0.4, "{fill:?} in round {round}");
        assert!(!maps.keep_prefilter().expect("PREFILTER"), "once is enough");
        for net in &nets {
            assert!(maps.delete_net(net, 96 + 16).expect("NETS_V4"));
        }
    }
}

/// Of many strangers as large a share is looked up as is told.
fn assert_told_fill_is_met(bench: &Bench) {
    const MANY: u32 = 20_000;
    let maps = &bench.programs.maps;
    let met = (0..MANY)
        .filter(|n| {
            maps.possible(&address(&std::net::Ipv4Addr::from(0xac10_0000 + n).to_string()))
                .single
        })
        .count();
    let (fill, met) = (maps.prefilter_fill(), met as f64 / f64::from(MANY));
    assert!((fill.address - met).abs() < 0.01 + met / 10.0, "{fill:?}, met {met}");
    assert!(fill.address < fill.bits && fill.bits < 1.0, "{fill:?}");
    assert!(fill.prefix.abs() < f64::EPSILON, "there is no prefix: {fill:?}");
}

#[test]
fn a_suspended_prefilter_rules_nobody_out_until_it_is_filled_anew() {
    require_root!();
    let mut bench = Bench::new(ENTRIES[0]);
    populate(&mut bench);
    let (stranger, known) = (address("198.51.100.9"), address("203.0.113.1"));
    assert_eq!(bench.programs.maps.possible(&stranger), NOBODY);
    bench.programs.maps.suspend_prefilter();
    assert_eq!(bench.programs.maps.possible(&stranger), Possible::ALL);
    let fill = bench.programs.maps.prefilter_fill();
    assert!(fill.address.min(fill.prefix) > 0.99, "everybody is looked up: {fill:?}");
    assert!(!bench.programs.maps.keep_prefilter().expect("PREFILTER"), "not by itself");
    // What comes meanwhile sets no bits, and is found in the map.
    bench.host(address("198.51.100.10"), policy(8, modes::IP));
    for source in ["198.51.100.9", "198.51.100.10", "203.0.113.1"] {
        bench.check(source, &from(source));
    }
    bench.programs.maps.renew_prefilter().expect("PREFILTER");
    assert_eq!(bench.programs.maps.possible(&stranger), NOBODY);
    assert!(bench.programs.maps.possible(&known).single);
    assert!(bench.programs.maps.possible(&address("198.51.100.10")).single);
}
