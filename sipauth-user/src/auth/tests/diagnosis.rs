//! What an operator is told of refused credentials.

use crate::auth::{
    Algorithm, Outcome, Settings,
    testing::{Bench, Client, URI, later, request},
};

const SOURCE: &str = "192.0.2.200:5060";

fn diagnosis(client: &Client) -> (Outcome, Option<u32>, String) {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    let refused = bench.send(&client.invite(&nonce, 2), SOURCE).outcome();
    let diagnosis = bench.auth.take_diagnosis().unwrap();
    assert_eq!(diagnosis.outcome, refused);
    assert!(bench.auth.take_diagnosis().is_none(), "told once");
    assert!(!diagnosis.detail.contains(&nonce) && !diagnosis.detail.contains("secret"));
    (refused, diagnosis.gateway, diagnosis.detail)
}

#[test]
fn every_cause_is_told_with_what_was_sent_and_what_was_expected() {
    let client = Client::default;
    for (client, outcome, gateway, words) in [
        (
            Client {
                realm: "asterisk".into(),
                ..client()
            },
            Outcome::RealmMismatch,
            Some(1),
            ["\"asterisk\"", "\"sip.example.com\""],
        ),
        (
            Client {
                algorithm: Algorithm::Sha256,
                ..client()
            },
            Outcome::AlgorithmMismatch,
            Some(1),
            ["\"SHA-256\"", "offered is MD5"],
        ),
        (
            Client {
                uri: format!("{URI}:5070"),
                ..client()
            },
            Outcome::UriMismatch,
            Some(1),
            [":5070\"", "--uri-match loose"],
        ),
        (
            Client {
                uri: "sip:9@192.0.2.1".into(),
                ..client()
            },
            Outcome::UriMismatch,
            Some(1),
            ["\"sip:9@192.0.2.1\"", "changes the request's URI"],
        ),
        (
            Client { qop: None, ..client() },
            Outcome::QopMismatch,
            Some(1),
            ["no qop", "--accept-without-qop"],
        ),
        (
            Client {
                username: "no\u{7}body".into(),
                ..client()
            },
            Outcome::UnknownUser,
            None,
            ["\"no.body\"", "no password gateway"],
        ),
        (
            Client {
                password: "guess".into(),
                ..client()
            },
            Outcome::WrongPassword,
            Some(1),
            ["\"gw1\"", "another password"],
        ),
        (Client { nc: 0, ..client() }, Outcome::BadCredentials, Some(1), ["nc", "wrong form"]),
    ] {
        let (refused, owner, detail) = diagnosis(&client);
        assert_eq!((refused, owner), (outcome, gateway), "{detail}");
        assert!(words.iter().all(|word| detail.contains(word)), "{outcome:?}: {detail}");
    }
}

#[test]
fn the_age_of_a_nonce_is_told() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    assert!(bench.auth.take_diagnosis().is_none(), "nothing is told of who sends no credentials");
    bench.now = later(412_000);
    bench.send(&Client::default().invite(&nonce, 2), SOURCE);
    let detail = bench.auth.take_diagnosis().unwrap().detail;
    assert!(detail.contains("412 s old") && detail.contains("good for 300 s"), "{detail}");
}

#[test]
fn a_flood_of_guesses_is_explained_for_a_few_only() {
    let mut bench = Bench::new(Settings::default());
    let guess = request("INVITE", "", 1, &Client::default().line("INVITE", "made-up"));
    let told = |bench: &mut Bench| {
        (0..1_000)
            .filter(|_| {
                bench.send(&guess, "198.18.0.1:5060");
                bench.auth.take_diagnosis().is_some()
            })
            .count()
    };
    assert_eq!(told(&mut bench), 50);
    bench.now = later(1_000);
    assert_eq!(told(&mut bench), 50, "in each second");
}
