//! Passwords that the kernel program checks: what passes, and that nothing passes which the agent would not let pass.

#[path = "proofs/agreement.rs"]
mod agreement;
#[path = "proofs/client.rs"]
mod client;
#[path = "proofs/nonces.rs"]
mod nonces;

use std::sync::Arc;

use sipauth_common::{
    abi::CALLERS,
    address::Address,
    challenge::NONCE_TEXT,
    flow::{Flow, FlowKey},
    policy::{FLAG_GENERAL, Policy, modes},
    proof::Caller,
    reason::Reason,
};
use sipauth_tests::{frame::Frame, require_root};
use sipauth_user::auth::Outcome;

use crate::bench::{Bench, PASS, address, policy, stay_on_one_cpu};
use client::{Answer, GATEWAY, ONE, URI, agent, bench, caller, challenged, flow_key, frame, fresh, invite, line, passes};

#[test]
fn all_usual_ways_to_write_it_pass() {
    require_root!();
    stay_on_one_cpu();
    let long = format!("sip:{}@192.0.2.1", "1".repeat(112 - 14));
    type Change = fn(&mut Vec<(String, String)>);
    let order: Change = |fields| fields.reverse();
    let no_algorithm: Change = |fields| fields.retain(|(name, _)| name != "algorithm");
    let quoted: Change = |fields| {
        for (name, value) in fields {
            if ["qop", "nc", "algorithm"].contains(&name.as_str()) {
                *value = format!("\"{value}\"");
            }
        }
    };
    let opaque: Change = |fields| fields.push(("opaque".to_owned(), "\"\"".to_owned()));
    let capitals: Change = |fields| fields.iter_mut().for_each(|(name, _)| *name = name.to_uppercase());
    let as_it_is: Change = |_| {};
    let cases: Vec<(&str, Change, &str, &str, &str, &str)> = vec![
        ("as SIPp", as_it_is, "Authorization: Digest ", ", ", URI, URI),
        ("as Linphone", as_it_is, "Authorization:  Digest ", ",  ", URI, URI),
        ("without spaces", as_it_is, "Authorization: Digest ", ",", URI, URI),
        ("for a proxy", as_it_is, "Proxy-Authorization: Digest ", ", ", URI, URI),
        ("in capitals", capitals, "AUTHORIZATION: DIGEST ", ", ", URI, URI),
        ("in another order", order, "Authorization: Digest ", ", ", URI, URI),
        ("without an algorithm", no_algorithm, "Authorization: Digest ", ", ", URI, URI),
        ("all in quotes", quoted, "Authorization: Digest ", ", ", URI, URI),
        ("with an opaque", opaque, "Authorization: Digest ", ", ", URI, URI),
        (
            "the server's URI",
            as_it_is,
            "Authorization: Digest ",
            ", ",
            URI,
            "sip:192.0.2.1:5060",
        ),
        (
            "the server's URI alone",
            as_it_is,
            "Authorization: Digest ",
            ", ",
            "sip:1@host",
            "sip:host",
        ),
        (
            "no user",
            as_it_is,
            "Authorization: Digest ",
            ", ",
            "sip:192.0.2.1",
            "sip:192.0.2.1",
        ),
        ("a long URI", as_it_is, "Authorization: Digest ", ", ", &long, &long),
    ];
    for entry in ONE {
        let mut bench = bench(entry);
        for (n, (name, change, begin, between, uri, hashed)) in cases.iter().enumerate() {
            for cnonce in ["0", "0a4f113b", &"x".repeat(64)] {
                let what = format!("{entry}: {name}, cnonce of {}", cnonce.len());
                let call = format!("w{n}-{}", cnonce.len());
                let nonce = challenged(&mut bench, &call);
                let answer = Answer {
                    uri: (*hashed).to_owned(),
                    cnonce: cnonce.to_owned(),
                    ..Answer::default()
                };
                let mut fields = answer.fields(&nonce);
                change(&mut fields);
                let sent = frame(&invite(uri, &call, 2, &line(begin, &fields, between)));
                assert_eq!(agent(fresh(&bench), &sent.payload).outcome(), Outcome::Authenticated, "{what}");
                assert!(passes(&mut bench, &what, &sent), "{what}");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_for_the_agent_and_spoils_nothing() {
    require_root!();
    stay_on_one_cpu();
    let other = |change: &dyn Fn(&mut Answer)| {
        let mut answer = Answer::default();
        change(&mut answer);
        answer
    };
    let wrong: Vec<(&str, Answer)> = vec![
        ("another password", other(&|answer| answer.password = "guessed".to_owned())),
        ("another user", other(&|answer| answer.username = "gw2".to_owned())),
        ("a longer username", other(&|answer| answer.username = "gw12".to_owned())),
        ("a shorter username", other(&|answer| answer.username = "gw".to_owned())),
        ("another realm", other(&|answer| answer.realm = "sip.example.org".to_owned())),
        ("a shorter realm", other(&|answer| answer.realm = "sip.example.co".to_owned())),
        ("no realm", other(&|answer| answer.realm = String::new())),
        ("another number", other(&|answer| answer.uri = URI.replace("100", "900"))),
        ("another server", other(&|answer| answer.uri = "sip:192.0.2.2:5060".to_owned())),
        ("a part of the server", other(&|answer| answer.uri = "sip:192.0.2".to_owned())),
        ("its end", other(&|answer| answer.uri = "sip:0.2.1:5060".to_owned())),
        ("another method", other(&|answer| answer.method = "BYE".to_owned())),
        ("a later count", other(&|answer| answer.nc = "00000002".to_owned())),
        ("qop with integrity", other(&|answer| answer.qop = "auth-int".to_owned())),
        ("an empty cnonce", other(&|answer| answer.cnonce = String::new())),
        ("a long cnonce", other(&|answer| answer.cnonce = "x".repeat(65))),
    ];
    for entry in ONE {
        let mut bench = bench(entry);
        for (n, (name, answer)) in wrong.iter().enumerate() {
            let what = format!("{entry}: {name}");
            let call = format!("x{n}");
            let nonce = challenged(&mut bench, &call);
            assert!(
                !passes(&mut bench, &what, &frame(&invite(URI, &call, 2, &answer.header(&nonce)))),
                "{what}"
            );
            let right = frame(&invite(URI, &call, 3, &Answer::default().header(&nonce)));
            assert!(passes(&mut bench, &what, &right), "{what}: and then rightly");
        }
        let nonce = challenged(&mut bench, "header");
        let right = Answer::default().header(&nonce);
        for (name, header) in [
            ("twice", format!("{right}{right}")),
            ("beside others", format!("{right}Proxy-Authorization: Digest x\r\n")),
            ("a field twice", right.replace(", nc", ", realm=\"sip.example.com\", nc")),
            ("an unknown field", right.replace(", nc", ", auts=\"x\", nc")),
            (
                "no response",
                right.split(", response").next().unwrap_or_default().to_owned() + "\r\n",
            ),
            ("an escape", right.replace("sip.example.com", "sip.example\\.com")),
            ("space in a field", right.replace("realm=", "realm= ")),
            ("much space", right.replace("realm=", "  realm=")),
            ("no space", right.replace(": Digest", ":Digest")),
            ("an open quote", right.replace(", algorithm=MD5", ", algorithm=\"MD5")),
            ("another algorithm", right.replace("=MD5", "=SHA-256")),
            ("another scheme", right.replace("Digest", "Basics")),
            ("a comma at the end", right.replace("MD5\r\n", "MD5,\r\n")),
            ("a space at the end", right.replace("MD5\r\n", "MD5 \r\n")),
            ("no quotes", right.replace("\"gw1\"", "gw1")),
            ("a nonce in capitals", right.replace(&nonce, &nonce.to_uppercase())),
            ("a shorter nonce", right.replace(&nonce, &nonce[..NONCE_TEXT - 1])),
            ("a name with a space", right.replace("Authorization:", "Authorization :")),
            ("folded", right.replace(", nc", ",\r\n nc")),
        ] {
            let what = format!("{entry}: {name}");
            assert_ne!(header, right, "{what}");
            assert!(!passes(&mut bench, &what, &frame(&invite(URI, "header", 2, &header))), "{what}");
        }
        let message = invite(URI, "header", 2, &right);
        for (name, text) in [
            ("two To headers", message.replace("To: ", "To: <sip:1@h>\r\nTo: ")),
            ("the CSeq of a BYE", message.replace("2 INVITE", "2 BYE")),
            ("a CSeq without a number", message.replace("2 INVITE", "x INVITE")),
            ("a CSeq beyond all", message.replace("2 INVITE", "2147483648 INVITE")),
            ("two CSeqs in one", message.replace("2 INVITE", "2 2 INVITE")),
            ("a body cut short", message.replace("Length: 5", "Length: 6")),
            ("two lengths", message.replace("Content-Length", "l: 5\r\nContent-Length")),
            ("a length that is none", message.replace("Length: 5", "Length: 5x")),
            ("a long length", message.replace("Length: 5", "Length: 0000000005")),
            (
                "two times of expiry",
                message.replace("Contact:", "Expires: 5\r\nExpires: 5\r\nContact:"),
            ),
            ("a DEL", message.replace("<sip:1000@192", "\x7f<sip:1000@192")),
            ("two spaces in the request line", message.replace("INVITE sip", "INVITE  sip")),
            ("a tab in it", message.replace("5060;user=phone ", "5060;user\tphone ")),
            ("REGISTER", message.replace("INVITE", "REGISTER")),
            ("OPTIONS", message.replace("INVITE", "OPTIONS")),
        ] {
            let what = format!("{entry}: {name}");
            assert_ne!(text, message, "{what}");
            assert!(!passes(&mut bench, &what, &frame(&text)), "{what}");
        }
        assert!(passes(&mut bench, entry, &frame(&message)), "{entry}: as it was");
    }
}

#[test]
fn only_where_a_call_was_let_through_and_nothing_has_changed_since() {
    require_root!();
    stay_on_one_cpu();
    for entry in ONE {
        let mut bench = bench(entry);
        let mut n = 0;
        let mut attempt = |bench: &mut Bench, what: &str| {
            n += 1;
            let call = format!("m{n}");
            let nonce = challenged(bench, &call);
            let sent = frame(&invite(URI, &call, 2, &Answer::default().header(&nonce)));
            let before = bench.stats();
            assert_eq!(bench.run(&sent.bytes()).action, PASS, "{entry}: {what}");
            bench.stats()[Reason::Authenticated as usize].packets - before[Reason::Authenticated as usize].packets == 1
        };
        assert!(attempt(&mut bench, "known"));
        let usual = caller(&bench);
        let maps = |bench: &Bench| Arc::clone(&bench.programs.maps);
        let with = |bench: &Bench, caller: &Caller| maps(bench).put_caller(&flow_key(), caller).expect("CALLERS");

        with(&bench, &Caller { until: 1, ..usual });
        assert!(!attempt(&mut bench, "its time has come"));
        with(
            &bench,
            &Caller {
                generation: usual.generation + 1,
                ..usual
            },
        );
        assert!(!attempt(&mut bench, "of other gateways"));
        with(&bench, &Caller { gateway: 9, ..usual });
        assert!(!attempt(&mut bench, "of another gateway than the flow"));
        with(&bench, &usual);
        bench.change(|config| config.generation += 1);
        assert!(!attempt(&mut bench, "gateways were changed"));
        bench.change(|config| config.generation -= 1);
        assert!(attempt(&mut bench, "back"));
        assert!(maps(&bench).delete_caller(&flow_key()).expect("CALLERS"));
        assert!(!attempt(&mut bench, "it failed"));
        with(&bench, &usual);

        let key = flow_key();
        let flow = |bench: &Bench| sipauth_common::decide::Lookup::flow(&*bench.programs.maps, &key).expect("the flow");
        let live = flow(&bench);
        bench.flow(
            key,
            Flow {
                expires: u64::MAX - 1,
                ..live
            },
        );
        assert!(!attempt(&mut bench, "a registration's flow"));
        bench.flow(key, Flow { seen: 0, ..live });
        assert!(!attempt(&mut bench, "the flow is over"));
        assert!(maps(&bench).delete_flow(&key).expect("FLOWS"));
        assert!(!attempt(&mut bench, "no flow"));
        bench.flow(key, live);
        assert!(attempt(&mut bench, "again"));

        // A call keeps the flow alive.
        let quiet = bench.tables.now - 1_000_000_000;
        bench.flow(key, Flow { seen: quiet, ..live });
        assert!(attempt(&mut bench, "after a while"));
        assert!(flow(&bench).seen > quiet);

        // From elsewhere it is no genuine nonce, whoever calls there.
        let nonce = challenged(&mut bench, "elsewhere");
        let there = FlowKey {
            address: address("203.0.113.4"),
            ..key
        };
        let general = Policy {
            flags: FLAG_GENERAL,
            ..policy(GATEWAY, modes::PASSWORD)
        };
        bench.host(there.address, general);
        bench.flow(there, live);
        maps(&bench).put_caller(&there, &usual).expect("CALLERS");
        let text = invite(URI, "elsewhere", 2, &Answer::default().header(&nonce));
        let moved = Frame {
            source: "203.0.113.4".parse().expect("an address"),
            ..frame(&text)
        };
        assert!(!passes(&mut bench, entry, &moved), "{entry}");
        assert!(passes(&mut bench, entry, &frame(&text)), "{entry}");
    }
}

#[test]
fn of_more_callers_than_there_is_room_for_those_are_forgotten_who_did_not_call() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = bench(ONE[0]);
    let usual = caller(&bench);
    for n in 0..3 * CALLERS {
        let key = FlowKey {
            address: Address::from_v4((0x0a00_0000 + n).to_be()),
            ..flow_key()
        };
        bench.programs.maps.put_caller(&key, &usual).expect("CALLERS");
    }
    let attempt = |bench: &mut Bench, call: &str| {
        let nonce = challenged(bench, call);
        passes(bench, call, &frame(&invite(URI, call, 2, &Answer::default().header(&nonce))))
    };
    assert!(!attempt(&mut bench, "forgotten"), "the agent sees him again");
    bench.programs.maps.put_caller(&flow_key(), &usual).expect("CALLERS");
    assert!(attempt(&mut bench, "known"));
}
