//! Rules of single gateways: the source decides what is offered, the account what of it is accepted.

use std::{sync::Arc, time::Duration};

use crate::auth::{
    Algorithm, DigestRules, Outcome, Qop, Settings, UriMatch,
    testing::{Bench, Client, URI, later, nonce_of, reply, request},
};

const SOURCE: &str = "198.18.0.9:5060";

/// A bench in which the account `gw1` has these rules, and every source is offered `offer`.
fn bench(offer: Option<DigestRules>, account: DigestRules) -> Bench {
    let mut bench = Bench::new(Settings::default());
    bench.book.offered = offer;
    if let Some(gw1) = bench.book.accounts.get_mut("gw1".as_bytes()) {
        gw1.rules = Some(Arc::new(account));
    }
    bench
}

fn attempt(bench: &mut Bench, client: &Client) -> Outcome {
    let nonce = bench.nonce(SOURCE);
    bench.send(&client.invite(&nonce, 2), SOURCE).outcome()
}

fn sha256() -> DigestRules {
    DigestRules {
        algorithms: vec![Algorithm::Sha256],
        ..DigestRules::default()
    }
}

fn with(algorithm: Algorithm) -> Client {
    Client {
        algorithm,
        ..Client::default()
    }
}

#[test]
fn a_source_with_rules_of_its_own_is_challenged_by_them() {
    let own = DigestRules {
        proxy: true,
        qop: Qop::Both,
        ..sha256()
    };
    let mut bench = bench(Some(own.clone()), own);
    let text = reply(&bench.send(&request("INVITE", "", 1, ""), SOURCE));
    assert!(text.starts_with("SIP/2.0 407 "), "{text}");
    assert!(text.contains("algorithm=SHA-256, qop=\"auth,auth-int\"\r\n"), "{text}");
    assert_eq!(attempt(&mut bench, &with(Algorithm::Sha256)), Outcome::Authenticated);
    assert_eq!(
        attempt(&mut bench, &with(Algorithm::Md5)),
        Outcome::AlgorithmMismatch,
        "a downgrade"
    );
}

#[test]
fn an_account_takes_nothing_that_its_rules_leave_out_though_it_was_offered() {
    let both = DigestRules {
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        qop: Qop::Both,
        ..DigestRules::default()
    };
    let mut bench = bench(Some(both), sha256());
    assert_eq!(attempt(&mut bench, &with(Algorithm::Sha256)), Outcome::Authenticated);
    assert_eq!(attempt(&mut bench, &with(Algorithm::Md5)), Outcome::AlgorithmMismatch);
    let integrity = Client {
        qop: Some("auth-int"),
        ..with(Algorithm::Sha256)
    };
    assert_eq!(attempt(&mut bench, &integrity), Outcome::QopMismatch);
}

#[test]
fn what_no_challenge_shows_an_account_can_allow() {
    let old = Client {
        qop: None,
        ..Client::default()
    };
    let port = Client {
        uri: format!("{URI}:5070"),
        ..Client::default()
    };
    let lenient = DigestRules {
        accept_without_qop: true,
        uri_match: UriMatch::Loose,
        ..DigestRules::default()
    };
    for (rules, expected) in [
        (DigestRules::default(), [Outcome::QopMismatch, Outcome::UriMismatch]),
        (lenient, [Outcome::Authenticated, Outcome::Authenticated]),
    ] {
        let mut bench = bench(None, rules);
        assert_eq!([&old, &port].map(|client| attempt(&mut bench, client)), expected);
    }
}

#[test]
fn a_shorter_lifetime_of_the_account_makes_a_nonce_stale_but_only_for_who_knows_the_password() {
    let mut bench = bench(
        None,
        DigestRules {
            nonce_lifetime: Duration::from_secs(10),
            ..DigestRules::default()
        },
    );
    let nonce = bench.nonce(SOURCE);
    bench.now = later(10_001);
    let guess = Client {
        password: "guess".into(),
        ..Client::default()
    };
    assert_eq!(bench.send(&guess.invite(&nonce, 2), SOURCE).outcome(), Outcome::WrongPassword);
    let action = bench.send(&Client::default().invite(&nonce, 3), SOURCE);
    assert_eq!(action.outcome(), Outcome::StaleNonce);
    let fresh = nonce_of(&action);
    assert_eq!(
        bench.send(&Client::default().invite(&fresh, 4), SOURCE).outcome(),
        Outcome::Authenticated
    );
}

/// Were a mismatch with the rules of an account answered otherwise than an unknown user, the answers would tell who exists.
#[test]
fn the_answers_to_any_client_are_the_same_whether_the_user_exists_or_not() {
    let clients = [
        with(Algorithm::Md5),
        with(Algorithm::Sha256),
        Client {
            qop: None,
            ..Client::default()
        },
        Client {
            uri: format!("{URI};user=phone"),
            ..Client::default()
        },
        Client {
            realm: "elsewhere".into(),
            ..Client::default()
        },
    ];
    for client in clients {
        let answers = |username: &str| {
            let mut bench = bench(None, sha256());
            let client = Client {
                username: username.into(),
                password: "guess".into(),
                ..client.clone()
            };
            (0..8)
                .map(|turn| {
                    let nonce = nonce_of_challenge(&mut bench);
                    let Some(nonce) = nonce else { return "403".to_owned() };
                    bench.now = later(turn);
                    let action = bench.send(&client.invite(&nonce, 2), SOURCE);
                    reply(&action)[..12].to_owned()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            answers("gw1"),
            answers("nobody"),
            "{:?} {:?} {}",
            client.algorithm,
            client.qop,
            client.uri
        );
    }
}

/// `None` once the source is locked out.
fn nonce_of_challenge(bench: &mut Bench) -> Option<String> {
    let action = bench.send(&request("INVITE", "", 1, ""), SOURCE);
    (action.outcome() == Outcome::Challenged).then(|| nonce_of(&action))
}
