use std::sync::Arc;

use crate::auth::{
    Action, Authenticator, DigestRules, FlowGrant, NonceKeys, Outcome, Qop, Settings,
    testing::{Bench, Client, NOW, keys, later, nonce_of, reply, with_rules},
};

const SOURCE: &str = "192.0.2.200:5060";

fn released() -> Action {
    Action::Release {
        flow: Some(FlowGrant {
            gateway: 1,
            lifetime: None,
            caller: None,
        }),
        outcome: Outcome::Authenticated,
    }
}

#[test]
fn a_nonce_expires_with_stale_and_the_next_one_works() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    bench.now = later(300_000);
    assert_eq!(
        bench.send(&Client::default().invite(&nonce, 2), SOURCE).outcome(),
        Outcome::Authenticated,
        "the last moment"
    );
    let nonce = bench.nonce(SOURCE);
    bench.now = later(600_001);
    let action = bench.send(&Client::default().invite(&nonce, 3), SOURCE);
    assert_eq!(action.outcome(), Outcome::StaleNonce);
    assert!(reply(&action).contains("stale=true"));
    let nonce = nonce_of(&action);
    assert_eq!(
        bench.send(&Client::default().invite(&nonce, 4), SOURCE).outcome(),
        Outcome::Authenticated
    );
}

#[test]
fn a_nonce_is_bound_to_the_address_but_not_to_the_port() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    let action = bench.send(&Client::default().invite(&nonce, 2), "192.0.2.201:5060");
    assert_eq!(action.outcome(), Outcome::BadNonce);
    assert!(!reply(&action).contains("stale"));
    assert_eq!(bench.send(&Client::default().invite(&nonce, 2), "192.0.2.200:61000"), released());
}

#[test]
fn a_forged_or_damaged_nonce_is_not_genuine() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    for at in 0..nonce.len() {
        let mut bytes = nonce.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).unwrap();
        assert_eq!(
            bench.send(&Client::default().invite(&forged, 2), SOURCE).outcome(),
            Outcome::BadNonce,
            "{at}"
        );
    }
    for odd in ["", "x", &nonce[1..], "dcd98b7102dd2f0e8b11d0f600bfb0c093"] {
        assert_eq!(bench.send(&Client::default().invite(odd, 2), SOURCE).outcome(), Outcome::BadNonce);
    }
}

#[test]
fn a_clock_that_steps_does_no_harm() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    assert_eq!(
        bench.send(&Client::default().invite(&nonce, 2), SOURCE).outcome(),
        Outcome::Authenticated
    );
    for now in [0, NOW.0 - 3_600_000, NOW.0 + 3_600_000, u64::MAX, NOW.0] {
        bench.now.0 = now;
        let seen = bench.send(&Client::default().invite(&nonce, 3), SOURCE).outcome();
        let expected = if now == NOW.0 { Outcome::Replayed } else { Outcome::StaleNonce };
        assert_eq!(seen, expected, "{now}");
        // And a fresh challenge works at once, at any time that 48 bits hold.
        if now < 1 << 48 {
            let fresh = bench.nonce(SOURCE);
            assert_eq!(
                bench.send(&Client::default().invite(&fresh, 4), SOURCE).outcome(),
                Outcome::Authenticated,
                "{now}"
            );
        }
        bench = Bench::new(Settings::default());
        assert_eq!(bench.nonce(SOURCE), nonce);
        assert_eq!(
            bench.send(&Client::default().invite(&nonce, 2), SOURCE).outcome(),
            Outcome::Authenticated
        );
    }
}

#[test]
fn nonces_of_another_worker_or_of_an_earlier_run_are_stale() {
    for (worker, started) in [(4, NOW), (3, later(1))] {
        let mut bench = Bench::new(Settings::default());
        let nonce = bench.nonce(SOURCE);
        bench.auth = Authenticator::new(Arc::new(Settings::default()), &keys(), worker, started);
        let action = bench.send(&Client::default().invite(&nonce, 2), SOURCE);
        assert_eq!(action.outcome(), Outcome::StaleNonce);
    }
}

#[test]
fn a_key_rotation_cuts_nobody_off_and_a_second_one_does() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    bench.auth.rekey(&NonceKeys {
        current: [8; 32],
        previous: Some([7; 32]),
    });
    assert_eq!(bench.send(&Client::default().invite(&nonce, 2), SOURCE), released());
    bench.auth.rekey(&NonceKeys {
        current: [9; 32],
        previous: Some([8; 32]),
    });
    assert_eq!(
        bench
            .send(
                &Client {
                    nc: 2,
                    ..Client::default()
                }
                .invite(&nonce, 3),
                SOURCE
            )
            .outcome(),
        Outcome::BadNonce
    );
}

#[test]
fn a_retransmission_is_released_again_and_any_other_use_is_a_replay() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    let invite = Client::default().invite(&nonce, 2);
    assert_eq!(bench.send(&invite, SOURCE), released());
    bench.now = later(31_000);
    let flow = Some(FlowGrant {
        gateway: 1,
        lifetime: None,
        caller: None,
    });
    assert_eq!(
        bench.send(&invite, SOURCE),
        Action::Release {
            flow,
            outcome: Outcome::Retransmission
        }
    );
    for (name, datagram, source) in [
        ("another port", invite.clone(), "192.0.2.200:5061"),
        ("another CSeq", Client::default().invite(&nonce, 3), SOURCE),
    ] {
        let action = bench.send(&datagram, source);
        assert_eq!(action.outcome(), Outcome::Replayed, "{name}");
        assert!(reply(&action).contains("stale=true"));
    }
    bench.now = later(33_000);
    assert_eq!(
        bench.send(&invite, SOURCE).outcome(),
        Outcome::Replayed,
        "after 64 T1 it is no retransmission"
    );
    assert_eq!(
        bench.send(
            &Client {
                nc: 2,
                ..Client::default()
            }
            .invite(&nonce, 4),
            SOURCE
        ),
        released()
    );
}

#[test]
fn counts_may_come_out_of_order_but_each_once() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    for (cseq, (nc, good)) in (2..).zip([
        (5, true),
        (3, true),
        (3, false),
        (200, true),
        (4, false),
        (137, true),
        (u32::MAX, true),
        (201, false),
    ]) {
        let outcome = bench
            .send(&Client { nc, ..Client::default() }.invite(&nonce, cseq), SOURCE)
            .outcome();
        assert_eq!(outcome, if good { Outcome::Authenticated } else { Outcome::Replayed }, "{nc}");
    }
}

#[test]
fn a_count_is_used_up_only_by_the_right_password() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    let guess = Client {
        password: "guess".into(),
        nc: u32::MAX,
        ..Client::default()
    };
    assert_eq!(bench.send(&guess.invite(&nonce, 2), SOURCE).outcome(), Outcome::WrongPassword);
    assert_eq!(bench.auth.replay.len(), 0);
    assert_eq!(bench.send(&Client::default().invite(&nonce, 3), SOURCE), released());
}

#[test]
fn without_qop_a_nonce_is_good_for_one_request() {
    let settings = with_rules(DigestRules {
        qop: Qop::None,
        ..DigestRules::default()
    });
    let mut bench = Bench::new(settings);
    let nonce = bench.nonce(SOURCE);
    let client = Client {
        qop: None,
        ..Client::default()
    };
    assert_eq!(bench.send(&client.invite(&nonce, 2), SOURCE), released());
    assert_eq!(bench.send(&client.invite(&nonce, 3), SOURCE).outcome(), Outcome::Replayed);
}

#[test]
fn a_full_replay_memory_forgets_no_use() {
    let mut bench = Bench::new(Settings {
        replay_capacity: 2,
        ..Settings::default()
    });
    let nonces: Vec<_> = (0..4).map(|_| bench.nonce(SOURCE)).collect();
    for (cseq, nonce) in (2..).zip(&nonces[1..]) {
        assert_eq!(bench.send(&Client::default().invite(nonce, cseq), SOURCE), released());
    }
    assert_eq!(bench.auth.replay.len(), 2);
    for (nonce, expected) in nonces
        .iter()
        .zip([Outcome::StaleNonce, Outcome::StaleNonce, Outcome::Replayed, Outcome::Replayed])
    {
        assert_eq!(bench.send(&Client::default().invite(nonce, 9), SOURCE).outcome(), expected);
    }
}

#[test]
fn a_one_time_nonce_is_good_for_one_request_and_its_retransmissions() {
    let mut bench = Bench::new(with_rules(DigestRules {
        one_time_nonces: true,
        ..DigestRules::default()
    }));
    let nonce = bench.nonce(SOURCE);
    let invite = Client::default().invite(&nonce, 2);
    assert_eq!(bench.send(&invite, SOURCE), released());
    assert_eq!(bench.send(&invite, SOURCE).outcome(), Outcome::Retransmission);
    let second = Client {
        nc: 2,
        ..Client::default()
    }
    .invite(&nonce, 3);
    let action = bench.send(&second, SOURCE);
    assert_eq!(action.outcome(), Outcome::StaleNonce);
    assert!(reply(&action).contains("stale=true"), "the client may go on with the new one");
    assert_eq!(
        bench.send(&Client::default().invite(&nonce, 4), SOURCE).outcome(),
        Outcome::Replayed
    );
}
