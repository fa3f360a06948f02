//! Nonces that the kernel program made: here with the functions that it makes them with.

use std::{net::SocketAddr, sync::Arc};

use sipauth_common::{
    challenge::{self, hex},
    proof::USES,
};

use crate::auth::{
    Algorithm, Authenticator, DigestRules, NonceKeys, Outcome, Qop, Settings, Timestamp, Uses,
    testing::{Bench, Client, NOW, REALM, keys, later, reply, request, with_rules},
};

const SOURCE: &str = "192.0.2.200:5060";
/// Boot time, s; the run began at `NOW`.
const BOOT: u32 = 1_799_990_000;

fn bench() -> Bench {
    let mut bench = Bench::new(Settings::default());
    bench.auth = taking(NOW, Uses::apart());
    bench
}

/// With `MADE` nonces made.
fn taking(started: Timestamp, uses: Uses) -> Authenticator {
    uses.make(MADE);
    Authenticator::new(Arc::new(Settings::default()), &keys(), 3, started).with_kernel(uses)
}

const MADE: u64 = 10;

/// The `number`th, made `after` ms of the run.
fn nonce(after: u64, number: u32, source: &str) -> String {
    let clock = (NOW.0 + after - u64::from(BOOT) * 1_000) * 1_000_000;
    let run = u32::try_from(NOW.0 & 0xffff_ffff).unwrap();
    let nonce = challenge::Nonce::new(clock, number, BOOT, run);
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
    let one = nonce(1_000, 1, SOURCE);
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
    // Of the same moment.
    assert_eq!(outcome(&mut bench, &nonce(1_000, 2, SOURCE), 5, SOURCE), Outcome::Authenticated);
    bench.now = later(300_900);
    assert_eq!(
        outcome(&mut bench, &nonce(1_000, 3, SOURCE), 6, SOURCE),
        Outcome::Authenticated,
        "the last moment"
    );
    bench.now = later(302_000);
    let action = bench.send(&Client::default().invite(&nonce(1_000, 4, SOURCE), 7), SOURCE);
    assert_eq!(action.outcome(), Outcome::StaleNonce);
    assert!(reply(&action).contains("stale=true"));
}

#[test]
fn a_retransmission_is_one_for_as_long_as_of_any_nonce() {
    for (ms, expected) in [
        (31_900, Outcome::Retransmission),
        (32_100, Outcome::Replayed),
        (4_600_000_000, Outcome::StaleNonce),
    ] {
        let mut bench = bench();
        let one = nonce(1_000, 1, SOURCE);
        bench.now = later(2_000);
        assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
        bench.now = later(2_000 + ms);
        assert_eq!(outcome(&mut bench, &one, 2, SOURCE), expected, "{ms}");
        // From another port it is another datagram.
        bench.now = later(3_000);
        assert_eq!(outcome(&mut bench, &one, 2, "192.0.2.200:5061"), Outcome::Replayed);
    }
}

#[test]
fn what_is_used_is_known_to_all_and_what_may_be_forgotten_is_stale() {
    let uses = Uses::apart();
    let mut bench = bench();
    bench.auth = taking(NOW, uses.clone());
    bench.now = later(2_000);
    let one = nonce(1_000, 1, SOURCE);
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
    // Another authenticator, or the kernel program.
    bench.auth = taking(NOW, uses.clone());
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Retransmission);
    assert_eq!(outcome(&mut bench, &one, 3, SOURCE), Outcome::Replayed);
    uses.make(u64::from(USES));
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::StaleNonce);
    assert_eq!(
        outcome(&mut bench, &nonce(1_000, 5, SOURCE), 4, SOURCE),
        Outcome::StaleNonce,
        "though unused"
    );
    assert_eq!(outcome(&mut bench, &nonce(1_000, USES, SOURCE), 5, SOURCE), Outcome::Authenticated);
}

#[test]
fn with_one_time_nonces_no_further_count_is_good() {
    let mut bench = Bench::new(with_rules(DigestRules {
        one_time_nonces: true,
        ..DigestRules::default()
    }));
    let uses = Uses::apart();
    uses.make(MADE);
    let settings = Arc::clone(&bench.auth.settings);
    bench.auth = Authenticator::new(settings, &keys(), 3, NOW).with_kernel(uses);
    bench.now = later(2_000);
    let one = nonce(1_000, 1, SOURCE);
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
    let next = Client {
        nc: 2,
        ..Client::default()
    };
    let action = bench.send(&next.invite(&one, 4), SOURCE);
    assert!(reply(&action).contains("stale=true"));
}

#[test]
fn the_kernel_program_hears_of_callers_that_it_can_understand() {
    let rules = |change: fn(&mut DigestRules)| {
        let mut rules = DigestRules::default();
        change(&mut rules);
        with_rules(rules)
    };
    let client = Client::default;
    let both = || {
        rules(|rules| {
            rules.qop = Qop::Both;
            rules.algorithms = vec![Algorithm::Md5, Algorithm::Sha256];
            rules.accept_without_qop = true;
        })
    };
    for (what, settings, client, told) in [
        ("usual", Settings::default(), client(), true),
        ("one of several", both(), client(), true),
        (
            "with integrity",
            both(),
            Client {
                qop: Some("auth-int"),
                ..client()
            },
            false,
        ),
        ("without qop", both(), Client { qop: None, ..client() }, false),
        (
            "another algorithm",
            both(),
            Client {
                algorithm: Algorithm::Sha256,
                ..client()
            },
            false,
        ),
        (
            "with the realm in the name",
            Settings::default(),
            Client {
                username: format!("gw1@{REALM}"),
                ..client()
            },
            false,
        ),
    ] {
        let mut bench = Bench::new(settings);
        let nonce = bench.nonce(SOURCE);
        let action = bench.send(&client.invite(&nonce, 2), SOURCE);
        assert_eq!(action.outcome(), Outcome::Authenticated, "{what}");
        assert_eq!(bench.caller.is_some(), told, "{what}");
        if let Some(caller) = bench.caller {
            assert_eq!((caller.gateway, &caller.username.bytes[..4]), (1, &b"gw1\0"[..]));
            assert!(!format!("{caller:?}").contains("gw1"));
        }
    }
    // What it is not to check, though the password is right.
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    let register = request("REGISTER", "", 2, &Client::default().line("REGISTER", &nonce));
    assert_eq!(bench.send(&register, SOURCE).outcome(), Outcome::Authenticated);
    assert!(bench.caller.is_none());
    let nonce = bench.nonce(SOURCE);
    bench.book.accounts.get_mut(&b"gw1"[..]).unwrap().rules = Some(Arc::default());
    assert_eq!(
        bench.send(&Client::default().invite(&nonce, 3), SOURCE).outcome(),
        Outcome::Authenticated
    );
    assert!(bench.caller.is_none(), "an account with rules of its own");
}

#[test]
fn a_forged_or_rewritten_one_is_not_genuine() {
    let mut bench = bench();
    bench.now = later(2_000);
    let one = nonce(1_000, 1, SOURCE);
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
    let one = nonce(1_000, 1, SOURCE);
    let mut bench = bench();
    bench.now = later(2_000);
    bench.auth = taking(later(1), Uses::apart());
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::StaleNonce);
    bench.auth = Authenticator::new(Arc::new(Settings::default()), &keys(), 3, NOW);
    assert_eq!(
        outcome(&mut bench, &one, 2, SOURCE),
        Outcome::StaleNonce,
        "where only own nonces are taken"
    );
    bench.auth = taking(NOW, Uses::apart());
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
}

#[test]
fn other_keys_cut_nobody_off_and_the_next_ones_do() {
    let one = nonce(1_000, 1, SOURCE);
    let mut bench = bench();
    bench.now = later(2_000);
    let rotated = |current: u8, previous: u8| NonceKeys {
        current: [current; 32],
        previous: Some([previous; 32]),
    };
    bench.auth.rekey(&rotated(8, 7));
    assert_eq!(outcome(&mut bench, &one, 2, SOURCE), Outcome::Authenticated);
    bench.auth.rekey(&rotated(9, 8));
    assert_eq!(outcome(&mut bench, &nonce(1_001, 2, SOURCE), 3, SOURCE), Outcome::BadNonce);
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
    let given = Authenticator::of_kernel(&settings, REALM, &keys(), NOW, BOOT).unwrap();
    let text = |bytes: &[u8], len: u64| String::from_utf8(bytes[..usize::try_from(len).unwrap()].to_vec()).unwrap();
    assert!(own.starts_with(&text(&given.status.bytes, given.status.len)));
    let before = text(&given.before.bytes, given.before.len);
    let behind = text(&given.behind.bytes, given.behind.len);
    let realm = before.get(usize::try_from(given.realm_at).unwrap()..).unwrap();
    assert!(realm.starts_with(&format!("{REALM}\"")), "{realm}");
    assert_eq!(u64::from(given.lifetime), (300_u64 * 1_000_000_000) >> challenge::Nonce::TICK);
    assert!(before.ends_with("nonce=\"") && behind.starts_with('"'), "{before}{behind}");
    assert!(own.contains(&before) && own.ends_with(&behind), "{own}\n{before}\n{behind}");
}
