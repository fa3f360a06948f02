//! What a datagram costs in memory: nothing, in the long run, but room for the nonces that were used.

use std::{net::IpAddr, time::Duration};

use allocation_counter::measure;

use crate::auth::{
    Account, Action, Directory, Ha1, Outcome, Settings, Source,
    replay::{Replay, Term, Use},
    testing::{Bench, Client, NOW, REALM, arrival, nonce_of, request},
};

const SOURCE: &str = "192.0.2.200:5060";
const CALLS: u32 = 2_000;

/// One account, and every source may prove it.
struct One(Account);

impl Directory for One {
    fn account(&self, username: &[u8]) -> Option<&Account> {
        (username == b"gw1").then_some(&self.0)
    }

    fn source(&self, _: IpAddr) -> Source<'_> {
        Source {
            peer: false,
            password: true,
            listed: true,
            realm: REALM,
            rules: None,
        }
    }
}

fn one() -> One {
    One(Account {
        gateway: 1,
        realm: REALM.into(),
        ha1: Ha1::derive("gw1", REALM, "secret"),
        addresses: vec!["192.0.2.0/24".parse().unwrap()],
        rules: None,
    })
}

#[test]
fn a_challenge_has_the_room_of_the_one_before() {
    let (mut bench, book, arrival) = (Bench::new(Settings::default()), one(), arrival(SOURCE));
    let plain = request("INVITE", "", 1, "");
    let mut challenge = || {
        let action = bench.auth.handle(&plain, &arrival, &book, NOW);
        assert_eq!(action.outcome(), Outcome::Challenged);
        if let Action::Reply { response, .. } = action {
            bench.auth.reuse(response);
        }
    };
    challenge();
    let used = measure(|| (0..CALLS).for_each(|_| challenge()));
    assert_eq!(used.count_total, 0);
}

#[test]
fn a_verification_takes_room_for_the_used_nonce_only() {
    let (mut bench, book, arrival) = (Bench::new(Settings::default()), one(), arrival(SOURCE));
    let invites: Vec<Vec<u8>> = (1..=CALLS)
        .map(|cseq| {
            let challenge = bench.auth.handle(&request("INVITE", "", cseq, ""), &arrival, &book, NOW);
            // The server's own URI, as SIPp has it, takes the longer way of the comparison.
            let client = Client {
                uri: "sip:192.0.2.1".into(),
                ..Client::default()
            };
            client.invite(&nonce_of(&challenge), cseq)
        })
        .collect();
    let used = measure(|| {
        for invite in &invites {
            let action = bench.auth.handle(invite, &arrival, &book, NOW);
            assert_eq!(action.outcome(), Outcome::Authenticated);
        }
    });
    // A node of the tree has room for several.
    assert!(used.count_total <= u64::from(CALLS) / 4, "{used:?}");
    assert!(used.bytes_total <= u64::from(CALLS) * 256, "{used:?}");
}

#[test]
fn who_uses_each_nonce_many_times_gets_no_more_room_than_the_capacity() {
    const CAPACITY: usize = 1_000;
    let used = measure(|| {
        let mut replay = Replay::new(CAPACITY);
        let term = Term {
            issued: NOW,
            lifetime: Duration::from_secs(300),
            one_time: false,
        };
        for serial in 0..4 * CAPACITY as u64 {
            for count in 1..=20 {
                let print = u128::from(serial << 8 | u64::from(count)).to_le_bytes();
                assert_eq!(replay.commit(serial, term, count, print, NOW), Use::First);
            }
        }
        assert_eq!(replay.len(), CAPACITY);
    });
    assert!(used.bytes_max <= CAPACITY as u64 * 320, "{used:?}");
}
