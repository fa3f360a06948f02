//! Messages in the manner of RFC 4475, section by section. A case changes a plain message where the RFC's description says so.
//!
//! The principle: the agent authenticates, the softswitch judges. What can be authenticated is challenged, however odd, and with right
//! credentials released unchanged. What two parsers could read differently, or where the digest has nothing to hold on to, gets 400; what
//! lacks the headers of an answer, silence.

use sipauth_common::sip::{Class, Method, classify_payload};

use crate::{
    auth::{
        Action, Arrival, Settings,
        testing::{Bench, Client, arrival, nonce_of},
    },
    sip::stream::{Frame, Framer, MAX_MESSAGE, StreamError},
};

mod invalid;
mod valid;

const PASSWORD: &str = "192.0.2.200:5060";
const STRANGER: &str = "203.0.113.1:5060";

/// What must happen to a message from a password gateway's address.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Done {
    /// A challenge; released with right credentials.
    Challenge,
    /// 400, with or without credentials.
    BadRequest,
    /// Nothing, with or without credentials.
    Silence,
    /// A response: nothing from a stranger, but a connection that has authenticated may send it.
    Response,
    /// A faulty response: nothing.
    BadResponse,
}

/// What the same bytes are in a TCP stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    /// The whole of it is one message.
    Whole,
    /// The beginning of it is a message; the rest begins the next.
    Cut,
    /// The end has not come.
    Waits,
    /// There is no way to know the end.
    Broken(StreamError),
}

/// One message.
struct Case {
    /// Section and name in the RFC.
    name: &'static str,
    /// Why that is right, in a word.
    why: &'static str,
    done: Done,
    stream: Stream,
    text: Vec<u8>,
}

fn case(name: &'static str, why: &'static str, done: Done, text: impl Into<Vec<u8>>) -> Case {
    Case {
        name,
        why,
        done,
        stream: Stream::Whole,
        text: text.into(),
    }
}

impl Case {
    fn in_a_stream(self, stream: Stream) -> Self {
        Self { stream, ..self }
    }
}

/// A message with this start line. `lines` (each `Name: value`, folded by `\n `) take the place of the usual ones of that name; those without
/// a value take them away; others are added.
fn message(start: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let method = start.split(' ').find(|word| !word.is_empty()).unwrap();
    let name = |line: &str| line.split(':').next().unwrap().trim().to_ascii_lowercase();
    let cseq = format!("CSeq: 8 {method}");
    let length = format!("Content-Length: {}", body.len());
    let usual = [
        "Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdju43234",
        "Max-Forwards: 70",
        "From: \"Bell, Alexander\" <sip:a.g.bell@example.com>;tag=433423",
        "To: \"Watson, Thomas\" <sip:t.watson@example.org>",
        "Call-ID: badaspec.sdf0234n2nds0a099u23h3hnnw009cdkne3",
        &cseq,
        "Contact: <sip:a.g.bell@host5.example.net>",
        &length,
    ];
    let mut text = format!("{start}\r\n");
    let mut add = |line: &str| {
        if !line.ends_with(':') {
            text.push_str(&line.replace('\n', "\r\n"));
            text.push_str("\r\n");
        }
    };
    for line in usual {
        let mut instead = lines.iter().filter(|other| name(other) == name(line)).peekable();
        if instead.peek().is_none() {
            add(line);
        }
        instead.for_each(|other| add(other));
    }
    for line in lines {
        if !usual.iter().any(|other| name(other) == name(line)) {
            add(line);
        }
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The message with right credentials for its own method and URI as they stand in its first line.
fn with_credentials(text: &[u8], nonce: &str) -> Vec<u8> {
    let end = text.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
    let line = String::from_utf8_lossy(&text[..end - 2]).into_owned();
    let line = line.trim_end();
    let (method, rest) = line.split_once(' ').unwrap();
    let uri = rest.rsplit_once(' ').unwrap().0.trim().to_owned();
    let credentials = Client { uri, ..Client::default() }.line(method, nonce);
    [&text[..end], credentials.as_bytes(), &text[end..]].concat()
}

/// In a word.
fn done(action: &Action) -> String {
    match action {
        Action::Reply { response, .. } => String::from_utf8_lossy(&response[8..11]).into_owned(),
        Action::Release { .. } => "release".into(),
        Action::Absorb { .. } => "silence".into(),
    }
}

fn from(source: &str, trusted: bool) -> Arrival {
    Arrival {
        trusted,
        ..arrival(source)
    }
}

fn check(case: &Case) {
    let Case { name, why, text, .. } = case;
    let mut bench = Bench::new(Settings::default());
    assert_eq!(done(&bench.send(text, STRANGER)), "silence", "{name}: a stranger learns nothing");
    let first = bench.send(text, PASSWORD);
    let (unproven, proven) = match case.done {
        Done::Challenge => ("401", "release"),
        Done::BadRequest => ("400", "400"),
        Done::Silence | Done::Response | Done::BadResponse => ("silence", "silence"),
    };
    assert_eq!(done(&first), unproven, "{name}: {why} ({:?})", first.outcome());
    if matches!(case.done, Done::Response | Done::BadResponse) {
        let passes = if case.done == Done::Response { "release" } else { "silence" };
        assert_eq!(done(&bench.send_as(text, &from(PASSWORD, true))), passes, "{name}: {why}");
        return;
    }
    let nonce = nonce_of(&bench.send(&message("INVITE sip:a@h SIP/2.0", &[], b""), PASSWORD));
    let second = bench.send(&with_credentials(text, &nonce), PASSWORD);
    assert_eq!(done(&second), proven, "{name}, with credentials: {why} ({:?})", second.outcome());
    let wrong = with_credentials(text, &nonce.replace(|c: char| c.is_ascii_lowercase(), "A"));
    assert_eq!(done(&bench.send(&wrong, PASSWORD)), unproven, "{name}, with wrong credentials");
}

fn check_stream(case: &Case) {
    let mut framer = Framer::new(MAX_MESSAGE);
    framer.push(&case.text);
    let found = match framer.next_frame() {
        Ok(Some(Frame::Message(message))) if message.len() == case.text.len() => Stream::Whole,
        Ok(Some(Frame::Message(_))) => Stream::Cut,
        Ok(Some(Frame::Ping) | None) => Stream::Waits,
        Err(error) => Stream::Broken(error),
    };
    assert_eq!(found, case.stream, "{}: {}", case.name, case.why);
}

#[test]
fn valid_messages_are_challenged_and_released_however_tortuous() {
    valid::cases().iter().for_each(check);
}

#[test]
fn invalid_messages_are_left_to_the_softswitch_or_answered_400_or_not_at_all() {
    invalid::cases().iter().for_each(check);
}

#[test]
fn a_stream_ends_a_message_where_its_length_says_or_is_broken() {
    valid::cases().iter().chain(&invalid::cases()).for_each(check_stream);
}
