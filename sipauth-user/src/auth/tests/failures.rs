//! Wrong passwords: who is locked out and banned, and above all who is not.

use std::time::Duration;

use crate::auth::{
    Action, Arrival, BanRequest, Outcome, Settings,
    testing::{Bench, Client, arrival, later, nonce_of, reply, request},
};

/// Nobody's listed address.
const HOME: &str = "100.64.0.1:5060";
const LISTED: &str = "192.0.2.7:5060";
const PEER: &str = "198.51.100.1:5060";

fn wrong() -> Client {
    Client {
        password: "wrong".into(),
        ..Client::default()
    }
}

fn stranger() -> Client {
    Client {
        username: "nobody".into(),
        ..Client::default()
    }
}

/// One attempt with a fresh nonce, or with none left where the source is locked out.
fn attempt(bench: &mut Bench, client: &Client, arrival: &Arrival, cseq: u32) -> (Action, Option<BanRequest>) {
    let challenge = bench.send_as(&request("INVITE", "", cseq, ""), arrival);
    if challenge.outcome() != Outcome::Challenged {
        return (challenge, bench.auth.take_ban());
    }
    let action = bench.send_as(&client.invite(&nonce_of(&challenge), cseq), arrival);
    (action, bench.auth.take_ban())
}

/// So many attempts; the outcomes and what bans they made due.
fn attempts(bench: &mut Bench, client: &Client, source: &str, count: u32) -> (Vec<Outcome>, Vec<BanRequest>) {
    let tried: Vec<_> = (0..count).map(|n| attempt(bench, client, &arrival(source), 10 + 2 * n)).collect();
    let outcomes = tried.iter().map(|(action, _)| action.outcome()).collect();
    (outcomes, tried.into_iter().filter_map(|(_, ban)| ban).collect())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_sixth_failure_is_answered_403_and_bans_the_port_for_three_minutes() {
    for client in [wrong(), stranger()] {
        let mut bench = Bench::new(Settings::default());
        let (outcomes, bans) = attempts(&mut bench, &client, HOME, 5);
        assert!(!outcomes.contains(&Outcome::LockedOut) && bans.is_empty(), "{outcomes:?} {bans:?}");
        let (action, ban) = attempt(&mut bench, &client, &arrival(HOME), 90);
        assert!(reply(&action).starts_with("SIP/2.0 403 "), "{}", reply(&action));
        let wanted = BanRequest {
            address: "100.64.0.1".parse().unwrap(),
            port: Some(5060),
            duration: seconds(180),
        };
        assert_eq!(ban, Some(wanted));
        // For the rest of the lock-out even the right password is of no use, and no second ban is asked for.
        let (action, ban) = attempt(&mut bench, &Client::default(), &arrival(HOME), 100);
        assert_eq!((action.outcome(), ban), (Outcome::LockedOut, None));
        assert!(reply(&action).starts_with("SIP/2.0 403 "));
        // Other ports and addresses go on.
        for other in ["100.64.0.1:5061", "100.64.0.2:5060"] {
            let (action, _) = attempt(&mut bench, &Client::default(), &arrival(other), 200);
            assert_eq!(action.outcome(), Outcome::Authenticated, "{other}");
        }
        bench.now = later(180_000);
        let (action, _) = attempt(&mut bench, &Client::default(), &arrival(HOME), 300);
        assert_eq!(action.outcome(), Outcome::Authenticated);
    }
}

#[test]
fn a_flood_with_a_false_address_gets_nobody_banned() {
    let mut bench = Bench::new(Settings::default());
    let (stale, issued_elsewhere) = {
        let stale = bench.nonce(HOME);
        bench.now = later(301_000);
        (stale, bench.nonce("100.64.0.99:5060"))
    };
    let guessed = "A".repeat(48);
    for n in 0..1_000 {
        // What the attacker can have: nonces that were issued to itself, made up, or overheard long ago.
        let nonce = [&issued_elsewhere, &guessed, &stale][n as usize % 3];
        for client in [wrong(), stranger(), Client::default()] {
            let action = bench.send(&client.invite(nonce, 10 + n), HOME);
            assert!(matches!(action.outcome(), Outcome::BadNonce | Outcome::StaleNonce), "{action:?}");
            assert_eq!(bench.auth.take_ban(), None);
        }
    }
    // Other faults of a request count as little, with a nonce that is genuine.
    let nonce = bench.nonce(HOME);
    for n in 0..100 {
        let client = Client {
            uri: "sip:else@192.0.2.1".into(),
            ..wrong()
        };
        assert_eq!(bench.send(&client.invite(&nonce, 2_000 + n), HOME).outcome(), Outcome::UriMismatch);
        assert_eq!(bench.auth.take_ban(), None);
    }
    assert_eq!(bench.auth.failures.len(), 0, "nothing is remembered");
    let (action, _) = attempt(&mut bench, &Client::default(), &arrival(HOME), 5_000);
    assert_eq!(action.outcome(), Outcome::Authenticated);
    // The control: the same requests with a nonce of this source do ban it.
    let (_, bans) = attempts(&mut bench, &wrong(), "100.64.0.5:5060", 6);
    assert_eq!(bans.len(), 1);
}

#[test]
fn a_retransmission_is_no_second_failure() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(HOME);
    let datagram = wrong().invite(&nonce, 10);
    for _ in 0..50 {
        assert_eq!(bench.send(&datagram, HOME).outcome(), Outcome::WrongPassword);
        assert_eq!(bench.auth.take_ban(), None);
    }
    // The control: another request with the same nonce is another failure.
    let outcomes: Vec<_> = (11..17).map(|n| bench.send(&wrong().invite(&nonce, n), HOME).outcome()).collect();
    assert_eq!(outcomes.last(), Some(&Outcome::LockedOut));
}

#[test]
fn failures_are_forgotten_one_in_each_period() {
    let mut bench = Bench::new(Settings::default());
    for n in 0..40 {
        bench.now = later(u64::from(n) * 180_000);
        let (action, ban) = attempt(&mut bench, &wrong(), &arrival(HOME), 10 + 2 * n);
        assert_eq!((action.outcome(), ban), (Outcome::WrongPassword, None));
    }
}

#[test]
fn a_repeater_is_locked_out_twice_as_long_each_time_up_to_a_day() {
    let mut bench = Bench::new(Settings::default());
    let mut lengths = Vec::new();
    for _ in 0..12 {
        let (_, bans) = attempts(&mut bench, &wrong(), HOME, 6);
        let [ban] = bans[..] else { panic!("{bans:?}") };
        assert_eq!(ban.port, Some(5060), "one port is not the address's fault");
        lengths.push(ban.duration.as_secs());
        bench.now.0 += 1_000 * ban.duration.as_secs();
    }
    assert_eq!(lengths[..4], [180, 360, 720, 1_440]);
    assert_eq!(lengths[9..], [86_400; 3]);
    bench.now.0 += 24 * 3_600 * 1_000;
    assert_eq!(attempts(&mut bench, &wrong(), HOME, 6).1[0].duration, seconds(180));
}

#[test]
fn three_ports_make_it_the_addresss_fault() {
    let mut bench = Bench::new(Settings::default());
    let mut banned = Vec::new();
    for (port, user) in [(1001, "a"), (1002, "b"), (1003, "c")] {
        let client = Client {
            username: user.into(),
            ..Client::default()
        };
        banned.extend(attempts(&mut bench, &client, &format!("100.64.0.1:{port}"), 6).1);
    }
    let ports: Vec<_> = banned.iter().map(|ban| ban.port).collect();
    assert_eq!(ports, [Some(1001), Some(1002), None]);
    let (action, _) = attempt(&mut bench, &Client::default(), &arrival("100.64.0.1:5060"), 500);
    assert_eq!(action.outcome(), Outcome::LockedOut);
    let (action, _) = attempt(&mut bench, &Client::default(), &arrival("100.64.0.2:5060"), 500);
    assert_eq!(action.outcome(), Outcome::Authenticated);
}

#[test]
fn an_address_where_a_password_was_proven_is_not_banned_as_a_whole() {
    let mut bench = Bench::new(Settings::default());
    assert_eq!(
        attempt(&mut bench, &Client::default(), &arrival(HOME), 1).0.outcome(),
        Outcome::Authenticated
    );
    for port in 1_001..1_020 {
        let client = Client {
            username: format!("user{port}"),
            ..Client::default()
        };
        let (_, bans) = attempts(&mut bench, &client, &format!("100.64.0.1:{port}"), 6);
        assert_eq!(bans.iter().map(|ban| ban.port).collect::<Vec<_>>(), [Some(port)]);
    }
    let (action, _) = attempt(&mut bench, &Client::default(), &arrival(HOME), 900);
    assert_eq!(action.outcome(), Outcome::Authenticated);
}

#[test]
fn who_changes_ports_is_stopped_by_name_and_address() {
    let mut bench = Bench::new(Settings::default());
    let mut last = None;
    for port in 1_001..1_019 {
        let (action, ban) = attempt(&mut bench, &wrong(), &arrival(&format!("100.64.0.1:{port}")), port);
        last = Some((reply(&action)[8..11].to_owned(), ban.map(|ban| ban.port)));
    }
    assert_eq!(last, Some(("403".to_owned(), Some(None))), "the eighteenth");
    // The name is good everywhere else, and for who has a flow.
    for (source, trusted, outcome) in [
        ("100.64.0.2:5060", false, Outcome::Authenticated),
        ("100.64.0.1:5060", true, Outcome::Authenticated),
        ("100.64.0.1:5060", false, Outcome::LockedOut),
    ] {
        let arrival = Arrival {
            trusted,
            ..arrival(source)
        };
        assert_eq!(
            attempt(&mut bench, &Client::default(), &arrival, 900).0.outcome(),
            outcome,
            "{source}"
        );
    }
}

#[test]
fn listed_addresses_and_live_flows_are_never_banned_but_guessing_is_slowed() {
    for (source, trusted) in [(LISTED, false), (HOME, true)] {
        let mut bench = Bench::new(Settings::default());
        let arrival = Arrival {
            trusted,
            ..arrival(source)
        };
        for n in 0..60 {
            let (action, ban) = attempt(&mut bench, &wrong(), &arrival, 10 + 2 * n);
            assert_eq!(ban, None);
            let wanted = if n < 18 { Outcome::WrongPassword } else { Outcome::LockedOut };
            assert_eq!(action.outcome(), wanted, "attempt {n}");
        }
        let other = Client {
            username: "gw3".into(),
            password: "third".into(),
            ..Client::default()
        };
        bench.book.add("gw3", 3, "third", &[]);
        assert_eq!(attempt(&mut bench, &other, &arrival, 900).0.outcome(), Outcome::Authenticated);
    }
}

#[test]
fn a_peer_may_not_even_try() {
    let mut bench = Bench::new(Settings::default());
    let (outcomes, bans) = attempts(&mut bench, &wrong(), PEER, 10);
    assert_eq!((outcomes, bans), (vec![Outcome::PeerInitial; 10], vec![]));
}

#[test]
fn a_limit_of_zero_bans_nobody() {
    let mut bench = Bench::new(Settings {
        failure_limit: 0,
        ..Settings::default()
    });
    let (outcomes, bans) = attempts(&mut bench, &wrong(), HOME, 100);
    assert_eq!((outcomes, bans), (vec![Outcome::WrongPassword; 100], vec![]));
}

#[test]
fn lifting_a_ban_forgets_the_failures() {
    let mut bench = Bench::new(Settings::default());
    attempts(&mut bench, &wrong(), HOME, 6);
    bench.auth.pardon(Some("100.64.0.1".parse().unwrap()));
    assert_eq!(
        attempt(&mut bench, &Client::default(), &arrival(HOME), 900).0.outcome(),
        Outcome::Authenticated
    );
}

#[test]
fn a_clock_that_steps_neither_locks_for_ever_nor_panics() {
    let mut bench = Bench::new(Settings::default());
    attempts(&mut bench, &wrong(), HOME, 6);
    bench.now.0 -= 10 * 24 * 3_600 * 1_000;
    assert_eq!(
        attempt(&mut bench, &Client::default(), &arrival(HOME), 900).0.outcome(),
        Outcome::Authenticated
    );
    attempts(&mut bench, &wrong(), HOME, 6);
    bench.now.0 += 1_000 * 24 * 3_600 * 1_000;
    assert_eq!(
        attempt(&mut bench, &Client::default(), &arrival(HOME), 902).0.outcome(),
        Outcome::Authenticated
    );
}

#[test]
fn memory_is_bounded_whoever_fails() {
    let mut bench = Bench::new(Settings {
        failure_capacity: 50,
        ..Settings::default()
    });
    for n in 0..500 {
        attempt(&mut bench, &wrong(), &arrival(&format!("[2001:db8:{n:x}::1]:5060")), n);
    }
    assert!(bench.auth.failures.len() <= 100, "{}", bench.auth.failures.len());
}
