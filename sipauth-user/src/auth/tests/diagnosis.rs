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

/// The fields of a client's credentials that are judged wrong, and those that cannot be judged.
fn judged(bench: &mut Bench, client: &Client, nonce: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let datagram = client.invite(nonce, 2);
    let outcome = bench.send(&datagram, SOURCE).outcome();
    let message = crate::sip::Message::parse(&datagram).unwrap();
    let judgement = bench
        .auth
        .judge(&message, &crate::auth::testing::arrival(SOURCE), outcome, &bench.book, bench.now);
    let text = format!("{judgement:?}");
    assert!(!text.contains(nonce) && !text.contains("secret"), "{text}");
    let with = |wanted| {
        let fields = judgement.fields.iter().filter(|field| field.right == wanted);
        fields.map(|field| field.field).collect::<Vec<_>>()
    };
    (with(Some(false)), with(None))
}

#[test]
fn each_field_is_judged_whatever_the_others_are() {
    let client = Client::default;
    for (client, wrong, unknown) in [
        (client(), vec![], vec![]),
        (
            Client {
                password: "guess".into(),
                ..client()
            },
            vec!["response"],
            vec![],
        ),
        (
            Client {
                realm: "asterisk".into(),
                ..client()
            },
            vec!["realm", "response"],
            vec![],
        ),
        (
            Client {
                uri: "sip:9@192.0.2.1".into(),
                password: "guess".into(),
                ..client()
            },
            vec!["uri", "response"],
            vec![],
        ),
        (
            Client {
                username: "nobody".into(),
                ..client()
            },
            vec!["username"],
            vec!["response"],
        ),
        (
            Client {
                algorithm: Algorithm::Sha256,
                ..client()
            },
            vec!["algorithm"],
            vec!["response"],
        ),
        (Client { qop: None, ..client() }, vec!["qop"], vec![]),
        (Client { nc: 0, ..client() }, vec![], vec!["nc", "response"]),
    ] {
        let mut bench = Bench::new(Settings::default());
        let nonce = bench.nonce(SOURCE);
        assert_eq!(judged(&mut bench, &client, &nonce), (wrong, unknown));
    }
}

#[test]
fn a_nonce_is_judged_by_who_got_it_and_when() {
    let mut bench = Bench::new(Settings::default());
    let others = bench.nonce("192.0.2.201:5060");
    let nonce = bench.nonce(SOURCE);
    assert_eq!(judged(&mut bench, &Client::default(), &others).0, ["nonce"]);
    bench.now = later(412_000);
    assert_eq!(judged(&mut bench, &Client::default(), &nonce).0, ["nonce"], "expired");
    let again = bench.nonce(SOURCE);
    assert_eq!(judged(&mut bench, &Client::default(), &again).0, [""; 0]);
    let mut other = Client::default().invite(&again, 3);
    other.extend_from_slice(b"x");
    let outcome = bench.send(&other, SOURCE).outcome();
    assert_eq!(outcome, Outcome::Replayed);
}
