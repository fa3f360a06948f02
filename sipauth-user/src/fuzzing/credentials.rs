//! Datagrams and credentials through the whole authenticator.

use std::cell::RefCell;

use super::oracle;
use crate::{
    auth::{
        Action, Outcome, Settings,
        testing::{Bench, Client, NOW, arrival, authenticator, request},
    },
    sip::{Message, StartLine},
};

/// An answer is longer than a request by its challenge at most.
const GROWTH: usize = 512;
const PASSWORD: &str = "192.0.2.200:5060";
const PEER: &str = "198.51.100.1:5060";
const STRANGER: &str = "203.0.113.1:5060";

/// The first byte of `data` says who sends what. The rest is, by its lowest bits, a datagram; the value of an Authorization header; or
/// header lines and a body around right credentials. In a value, `@N` stands for a nonce that was issued to the sender, `@R` for
/// the response that proves the password (user `gw1`, count 1, cnonce `cn`, `qop=auth`), since nobody guesses these.
pub fn credentials(data: &[u8]) -> &'static str {
    thread_local! {
        static BENCH: RefCell<Bench> = RefCell::new(Bench::new(small()));
    }
    let Some((how, rest)) = data.split_first() else {
        return "empty";
    };
    BENCH.with_borrow_mut(|bench| {
        // What one input did must not show in the next.
        bench.auth = authenticator(small());
        bench.now = NOW;
        match how & 3 {
            0 => datagram(bench, *how, rest),
            1 => value(bench, rest),
            _ => around(bench, *how, rest),
        }
    })
}

/// Little memory, since it is made anew for each input.
fn small() -> Settings {
    Settings {
        replay_capacity: 8,
        failure_capacity: 8,
        failure_limit: 2,
        ..Settings::default()
    }
}

/// Any datagram, from anybody, in any lane.
fn datagram(bench: &mut Bench, how: u8, datagram: &[u8]) -> &'static str {
    let source = [PASSWORD, PEER, STRANGER, PASSWORD][usize::from(how >> 2 & 3)];
    let arrival = crate::auth::Arrival {
        trusted: how & 16 != 0,
        denied: how & 32 != 0,
        ..arrival(source)
    };
    let action = bench.send_as(datagram, &arrival);
    let text = String::from_utf8_lossy(datagram).to_ascii_lowercase();
    if let Action::Release { flow, outcome } = action {
        assert_eq!(flow, None, "nobody guesses a password");
        assert!(!arrival.denied && (arrival.trusted || source == PEER));
        let in_dialog = text.contains("tag") || text.contains("cancel") || text.contains("sip/2.0 ");
        match outcome {
            Outcome::InDialog => assert!(in_dialog),
            Outcome::PeerOptions => assert!(source == PEER && text.contains("options")),
            other => panic!("released: {other:?}"),
        }
    }
    checked(bench, &action, datagram)
}

/// Any credentials for a call.
fn value(bench: &mut Bench, value: &[u8]) -> &'static str {
    let nonce = bench.nonce(PASSWORD);
    let line = Client::default().line("INVITE", &nonce);
    let response = field(&line, "response=\"");
    let mut header = b"Authorization: ".to_vec();
    let (mut nonces, mut responses, mut at) = (0, 0, 0);
    while let Some(byte) = value.get(at) {
        match (byte, value.get(at + 1)) {
            (b'@', Some(b'N')) => {
                header.extend_from_slice(nonce.as_bytes());
                (nonces, at) = (nonces + 1, at + 2);
            }
            (b'@', Some(b'R')) => {
                header.extend_from_slice(response.as_bytes());
                (responses, at) = (responses + 1, at + 2);
            }
            _ => {
                header.push(*byte);
                at += 1;
            }
        }
    }
    header.extend_from_slice(b"\r\n");
    let mut invite = request("INVITE", "", 2, "@@");
    let at = invite.windows(2).position(|pair| pair == b"@@").expect("the place for it");
    invite.splice(at..at + 2, header);
    let action = bench.send(&invite, PASSWORD);
    let label = checked(bench, &action, &invite);
    if let Action::Release { flow, outcome } = &action {
        assert!(nonces > 0 && responses > 0, "released without an answer to the challenge");
        assert_eq!((flow.map(|flow| flow.gateway), *outcome), (Some(1), Outcome::Authenticated));
        let text = String::from_utf8_lossy(value).replace('\\', "");
        assert!(
            ["gw1", "sip.example.com", "00000001", "cn"].iter().all(|word| text.contains(word)),
            "{text}"
        );
        // The same again is a retransmission; the same answer in another request is none.
        assert_eq!(bench.send(&invite, PASSWORD).outcome(), Outcome::Retransmission);
        let other = String::from_utf8_lossy(&invite).replace("c1@10.0.0.9", "c2@10.0.0.9");
        assert!(!matches!(bench.send(other.as_bytes(), PASSWORD), Action::Release { .. }));
        assert!(!matches!(bench.send(&invite, "192.0.2.201:5060"), Action::Release { .. }));
    }
    label
}

/// Right credentials among anything else.
fn around(bench: &mut Bench, how: u8, extra: &[u8]) -> &'static str {
    let nonce = bench.nonce(PASSWORD);
    let line = Client::default().line("INVITE", &nonce);
    let good = request("INVITE", "", 2, &line);
    // Before the first header, before the credentials, after them, or in place of the body.
    let end = good.windows(4).position(|window| window == b"\r\n\r\n").expect("a blank line") + 2;
    let credentials = good.windows(13).position(|window| window == b"Authorization").expect("credentials");
    let first = good.iter().position(|byte| *byte == b'\n').expect("a request line") + 1;
    let at = [first, credentials, credentials + line.len(), end, 0, good.len()][usize::from(how >> 2) % 6];
    let mut datagram = good;
    datagram.splice(at..at, extra.iter().copied());
    let action = bench.send(&datagram, PASSWORD);
    if matches!(action, Action::Release { .. }) {
        let head = oracle::halves(&datagram).map_or(&b""[..], |(head, _)| head);
        let read = Message::parse(&datagram).expect("what is released is a message");
        let StartLine::Request { token, uri, .. } = read.start() else {
            panic!("a response is released")
        };
        assert_eq!(
            (token, uri),
            (&b"INVITE"[..], crate::auth::testing::URI.as_bytes()),
            "the digest is over these"
        );
        assert!(oracle::headers(head).iter().any(|(name, _)| name == "authorization"));
        assert!(
            head.windows(line.len()).any(|window| window == line.as_bytes()),
            "credentials that count are in the head"
        );
    }
    checked(bench, &action, &datagram)
}

/// What holds of any action.
fn checked(bench: &mut Bench, action: &Action, datagram: &[u8]) -> &'static str {
    assert_eq!(matches!(action, Action::Release { .. }), action.outcome().releases());
    if let Action::Reply { response, .. } = action {
        assert!(oracle::has_clean_lines(response));
        let vias = datagram.iter().filter(|byte| **byte == b':').count();
        assert!(response.len() <= datagram.len() + GROWTH + 4 * vias);
        let (answer, _) = Message::read(response).expect("an answer is a message");
        assert!(matches!(answer.start(), StartLine::Response { code: 400..=481 }));
        if matches!(answer.start(), StartLine::Response { code: 401 }) {
            assert!(bench.auth.take_ban().is_none(), "who is challenged is not banned");
            let text = String::from_utf8_lossy(response);
            let challenge = field(&text, "\r\nWWW-Authenticate: Digest realm=\"sip.example.com\", nonce=\"");
            assert_eq!(challenge.len(), 48);
        }
    }
    if let Some(diagnosis) = bench.auth.take_diagnosis() {
        assert!(
            diagnosis.detail.len() < 600 && !diagnosis.detail.contains(|c: char| c.is_control()),
            "{}",
            diagnosis.detail
        );
        assert!(!action.outcome().releases());
    }
    assert!(bench.auth.take_ban().is_none(), "one failure is none too many");
    action.outcome().label()
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split_once(name)
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or_default()
}
