//! A datagram through the parser, and whatever is made of it.

use std::net::{Ipv4Addr, SocketAddr};

use sipauth_common::sip::{Class, Method, classify_payload};

use super::oracle;
use crate::sip::{Header, Message, ParseError, Response, StartLine, Status, list, params};

/// So much may an answer be longer than its request: status line, tag, `received`, Server. With each `Via` come the full name and a CR.
const GROWTH: usize = 256;
/// A response with more `Via` lines than this may itself be beyond the limit of the parser.
const VIAS: usize = 200;

/// Reads `data`, checks what must hold of any bytes, and says in a word what they are.
pub fn message(data: &[u8]) -> &'static str {
    let class = classify_payload(data);
    let read = Message::read(data);
    assert_eq!(
        Message::parse(data).err(),
        read.as_ref().map_or_else(|error| Some(*error), |(_, fault)| *fault),
        "the two ways in differ"
    );
    let (message, fault) = match read {
        Ok(read) => read,
        Err(error) => return error.label(),
    };
    same_class(&message, class, data);
    views(&message, data);
    headers_by_another_reading(&message, fault, data);
    if fault.is_none() {
        extent(&message, data);
        around(&message, data);
    }
    match message.start() {
        StartLine::Request { method, .. } => {
            assert_eq!(message.granted_expiry(), None, "only a response grants");
            if method == Method::Register {
                assert!(message.requested_expiry(3600).is_none_or(|seconds| seconds > 0));
            }
            answers(&message, fault, data);
            fault.map_or("request", ParseError::label)
        }
        StartLine::Response { code } => {
            assert!((100..=699).contains(&code));
            let granted = message.granted_expiry();
            assert!(granted.is_none_or(|seconds| seconds > 0 && (200..300).contains(&code)));
            fault.map_or(if granted.is_some() { "grant" } else { "response" }, ParseError::label)
        }
    }
}

/// The kernel program has judged by the first bytes what the agent reads now.
fn same_class(message: &Message<'_>, class: Class, data: &[u8]) {
    match (message.start(), class) {
        // The kernel program skips no line ends, and knows one spelling of `SIP/`: what it does not know goes to the agent.
        (_, Class::Request(Method::Unknown)) => {}
        (StartLine::Request { method, .. }, Class::Request(seen)) => assert_eq!(method, seen),
        (StartLine::Response { .. }, Class::Response) => {}
        (start, class) => panic!("{class:?} to the kernel program is {start:?} to the agent: {data:?}"),
    }
}

/// All that is handed out is one line, unfolded or not, and has no byte that ends a line or a string elsewhere.
fn views(message: &Message<'_>, data: &[u8]) {
    let copied = [message.top_via(), message.from(), message.to(), message.call_id(), message.cseq()];
    for value in copied.into_iter().chain(message.vias()) {
        assert!(oracle::is_one_line(value), "{value:?}");
    }
    for Header { name, value } in message.headers() {
        assert!(!name.contains(&b':') && oracle::is_one_line(value), "{name:?}: {value:?}");
    }
    for value in message.authorizations() {
        assert!(message.headers().any(|header| header.value == value));
    }
    for contact in message.contacts() {
        assert!(params(contact).count() <= contact.len() + 1);
    }
    for tag in [message.from_tag(), message.to_tag()].into_iter().flatten() {
        assert!(!tag.is_empty());
    }
    assert_eq!(message.vias().next(), Some(message.top_via()));
    let branches = list(message.top_via()).next().map_or(0, |top| params(top).count());
    assert!(message.branch().is_none() || branches > 0);
    assert!(message.body().len() <= data.len());
}

/// Of each header that counts, there is one, whoever looks for it; the first, where a fault keeps the message from being acted on.
fn headers_by_another_reading(message: &Message<'_>, fault: Option<ParseError>, data: &[u8]) {
    let found = oracle::headers(data);
    for (names, value) in [
        (&["from", "f"], message.from()),
        (&["to", "t"], message.to()),
        (&["call-id", "i"], message.call_id()),
        (&["cseq", "cseq"], message.cseq()),
    ] {
        let mut all = found.iter().filter(|(name, _)| names.iter().any(|known| name == known));
        let first = all.next().map(|(_, value)| value.clone());
        assert_eq!(first, Some(oracle::words(value)), "{names:?}");
        assert!(fault.is_some() || all.next().is_none(), "{names:?} is there twice");
    }
    assert!(fault.is_some() || found.iter().filter(|(name, _)| name == "content-length" || name == "l").count() <= 1);
}

/// Where the message ends is what its Content-Length says, and the body begins after the first blank line.
fn extent(message: &Message<'_>, data: &[u8]) {
    let (head, rest) = oracle::halves(data).expect("a message has a blank line");
    assert!(rest.starts_with(message.body()));
    let length = oracle::headers(head)
        .into_iter()
        .find(|(name, _)| name == "content-length" || name == "l");
    match length {
        Some((_, text)) => assert_eq!(text.parse::<usize>().ok(), Some(message.body().len())),
        None => assert_eq!(message.body(), rest),
    }
}

/// Line ends before a message, and bytes after its length (RFC 3261, 7.5 and 18.3), change nothing.
fn around(message: &Message<'_>, data: &[u8]) {
    let has_length = message
        .headers()
        .any(|h| h.name.eq_ignore_ascii_case(b"l") || h.name.eq_ignore_ascii_case(b"content-length"));
    let mut longer = b"\r\n\r\n".to_vec();
    longer.extend_from_slice(data);
    if has_length {
        longer.extend_from_slice(b"\r\nl: 7\r\n\r\nINVITE");
    }
    let again = Message::parse(&longer).expect("still a message");
    assert_eq!(again.start(), message.start());
    assert_eq!(again.body(), message.body());
    assert_eq!((again.to(), again.cseq()), (message.to(), message.cseq()));
    assert_eq!(again.headers().count(), message.headers().count());
}

/// A response of ours is a message that belongs to the request.
fn answers(request: &Message<'_>, fault: Option<ParseError>, data: &[u8]) {
    let source = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 200), 5060));
    let response = Response::new(Vec::new(), Status::Unauthorized, request, source, b"sa0123").finish();
    let grown = data.len() + GROWTH + 4 * request.vias().count();
    assert!(response.len() <= grown, "an answer of {} bytes to {}", response.len(), data.len());
    assert!(oracle::has_clean_lines(&response));
    if request.vias().count() > VIAS {
        return;
    }
    let (answer, its_fault) = Message::read(&response).expect("a response is a message");
    assert_eq!(answer.start(), StartLine::Response { code: 401 });
    assert_eq!(answer.body(), b"");
    assert_eq!(answer.vias().count(), request.vias().count());
    for (theirs, ours) in [
        (request.from(), answer.from()),
        (request.call_id(), answer.call_id()),
        (request.cseq(), answer.cseq()),
    ] {
        assert_eq!(oracle::words(theirs), oracle::words(ours));
    }
    match request.to_tag() {
        Some(tag) => assert_eq!(answer.to_tag().map(oracle::words), Some(oracle::words(tag))),
        None => assert!(answer.to_tag().is_none_or(|tag| tag == b"sa0123")),
    }
    // What a client leaves open swallows what is added.
    if !request.top_via().iter().any(|byte| matches!(byte, b'"' | b'<')) {
        assert_eq!(answer.branch().map(oracle::words), request.branch().map(oracle::words));
    }
    // A response is held to less: any method will do.
    assert!(fault.is_some() || its_fault.is_none(), "{its_fault:?}");
}
