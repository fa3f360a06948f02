//! Nonces that the kernel program made: here with the functions that it makes them with.

use std::{net::SocketAddr, sync::Arc};

use sipauth_common::challenge::{self, hex};

use crate::auth::{
    Authenticator, NonceKeys, Outcome, Settings, Timestamp,
    testing::{Bench, Client, NOW, keys, later, reply, request},
};

const SOURCE: &str = "192.0.2.200:5060";
/// Boot time, s; the run began at `NOW`.
const BOOT: u32 = 1_799_990_000;

fn bench() -> Bench {
    let mut bench = Bench::new(Settings::default());
    bench.auth = taking(NOW);
    bench
}

fn taking(started: Timestamp) -> Authenticator {
    Authenticator::new(Arc::new(Settings::default()), &keys(), 3, started).with_kernel()
}

/// Made `after` ms of the run.
fn nonce(after: u64, cpu: u32, source: &str) -> String {
    let clock = (NOW.0 + after - u64::from(BOOT) * 1_000) * 1_000_000;
    let run = u32::try_from(NOW.0 & 0xffff_ffff).unwrap();
    let nonce = challenge::Nonce::new(clock, cpu, BOOT, run);
    let source: SocketAddr = source.parse().unwrap();
    let mac = nonce.mac(keys().of_kernel(), &source.ip().into());
    let word = |word: u64| {
        let halves = [u32::try_from(word >> 32).unwrap(), u32::try_from(word & 0xffff_ffff).unwrap()];
        String::from_utf8(halves.map(|half| hex(half).to_le_bytes()).concat()).unwrap()
    };
    format!("k{}{}{}", word(nonce.serial), word(nonce.run), word(mac))
}

fn outcome(bench: &mut Bench, nonce: &str, cseq: u32, source: &str) -> Outcome {
    bench.send(&Client::default().invite(nonce, cseq), source).outcome()
}

#[test]
fn it_is_good_once_for_each_count_at_its_source_and_as_long_as_any() {
    let mut bench = bench();
    let one = nonce(1_000, 0, SOURCE);
    bench.now = later(2_000);
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Retransmission);
    assert_eq!(outcome(&mut bench, &one, 3, SOURCE), Outcome::Replayed);
    let next = Client {
        nc: 2,
        ..Client::default()
    };
    assert_eq!(bench.send(&next.invite(&one, 4), SOURCE).outcome(), Outcome::Authenticated);
    assert_eq!(outcome(&mut bench, &one, 2, "192.0.2.201:5060"), Outcome::BadNonce);
    // Of the same moment, by another CPU.
    assert_eq!(outcome(&mut bench, &nonce(1_000, 1, SOURCE), 5, SOURCE), Outcome::Authenticated);
    bench.now = later(301_000);
    assert_eq!(
        outcome(&mut bench, &nonce(1_000, 2, SOURCE), 6, SOURCE),
        Outcome::Authenticated,
        "the last moment"
    );
    bench.now = later(302_000);
    let action = bench.send(&Client::default().invite(&nonce(1_000, 3, SOURCE), 7), SOURCE);
    assert_eq!(action.outcome(), Outcome::StaleNonce);
    assert!(reply(&action).contains("stale=true"));
}

#[test]
fn a_forged_or_rewritten_one_is_not_genuine() {
    let mut bench = bench();
    bench.now = later(2_000);
    let one = nonce(1_000, 0, SOURCE);
    for at in 0..one.len() {
        for other in ['0', '1', 'g', 'F', '+', ' '] {
            let mut text: Vec<char> = one.chars().collect();
            if text[at] == other {
                continue;
            }
            text[at] = other;
            let forged: String = text.into_iter().collect();
            assert_eq!(outcome(&mut bench, &forged, 2, SOURCE), Outcome::BadNonce, "{forged}");
        }
    }
    assert_eq!(outcome(&mut bench, &one.to_uppercase(), 2, SOURCE), Outcome::BadNonce);
    assert_eq!(outcome(&mut bench, &one.replace('k', "k "), 2, SOURCE), Outcome::BadNonce);
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated, "the one itself");
}

#[test]
fn one_of_an_earlier_run_or_over_another_transport_is_stale() {
    let one = nonce(1_000, 0, SOURCE);
    let mut bench = bench();
    bench.now = later(2_000);
    bench.auth = taking(later(1));
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::StaleNonce);
    bench.auth = Authenticator::new(Arc::new(Settings::default()), &keys(), 3, NOW);
    assert_eq!(
        outcome(&mut bench, &one, 2, SOURCE),
        Outcome::StaleNonce,
        "where only own nonces are taken"
    );
    bench.auth = taking(NOW);
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
}

#[test]
fn other_keys_cut_nobody_off_and_the_next_ones_do() {
    let one = nonce(1_000, 0, SOURCE);
    let mut bench = bench();
    bench.now = later(2_000);
    let rotated = |current: u8, previous: u8| NonceKeys {
        current: [current; 32],
        previous: Some([previous; 32]),
    };
    bench.auth.rekey(&rotated(8, 7));
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
    bench.auth.rekey(&rotated(9, 8));
    assert_eq!(outcome(&mut bench, &nonce(1_001, 0, SOURCE), 3, SOURCE), Outcome::BadNonce);
}

#[test]
fn an_ack_to_a_challenge_of_the_kernel_program_ends_at_the_agent_too() {
    let mut bench = bench();
    let mark = String::from_utf8(keys().mark().to_vec()).unwrap();
    let ack = |tag: &str| request("ACK", &format!(";tag={tag}"), 1, "");
    assert_eq!(
        bench.send(&ack(&format!("sa-{mark}0123456789abcdef")), SOURCE).outcome(),
        Outcome::AckAbsorbed
    );
    for other in [
        "sa-0badcafe0123456789abcdef".to_owned(),
        format!("sa-{mark}0123456789abcde"),
        format!("sb-{mark}0123456789abcdef"),
    ] {
        assert_eq!(bench.send(&ack(&other), SOURCE).outcome(), Outcome::AckNoFlow, "{other}");
    }
}

#[test]
fn what_the_kernel_program_gets_makes_the_challenge_that_the_agent_makes() {
    let settings = Settings::default();
    let mut bench = Bench::new(Settings::default());
    let own = reply(&bench.send(&request("INVITE", "", 1, ""), SOURCE));
    let given = Authenticator::of_kernel(&settings, crate::auth::testing::REALM, &keys(), NOW, BOOT).unwrap();
    let text = |bytes: &[u8], len: u64| String::from_utf8(bytes[..usize::try_from(len).unwrap()].to_vec()).unwrap();
    assert!(own.starts_with(&text(&given.status.bytes, given.status.len)));
    let before = text(&given.before.bytes, given.before.len);
    let behind = text(&given.behind.bytes, given.behind.len);
    assert!(before.ends_with("nonce=\"") && behind.starts_with('"'), "{before}{behind}");
    assert!(own.contains(&before) && own.ends_with(&behind), "{own}\n{before}\n{behind}");
}
