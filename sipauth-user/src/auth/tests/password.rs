use std::time::Duration;

use crate::auth::{
    Action, Algorithm, DigestRules, FlowGrant, Outcome, Qop, Settings, UriMatch,
    testing::{Bench, Client, URI, nonce_of, reply, request, with_rules},
};

const SOURCE: &str = "192.0.2.200:5060";

fn granted(gateway: u32, lifetime: Option<Duration>) -> Action {
    Action::Release {
        flow: Some(FlowGrant {
            gateway,
            lifetime,
            caller: None,
        }),
        outcome: Outcome::Authenticated,
    }
}

/// Sends an INVITE with these credentials for a nonce of its own.
fn attempt(settings: Settings, client: &Client) -> Action {
    let mut bench = Bench::new(settings);
    let nonce = bench.nonce(SOURCE);
    bench.send(&client.invite(&nonce, 2), SOURCE)
}

#[test]
fn a_request_without_credentials_is_challenged_and_one_with_the_password_released() {
    let mut bench = Bench::new(Settings::default());
    let challenge = bench.send(&request("INVITE", "", 1, ""), SOURCE);
    let text = reply(&challenge);
    assert!(
        text.starts_with("SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-1;received=192.0.2.200;rport=5060\r\n")
    );
    let nonce = nonce_of(&challenge);
    let header = format!("\r\nWWW-Authenticate: Digest realm=\"sip.example.com\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"\r\n");
    assert!(text.contains(&header), "{text}");
    assert!(text.ends_with("\r\nServer: sipauth\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(bench.send(&Client::default().invite(&nonce, 2), SOURCE), granted(1, None));
}

#[test]
fn what_is_wrong_has_a_name_and_is_never_released() {
    let client = Client::default;
    for (change, expected) in [
        (
            Client {
                password: "guess".into(),
                ..client()
            },
            Outcome::WrongPassword,
        ),
        (
            Client {
                username: "nobody".into(),
                ..client()
            },
            Outcome::UnknownUser,
        ),
        (
            Client {
                realm: "elsewhere".into(),
                ..client()
            },
            Outcome::RealmMismatch,
        ),
        (
            Client {
                algorithm: Algorithm::Sha256,
                ..client()
            },
            Outcome::AlgorithmMismatch,
        ),
        (
            Client {
                uri: "sip:9@192.0.2.1".into(),
                ..client()
            },
            Outcome::UriMismatch,
        ),
        (Client { qop: None, ..client() }, Outcome::QopMismatch),
        (
            Client {
                qop: Some("auth-int"),
                ..client()
            },
            Outcome::QopMismatch,
        ),
        (Client { nc: 0, ..client() }, Outcome::BadCredentials),
        (
            Client {
                username: "gw\\\"1".into(),
                ..client()
            },
            Outcome::UnknownUser,
        ),
    ] {
        let action = attempt(Settings::default(), &change);
        assert_eq!(action.outcome(), expected);
        assert!(reply(&action).starts_with("SIP/2.0 401 "));
        assert!(!reply(&action).contains("stale"), "{expected:?}");
    }
    assert_eq!(
        attempt(Settings::default(), &client()),
        granted(1, None),
        "the control: nothing changed"
    );
}

#[test]
fn a_field_without_quotes_is_one_word_without_a_mark_that_readers_disagree_about() {
    for (username, expected) in [
        ("gw1", Outcome::Authenticated),
        (" gw1 ", Outcome::Authenticated),
        ("gw1\"", Outcome::BadCredentials),
        ("g\"w1", Outcome::BadCredentials),
        ("gw1 gw2", Outcome::BadCredentials),
        ("g\\w1", Outcome::BadCredentials),
    ] {
        let mut bench = Bench::new(Settings::default());
        let nonce = bench.nonce(SOURCE);
        let line = Client::default()
            .line("INVITE", &nonce)
            .replace("username=\"gw1\"", &format!("username={username}"));
        assert_eq!(
            bench.send(&request("INVITE", "", 2, &line), SOURCE).outcome(),
            expected,
            "{username}"
        );
    }
}

#[test]
fn an_unknown_user_gets_the_answer_of_a_wrong_password() {
    let answer = |client: Client| {
        let action = attempt(Settings::default(), &client);
        reply(&action).replace(&nonce_of(&action), "N")
    };
    let unknown = answer(Client {
        username: "gwX".into(),
        ..Client::default()
    });
    assert_eq!(
        unknown,
        answer(Client {
            password: "secreT".into(),
            ..Client::default()
        })
    );
}

#[test]
fn every_algorithm_and_protection_is_understood_when_it_is_offered() {
    for algorithm in Algorithm::ALL {
        for qop in [None, Some("auth"), Some("auth-int")] {
            let settings = with_rules(DigestRules {
                algorithms: vec![algorithm, Algorithm::Md5],
                qop: Qop::Both,
                accept_without_qop: true,
                ..DigestRules::default()
            });
            let client = Client {
                algorithm,
                qop,
                ..Client::default()
            };
            assert_eq!(attempt(settings, &client), granted(1, None), "{algorithm:?} {qop:?}");
        }
    }
}

#[test]
fn several_algorithms_make_one_header_each_in_order() {
    let settings = with_rules(DigestRules {
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        proxy: true,
        ..DigestRules::default()
    });
    let text = reply(&Bench::new(settings).send(&request("INVITE", "", 1, ""), SOURCE));
    assert!(text.starts_with("SIP/2.0 407 "));
    let (sha, md5) = (text.find("algorithm=SHA-256,").unwrap(), text.find("algorithm=MD5,").unwrap());
    assert!(sha < md5 && text.matches("Proxy-Authenticate: ").count() == 2);
}

#[test]
fn usernames_with_a_domain_find_their_account_whichever_form_was_hashed() {
    for (username, hashed) in [("gw1@sip.example.com", None), ("gw1@10.0.0.1", Some("gw1"))] {
        let client = Client {
            username: username.into(),
            hashed_username: hashed.map(Into::into),
            ..Client::default()
        };
        assert_eq!(attempt(Settings::default(), &client), granted(1, None), "{username}");
    }
    let mut bench = Bench::new(Settings::default());
    bench.book.add("gw1@10.0.0.1", 9, "own", &[]);
    let nonce = bench.nonce(SOURCE);
    let client = Client {
        username: "gw1@10.0.0.1".into(),
        password: "own".into(),
        ..Client::default()
    };
    assert_eq!(
        bench.send(&client.invite(&nonce, 2), SOURCE),
        granted(9, None),
        "the full name comes first"
    );
}

#[test]
fn a_gateway_with_addresses_may_call_from_these_only() {
    let client = Client {
        username: "gw2".into(),
        password: "other".into(),
        ..Client::default()
    };
    let mut bench = Bench::new(Settings::default());
    for (source, expected) in [
        ("192.0.2.200:5060", Outcome::Authenticated),
        ("192.0.2.7:5060", Outcome::WrongAddress),
    ] {
        let nonce = bench.nonce(source);
        assert_eq!(bench.send(&client.invite(&nonce, 2), source).outcome(), expected);
    }
}

#[test]
fn a_registration_holds_its_flow_for_as_long_as_it_asked() {
    let client = Client::default();
    for (contact, expected) in [
        ("", Some(3600)),
        ("Expires: 60\r\n", Some(60)),
        ("Expires: 0\r\n", None),
        ("Expires: 99999999\r\n", Some(86_400)),
        (
            "Expires: 60\r\nm: <sip:b@b;expires=7>;expires=90, \"x, y\" <sip:c@c>;expires=80\r\n",
            Some(90),
        ),
    ] {
        let mut bench = Bench::new(Settings::default());
        let nonce = bench.nonce(SOURCE);
        let register = request("REGISTER", "", 2, &format!("{contact}{}", client.line("REGISTER", &nonce)));
        let lifetime = expected.map(|s| Duration::from_secs(s + 30));
        assert_eq!(bench.send(&register, SOURCE), granted(1, lifetime), "{contact}");
    }
}

#[test]
fn a_uri_without_port_and_parameters_matches_by_setting() {
    let lax = with_rules(DigestRules {
        uri_match: UriMatch::Loose,
        ..DigestRules::default()
    });
    for (uri, good) in [
        (format!("{URI}:5060;transport=udp"), true),
        ("sip:4670001@192.0.2.1".into(), false),
        ("sip:4670000@192.0.2.2".into(), false),
    ] {
        let client = Client { uri, ..Client::default() };
        let outcome = attempt(lax.clone(), &client).outcome();
        assert_eq!(
            outcome,
            if good { Outcome::Authenticated } else { Outcome::UriMismatch },
            "{}",
            client.uri
        );
        assert_eq!(attempt(Settings::default(), &client).outcome(), Outcome::UriMismatch);
    }
}

#[test]
fn ours_is_found_among_several_credentials() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(SOURCE);
    let other = Client {
        realm: "elsewhere".into(),
        ..Client::default()
    }
    .line("INVITE", "abc");
    let ours = Client::default()
        .line("INVITE", &nonce)
        .replace("Authorization", "Proxy-authorization");
    let extra = format!("Authorization: Basic Zm9v\r\n{other}{ours}");
    assert_eq!(bench.send(&request("INVITE", "", 2, &extra), SOURCE), granted(1, None));
}
