//! RFC 4475, 3.1.2 (invalid), and of 3.3 what cannot be acted on.

use super::{Case, Done, Stream, StreamError, case, message};

pub(super) fn cases() -> Vec<Case> {
    for_the_switch().into_iter().chain(refused()).chain(unanswerable()).collect()
}

/// Invalid, but neither the digest nor the end of the message depends on it.
fn for_the_switch() -> Vec<Case> {
    let judged = |name, why, start: &str, lines: &[&str]| case(name, why, Done::Challenge, message(start, lines, b""));
    let invite = "INVITE sip:user@example.com SIP/2.0";
    vec![
        judged(
            "3.1.2.1 extraneous separators",
            "they are given back as they are",
            invite,
            &["Via: SIP/2.0/UDP 192.0.2.15;;,;,,", "Contact: \"Joe\" <sip:joe@example.org>;;;;"],
        ),
        judged(
            "3.1.2.4 overlarge Expires, Max-Forwards and contact expiry",
            "a flow holds for a day at most",
            "REGISTER sip:example.com SIP/2.0",
            &[
                "Max-Forwards: 300",
                "Expires: 10000000000000000000000000000000000000000",
                "Contact: <sip:user@host129.example.com>;expires=280297596632815",
            ],
        ),
        judged(
            "3.1.2.6 unterminated quoted string in a display name",
            "no tag is found in it, so it begins a dialog",
            invite,
            &["To: \"Mr. J. User <sip:j.user@example.com>"],
        ),
        judged(
            "3.1.2.7 Request-URI in angle brackets",
            "it is one word, and hashed as it stands",
            "INVITE <sip:user@example.com> SIP/2.0",
            &[],
        ),
        judged(
            "3.1.2.9 several spaces in the request line",
            "all readers find the same three words",
            "INVITE  sip:user@example.com  SIP/2.0",
            &[],
        ),
        judged(
            "3.1.2.10 a space at the end of the request line",
            "as before",
            "OPTIONS sip:remote-target@example.com SIP/2.0 ",
            &[],
        ),
        judged(
            "3.1.2.11 escaped headers in the Request-URI",
            "hashed as they stand",
            "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0",
            &[],
        ),
        judged(
            "3.1.2.12 a time zone other than GMT",
            "nothing depends on Date",
            invite,
            &["Date: Fri, 01 Jan 2010 16:00:00 EST"],
        ),
        judged(
            "3.1.2.13 a contact URI that needs brackets",
            "the registrar judges",
            "REGISTER sip:example.com SIP/2.0",
            &["Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E"],
        ),
        judged(
            "3.1.2.14 spaces within an addr-spec",
            "the tag is outside of it",
            invite,
            &["To: \"Watson, Thomas\" < sip:t.watson@example.org >"],
        ),
        judged(
            "3.1.2.15 a comma in a display name without quotes",
            "From is no list",
            invite,
            &["From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43"],
        ),
    ]
}

/// There is enough for an answer.
fn refused() -> Vec<Case> {
    let bad = |name, why, start: &str, lines: &[&str], body: &[u8]| case(name, why, Done::BadRequest, message(start, lines, body));
    let invite = "INVITE sip:user@example.com SIP/2.0";
    vec![
        bad(
            "3.1.2.2 Content-Length larger than the message",
            "it was cut off",
            invite,
            &["Content-Length: 9999"],
            b"v=0\r\n",
        )
        .in_a_stream(Stream::Waits),
        bad(
            "3.1.2.3 negative Content-Length",
            "nobody knows the end",
            invite,
            &["Content-Length: -999"],
            b"v=0\r\n",
        )
        .in_a_stream(Stream::Broken(StreamError::BadLength)),
        bad(
            "3.1.2.4 overlarge CSeq",
            "each reader cuts it down in his own way",
            "REGISTER sip:example.com SIP/2.0",
            &["CSeq: 36893488147419103232 REGISTER"],
            b"",
        ),
        bad(
            "3.1.2.8 white space in the Request-URI",
            "nobody knows its end",
            "INVITE sip:user@example.com; lr SIP/2.0",
            &[],
            b"",
        ),
        bad(
            "3.1.2.16 unknown version",
            "it may mean anything",
            "OPTIONS sip:t.watson@example.org SIP/7.0",
            &["Via: SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw"],
            b"",
        ),
        bad(
            "3.1.2.17 CSeq of another method",
            "which of them is meant?",
            "OPTIONS sip:user@example.com SIP/2.0",
            &["CSeq: 8 INVITE"],
            b"",
        ),
        bad(
            "3.1.2.18 unknown method with CSeq of another",
            "which of them is meant?",
            "NEWMETHOD sip:user@example.com SIP/2.0",
            &["CSeq: 8 INVITE"],
            b"",
        ),
        bad(
            "3.3.8 several values of single-value fields",
            "which of them counts?",
            invite,
            &[
                "CSeq: 5 INVITE",
                "CSeq: 59 INVITE",
                "Call-ID: a@192.0.2.1",
                "Call-ID: b@192.0.2.1",
                "From: <sip:caller@example.com>;tag=1",
                "From: <sip:other@example.net>;tag=2",
                "To: <sip:user@example.com>",
                "To: <sip:other@example.net>;tag=3",
            ],
            b"",
        ),
        bad(
            "3.3.9 several Content-Length values",
            "which end is it?",
            "OPTIONS sip:user@example.com SIP/2.0",
            &["Content-Length: 13", "Content-Length: 5"],
            b"There's no way to know how many octets are supposed to be here.\r\n",
        )
        .in_a_stream(Stream::Broken(StreamError::BadLength)),
    ]
}

fn unanswerable() -> Vec<Case> {
    let invite = "INVITE sip:user@example.com SIP/2.0";
    vec![
        case(
            "3.1.2.5 response with overlarge scalars",
            "no transaction has such a CSeq",
            Done::BadResponse,
            message(
                "SIP/2.0 503 Service Unavailable",
                &["CSeq: 9292394834772304023312 OPTIONS", "Retry-After: 949302838503028349304023988"],
                b"",
            ),
        ),
        case(
            "3.1.2.19 overlarge response code",
            "cut down to 16 bits it would be 101",
            Done::BadResponse,
            message("SIP/2.0 4294967301 better not break the receiver", &["CSeq: 35 INVITE"], b""),
        ),
        case(
            "3.3.1 missing required headers",
            "an answer would have none either",
            Done::Silence,
            message(invite, &["From:", "To:", "Call-ID:"], b""),
        ),
    ]
}
