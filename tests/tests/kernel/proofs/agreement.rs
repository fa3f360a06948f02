//! The kernel program and the agent, asked the same.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use sipauth_common::reason::Reason;
use sipauth_tests::{frame::Frame, require_root};
use sipauth_user::auth::Outcome;

use super::client::{Answer, URI, agent, bench, challenged, frame, fresh, invite, line};
use crate::bench::{ENTRIES, stay_on_one_cpu};

/// Whatever is changed in a right request, what the program lets through the agent would have let through.
#[test]
fn nothing_passes_that_the_agent_refuses() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = bench(ENTRIES[0]);
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just(",".to_owned()),
        Just("\\".to_owned()),
        Just(" ".to_owned()),
        Just("\t".to_owned()),
        Just("\r\n".to_owned()),
        Just("\r\n ".to_owned()),
        Just("=".to_owned()),
        Just("@".to_owned()),
        Just(";".to_owned()),
        Just("realm=\"sip.example.com\", ".to_owned()),
        Just("username=\"gw2\", ".to_owned()),
        Just("uri=\"sip:9@192.0.2.1\", ".to_owned()),
        Just("Authorization: Digest ".to_owned()),
        Just("To: <sip:1@h>;tag=x\r\n".to_owned()),
        Just("sip:900@192.0.2.1".to_owned()),
        Just("Content-Length: 9\r\n".to_owned()),
        Just("l: 2\r\n".to_owned()),
        Just("Expires: 9\r\n".to_owned()),
        Just("CSeq: 3 INVITE\r\n".to_owned()),
        Just("\x7f".to_owned()),
        "[ -~]{1,3}",
        "\\PC{1}",
    ];
    // Where, how much goes, and what comes in its place.
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece), 1..4);
    let (mut n, mut passed) = (0_u32, 0_u32);
    let mut runner = TestRunner::default();
    let shapes = (edits, any::<bool>(), any::<bool>(), any::<prop::sample::Index>());
    // `PROPTEST_CASES` makes it more.
    let cases = 2 * ProptestConfig::default().cases;
    while n < cases {
        let (edits, server, shuffled, turn) = shapes.new_tree(&mut runner).expect("a value").current();
        n += 1;
        let call = format!("p{n}");
        let nonce = challenged(&mut bench, &call);
        let answer = Answer {
            uri: if server { "sip:192.0.2.1:5060" } else { URI }.to_owned(),
            ..Answer::default()
        };
        let mut fields = answer.fields(&nonce);
        if shuffled {
            let at = turn.index(fields.len());
            fields.rotate_left(at);
        }
        let mut bytes = invite(URI, &call, 2, &line("Authorization: Digest ", &fields, ", ")).into_bytes();
        for (at, gone, new) in edits {
            // Mostly where it matters: in the request line and the credentials.
            let credentials = bytes.windows(14).position(|part| part == b"Authorization:").unwrap_or(0);
            let at = match at.index(8) {
                0 | 3 => at.index(bytes.len()),
                1 | 2 => at.index(60.min(bytes.len())),
                _ => (credentials + at.index(330)).min(bytes.len()),
            };
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, new.into_bytes());
        }
        let sent = Frame {
            payload: bytes.clone(),
            ..frame("")
        };
        let before = bench.stats();
        bench.run(&sent.bytes());
        let moved = bench.stats()[Reason::Authenticated as usize].packets - before[Reason::Authenticated as usize].packets;
        if moved == 1 {
            passed += 1;
            let outcome = agent(fresh(&bench), &bytes).outcome();
            let text = String::from_utf8_lossy(&bytes);
            assert!(matches!(outcome, Outcome::Authenticated | Outcome::InDialog), "{outcome:?}: {text}");
        }
    }
    println!("{passed} of {n} were still right");
    assert!(passed > n / 100, "{passed} of {n}");
}
