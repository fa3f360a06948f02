//! RFC 4475, 3.1.1 (valid), 3.2 and 3.3 (valid, but what they ask for is for the softswitch to judge), 3.4 (old syntax).

use super::{Case, Class, Done, Method, Stream, StreamError, case, classify_payload, message};

const SDP: &[u8] =
    b"v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0 12\r\n";

pub(super) fn cases() -> Vec<Case> {
    syntax().into_iter().chain(responses()).chain(semantics()).collect()
}

fn syntax() -> Vec<Case> {
    let challenge = |name, why, text: Vec<u8>| case(name, why, Done::Challenge, text);
    let long = "x".repeat(900);
    let mut extra = message("REGISTER sip:example.com SIP/2.0", &[], b"");
    extra.extend(message("INVITE sip:joe@example.com SIP/2.0", &[], SDP));
    vec![
        challenge(
            "3.1.1.1 short tortuous INVITE",
            "folding, compact forms, escapes and leading zeros are grammar",
            message(
                "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0",
                &[
                    "To :\n sip:vivekg@chair-dnrc.example.com ;   x-tag    = 1918",
                    "From:",
                    "f   : \"J Ros \\\\\\\"\"       <sip:jd@example.com>\n  ;\n  tag = 98asjd8",
                    "MaX-fOrWaRdS: 0068",
                    "Content-Length   :\t150",
                    "cseq: 0009\n  INVITE",
                    "Via  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw",
                    "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239",
                    "Contact:",
                    "m:\"Quoted string \\\"\\\"\" <sip:jd@example.com> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33",
                    "s :",
                    "NewFangledHeader:   newfangled value\n continued",
                    "UnknownHeaderWithUnusualValue: ;;,,;;,;",
                ],
                &[b'x'; 150],
            ),
        ),
        challenge(
            "3.1.1.2 wide range of characters, without NUL",
            "any token is a method, and quoted pairs may escape control characters",
            message(
                "!int-Method09_*+`.%ind~'ed sip:1_u.~(to-be!s)&is't+it$/c?,/;;*:&it+has=1,w!*pas$wo~d_t.(x-y)@example.com SIP/2.0",
                &[
                    "To: \"BEL:\\\u{7} DEL:\\\u{7f}\" <sip:1_u@example.com>",
                    "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.",
                    "extensionHeader-!.%*+_`'~: \u{4f60}\u{597d}",
                ],
                b"",
            ),
        )
        // In a stream no control character is let through.
        .in_a_stream(Stream::Broken(StreamError::BadByte)),
        case(
            "3.1.1.2 the same with an escaped NUL",
            "to parsers in C it ends the message",
            Done::Silence,
            message(
                "OPTIONS sip:user@example.com SIP/2.0",
                &["To: \"NUL:\\\0\" <sip:user@example.com>"],
                b"",
            ),
        )
        .in_a_stream(Stream::Broken(StreamError::BadByte)),
        challenge(
            "3.1.1.3 %-escapes",
            "they are compared as they stand",
            message(
                "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
                &["To: sip:%75se%72@example.com", "From: <sip:I%20have%20spaces@example.net>;tag=938"],
                b"",
            ),
        ),
        challenge(
            "3.1.1.4 escaped NULs in URIs",
            "%00 is three characters",
            message(
                "REGISTER sip:example.com SIP/2.0",
                &["To: sip:null-%00-null@example.com", "Contact: <sip:%00@host5.example.com>, <sip:%00%00@host5.example.com>"],
                b"",
            ),
        ),
        challenge(
            "3.1.1.5 % where it escapes nothing",
            "a method is a token, and this one is not REGISTER",
            message("RE%47IST%45R sip:registrar.example.com SIP/2.0", &["To: \"%Z%45\" <sip:resource@example.com>"], b""),
        ),
        challenge(
            "3.1.1.6 no white space before <",
            "the grammar asks for none",
            message("OPTIONS sip:user@example.com SIP/2.0", &["From: caller<sip:caller@example.com>;tag=323"], b""),
        ),
        challenge(
            "3.1.1.7 long values",
            "they fit into a datagram",
            message(
                &format!("INVITE sip:user@{long}.example.com SIP/2.0"),
                &[
                    &format!("To: \"{long}\" <sip:user@example.com>;{long}={long}"),
                    &format!("From: <sip:{long}@example.net>;tag={long}"),
                    &format!("Call-ID: {long}@{long}"),
                    &format!("X{long}: {long}\n {long}"),
                    &format!("Via: SIP/2.0/TCP {long}.example.com;branch=z9hG4bK{long}"),
                    &["v: SIP/2.0/TCP sip33.example.com"; 30].join("\n"),
                ],
                SDP,
            ),
        ),
        challenge("3.1.1.8 octets after the message", "a datagram holds one message; the rest is nothing", extra).in_a_stream(Stream::Cut),
        challenge(
            "3.1.1.9 parameters in the user part",
            "they belong to the user",
            message("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0", &[], b""),
        ),
        challenge(
            "3.1.1.10 transports of all kinds",
            "the answer goes to where the request came from",
            message(
                "OPTIONS sip:user@example.com SIP/2.0",
                &[
                    "Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw",
                    "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf",
                    "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj",
                    "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en",
                ],
                b"",
            ),
        ),
        challenge(
            "3.1.1.11 multipart, with binary parts",
            "a body is any octets",
            message(
                "MESSAGE sip:kumiko@example.org SIP/2.0",
                &["Content-Type: multipart/mixed;boundary=7a9cbec02ceef655"],
                b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n\r\n--7a9cbec02ceef655\r\n\r\n\0\x01\r\n\r\n\xff\n\n--7a9cbec02ceef655--\r\n",
            ),
        ),
        challenge(
            "3.2.1 no transaction identifier",
            "the branch is the client's, and is given back as it is",
            message("OPTIONS sip:user@example.com SIP/2.0", &["Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"], b""),
        ),
        challenge(
            "3.4.1 INVITE of RFC 2543",
            "neither branch nor From tag nor Max-Forwards were known",
            message(
                "INVITE sip:UserB@example.com SIP/2.0",
                &[
                    "Via: SIP/2.0/UDP iftgw.example.com",
                    "Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>",
                    "From: <sip:+13035551111@ift.client.example.net;user=phone>",
                    "To: sip:+16505552222@ss1.example.net;user=phone",
                    "Max-Forwards:",
                    "Contact:",
                    "Content-Length:",
                ],
                SDP,
            ),
        )
        .in_a_stream(Stream::Broken(StreamError::NoLength)),
    ]
}

fn responses() -> Vec<Case> {
    let response = |name, why, start: &str| case(name, why, Done::Response, message(start, &["CSeq: 35 INVITE"], b""));
    vec![
        response(
            "3.1.1.12 an unusual reason phrase",
            "nobody reads it",
            "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое",
        ),
        response("3.1.1.13 an empty reason phrase", "it may be empty", "SIP/2.0 100 "),
        case(
            "3.3.10 200 with a broadcast address in Via",
            "nothing is ever sent to an address out of a message",
            Done::Response,
            message(
                "SIP/2.0 200 OK",
                &["CSeq: 35 INVITE", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23"],
                b"",
            ),
        ),
    ]
}

fn semantics() -> Vec<Case> {
    let judged = |name, start: &str, lines: &[&str]| case(name, "the softswitch judges", Done::Challenge, message(start, lines, b""));
    vec![
        judged(
            "3.3.2 unknown URI scheme",
            "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0",
            &[],
        ),
        judged(
            "3.3.3 known but atypical URI scheme",
            "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0",
            &[],
        ),
        judged(
            "3.3.4 unknown URI schemes in headers",
            "REGISTER sip:example.com SIP/2.0",
            &[
                "To: isbn:2983792873",
                "From: <http://www.example.com>;tag=3234233",
                "Contact: <name:John_Smith>",
            ],
        ),
        judged(
            "3.3.5 Require and Proxy-Require of what nobody knows",
            "OPTIONS sip:user@example.com SIP/2.0",
            &["Require: nothingSupportsThis, norThis", "Proxy-Require: noProxiesSupportThis"],
        ),
        judged(
            "3.3.6 unknown Content-Type",
            "INVITE sip:user@example.com SIP/2.0",
            &["Content-Type: application/unknownformat"],
        ),
        judged(
            "3.3.7 unknown authorization scheme",
            "REGISTER sip:example.com SIP/2.0",
            &["Authorization: NoOneKnowsThisScheme opaque-data=here"],
        ),
        judged(
            "3.3.11 Max-Forwards of 0",
            "OPTIONS sip:user@example.com SIP/2.0",
            &["Max-Forwards: 0"],
        ),
        judged(
            "3.3.12 REGISTER with a Contact header parameter",
            "REGISTER sip:example.com SIP/2.0",
            &["Contact: sip:+19725552222@gw1.example.net;unknownparam"],
        ),
        judged(
            "3.3.13 REGISTER with a Contact URI parameter",
            "REGISTER sip:example.com SIP/2.0",
            &["Contact: <sip:+19725552222@gw1.example.net;unknownparam>"],
        ),
        judged(
            "3.3.14 REGISTER with an escaped header in the Contact URI",
            "REGISTER sip:example.com SIP/2.0",
            &["Contact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>"],
        ),
        judged(
            "3.3.15 an Accept without SDP",
            "INVITE sip:user@example.com SIP/2.0",
            &["Accept: text/nobodyKnowsThis"],
        ),
    ]
}

#[test]
fn a_method_that_resembles_one_is_another_to_kernel_and_agent_alike() {
    for token in ["RE%47IST%45R", "register", "INVITE1", "!INVITE"] {
        let text = message(&format!("{token} sip:h SIP/2.0"), &[], b"");
        assert_eq!(classify_payload(&text), Class::Request(Method::Unknown), "{token}");
    }
    let text = message("REGISTER sip:h SIP/2.0", &[], b"");
    assert_eq!(classify_payload(&text), Class::Request(Method::Register), "the control");
}
