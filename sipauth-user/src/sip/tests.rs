use sipauth_common::sip::Method;

use super::*;

const INVITE: &str = "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h:5060;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
    Call-ID: c@h\r\nCSeq: 7 INVITE\r\n\r\n";

fn error(text: &str) -> Option<ParseError> {
    Message::parse(text.as_bytes()).err()
}

#[test]
fn compact_folded_and_sloppy_headers_read_the_same() {
    let text = "\r\n\nINVITE   sip:b@h   SIP/2.0\nv : SIP/2.0/UDP h\n ;branch=z9hG4bK1 , SIP/2.0/UDP i\nVIA: SIP/2.0/UDP j\nf:\"x\\\";tag=no\" \
        <sip:a@h;tag=no>\r\n\t;TAG = yes\nt:sip:b@h;tag=t\ni: c\ncseq: 007\r\n INVITE\nm: <sip:a,b@h>, sip:c@h\nm: *\nX: \x07\u{e9}\n\nbody";
    let message = Message::parse(text.as_bytes()).unwrap();
    assert_eq!(
        message.start(),
        StartLine::Request {
            method: Method::Invite,
            token: b"INVITE",
            uri: b"sip:b@h"
        }
    );
    assert_eq!(message.branch(), Some(&b"z9hG4bK1"[..]));
    assert_eq!(message.vias().count(), 2);
    assert_eq!(message.from_tag(), Some(&b"yes"[..]));
    assert_eq!(message.to_tag(), Some(&b"t"[..]));
    assert_eq!(message.call_id(), b"c");
    assert_eq!(message.contacts().collect::<Vec<_>>(), [&b"<sip:a,b@h>"[..], b"sip:c@h", b"*"]);
    assert_eq!(message.body(), b"body");
}

#[test]
fn responses_are_read_too() {
    let message = INVITE.replace("INVITE sip:b@h SIP/2.0", "SIP/2.0 180 Ringing");
    assert_eq!(
        Message::parse(message.as_bytes()).unwrap().start(),
        StartLine::Response { code: 180 }
    );
    assert_eq!(
        error(&INVITE.replace("INVITE sip:b@h SIP/2.0", "SIP/2.0 99 x")),
        Some(ParseError::BadStartLine)
    );
}

#[test]
fn a_to_tag_is_one_in_every_reading() {
    for (to, tag) in [
        ("<sip:b@h>;tag=t", Some("t")),
        ("\"b\" <sip:b;tag=u@h>;x;tag=t@u", Some("t@u")),
        ("sip:b@h;tag=t", Some("t")),
        ("sip:h;tag=t", Some("t")),
        ("sip:b;tag=t@h", None),
        ("sip:b;tag=t@h;tag=u", None),
        ("\"<\" sip:b;tag=t@h", None),
        ("<sip:b@h;tag=t>", None),
        ("<sip:b@h>;tag=", None),
        ("\"b\"<sip:b@h> ;tag=t", Some("t")),
        ("b, c <sip:b@h>;tag=t", Some("t")),
        ("<sip:b,c@h>;x=\"a,b\";tag=t", Some("t")),
        ("<sip:b@h>, <sip:c@h>;tag=t", None),
        ("<sip:b@h>;x, <sip:c@h>;tag=t", None),
        ("<sip:b@h>;tag=t, <sip:c@h>", None),
        ("sip:h, sip:i;tag=t", None),
        ("sip:h;x, sip:i;tag=t", None),
        ("<sip:b@h> <sip:c@h>;tag=t", None),
        ("b\"<sip:b@h>;x\";tag=t", None),
        ("b\" <sip:b@h>;x\" <sip:c@h>;tag=t", None),
    ] {
        let text = INVITE.replace("<sip:b@h>", to);
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.to_tag(), tag.map(str::as_bytes), "{to}");
    }
}

#[test]
fn each_fault_has_its_name() {
    assert_eq!(error(INVITE), None);
    let many = "X: y\r\n".repeat(MAX_HEADERS);
    for (from, to, expected) in [
        ("INVITE sip:b@h SIP/2.0", "INVITE", ParseError::BadStartLine),
        ("INVITE sip", "INV{TE sip", ParseError::BadStartLine),
        ("sip:b@h SIP", "sip:b @h SIP", ParseError::BadUri),
        ("SIP/2.0\r\nVia", "SIP/2.1\r\nVia", ParseError::BadVersion),
        ("Via: SIP/2.0/UDP h:5060;branch=z9hG4bK1\r\n", "", ParseError::MissingHeader),
        ("Call-ID: c@h", "Call-ID:", ParseError::MissingHeader),
        ("Call-ID: c@h", "Call-ID: c\r@h", ParseError::BadByte),
        ("Call-ID: c@h", "Call-ID: c\0@h", ParseError::BadByte),
        ("Call-ID: c@h", "Call-ID: c\x0c", ParseError::BadByte),
        ("Call-ID: c@h", "Call-ID: c\r\nTo\x0c: x", ParseError::BadHeader),
        ("\r\nVia", "\r\n t: <sip:b@h>;tag=t\r\nVia", ParseError::BadHeader),
        ("<sip:b@h>", "\"\\\0\" <sip:b@h>", ParseError::BadByte),
        ("<sip:b@h>", "\"\x07\" <sip:b@h>", ParseError::BadByte),
        ("Call-ID: c@h", "X: y\rTo: <sip:b@h>;tag=t\r\nCall-ID: c@h", ParseError::BadByte),
        ("Call-ID: c@h", "X: y\r\r\nCall-ID: c@h", ParseError::BadByte),
        ("Call-ID: c@h", "X: y\0\r\nCall-ID: c@h", ParseError::BadByte),
        ("Call-ID: c@h", "Call-ID: c\r\ni: d", ParseError::Repeated),
        ("Call-ID: c@h", "Call-ID: c\r\nnonsense", ParseError::BadHeader),
        ("7 INVITE", "7 ACK", ParseError::BadCSeq),
        ("7 INVITE", "2147483648 INVITE", ParseError::BadCSeq),
        ("7 INVITE", "INVITE", ParseError::BadCSeq),
        ("CSeq:", "l: -1\r\nCSeq:", ParseError::BadContentLength),
        ("CSeq:", "l: 1\r\nCSeq:", ParseError::ShortBody),
        ("\r\n\r\n", "\r\n", ParseError::Truncated),
        ("CSeq:", &format!("{many}CSeq:"), ParseError::TooManyHeaders),
    ] {
        assert_eq!(error(&INVITE.replace(from, to)), Some(expected), "{from:?} -> {to:?}");
    }
    assert_eq!(error("\r\n"), Some(ParseError::Empty));
    assert_eq!(error(&INVITE.replace("<sip:b@h>", "\"\\\x07\" <sip:b@h>")), None, "escaped");
}

#[test]
fn every_prefix_is_an_error() {
    for end in 0..INVITE.len() {
        assert!(error(&INVITE[..end]).is_some(), "{end}");
    }
}

#[test]
fn a_response_copies_what_it_must_and_unfolds_it() {
    let text = INVITE
        .replace(
            "h:5060;branch=z9hG4bK1",
            "h;rport;received=1.2.3.4;branch=b , SIP/2.0/UDP i;rport\r\nv: SIP/2.0/UDP j",
        )
        .replace("<sip:a@h>;tag=1", "<sip:a@h>\r\n ;tag=1");
    let message = Message::parse(text.as_bytes()).unwrap();
    let response = Response::new(Vec::new(), Status::Forbidden, &message, "[2001:db8::1]:99".parse().unwrap(), b"t").finish();
    assert_eq!(
        String::from_utf8(response).unwrap(),
        "SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/UDP h;branch=b;received=2001:db8::1;rport=99, SIP/2.0/UDP i;rport\r\nVia: SIP/2.0/UDP j\r\n\
         From: <sip:a@h>  ;tag=1\r\nTo: <sip:b@h>;tag=t\r\nCall-ID: c@h\r\nCSeq: 7 INVITE\r\nServer: sipauth\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn separators_in_via_do_not_make_an_answer_longer() {
    let grown = |separators: &str| {
        let text = INVITE.replace("branch=z9hG4bK1", separators);
        let message = Message::parse(text.as_bytes()).unwrap();
        let response = Response::new(Vec::new(), Status::BadRequest, &message, "192.0.2.1:99".parse().unwrap(), b"t").finish();
        let commas = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b',').count();
        assert_eq!(commas(&response), commas(separators.as_bytes()), "they are copied");
        response.len().checked_signed_diff(text.len())
    };
    assert_eq!(grown(&",".repeat(500)), grown(","));
    assert_eq!(grown(&";,".repeat(500)), grown(";,"));
}
