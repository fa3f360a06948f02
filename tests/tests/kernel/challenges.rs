//! Challenges that the kernel program makes: byte for byte what comes back, and all that it leaves to the agent.

use sipauth_common::{
    address::Address,
    challenge::{self, Challenge, NONCE_TEXT, Nonce, Text},
    config::{DefaultPolicy, flags},
    policy::{FLAG_GENERAL, Policy, modes},
    reason::Reason,
};
use sipauth_tests::{
    frame::{self, Frame},
    require_root,
};

use crate::bench::{Bench, DROP, ENTRIES, PASS, address, policy, stay_on, stay_on_one_cpu, whole_checksum};

const TX: u32 = 3;
const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const BOOT: u32 = 1_700_000_000;
const RUN: u32 = 77;
const STATUS: &str = "SIP/2.0 401 Unauthorized\r\n";
const BEFORE: &str = "WWW-Authenticate: Digest realm=\"sip.example.com\", nonce=\"";
const BEHIND: &str = "\", algorithm=MD5, qop=\"auth\"\r\nServer: sipauth\r\nContent-Length: 0\r\n\r\n";

/// A password gateway at .3 that is challenged by the general rules, one at .5 that is not.
fn bench(entry: &'static str) -> Bench {
    let mut bench = Bench::new(entry);
    for at in ["203.0.113.3", "2001:db8::3"] {
        let general = Policy {
            flags: FLAG_GENERAL,
            ..policy(3, modes::PASSWORD)
        };
        bench.host(address(at), general);
    }
    bench.host(address("203.0.113.5"), policy(5, modes::PASSWORD));
    bench.change(|config| config.flags |= flags::CHALLENGE);
    let challenge = Challenge {
        key: KEY,
        boot_s: BOOT,
        run: RUN,
        status: Text::new(STATUS.as_bytes()).expect("it fits"),
        before: Text::new(BEFORE.as_bytes()).expect("it fits"),
        behind: Text::new(BEHIND.as_bytes()).expect("it fits"),
        realm_at: u32::try_from(BEFORE.find("sip.example.com").expect("the realm")).expect("small"),
        lifetime: 4_000,
    };
    bench.programs.maps.set_challenge(&challenge).expect("CHALLENGE");
    bench
}

const VIA: &str = "Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-1;rport\r\n";
const SECOND: &str = "v: SIP/2.0/TCP 10.0.0.8;branch=z9hG4bK-0\r\n";
const FROM: &str = "FROM: \"A\" <sip:1000@192.0.2.1>;tag=f1\r\n";
const TO: &str = "t: <sip:100@192.0.2.1>\r\n";
const REST: &str = "Contact: <sip:1000@10.0.0.9>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

fn invite(call: &str, via: &str, to: &str, more: &str) -> String {
    format!("INVITE sip:100@192.0.2.1 SIP/2.0\r\n{via}Max-Forwards: 70\r\n{FROM}{to}i: {call}\r\nCSeq: 1 INVITE\r\n{more}{REST}")
}

fn from(v6: bool, text: &str) -> Frame {
    let plain = if v6 { Frame::invite_v6() } else { Frame::invite() };
    Frame {
        source: if v6 { "2001:db8::3" } else { "203.0.113.3" }.parse().expect("an address"),
        source_port: 40_312,
        payload: text.as_bytes().to_vec(),
        ..plain
    }
}

/// The frame's text, if its headers are right in all but the nonce, which is returned too.
fn answer(name: &str, sent: &Frame, got: &[u8]) -> String {
    let tags = 4 * sent.tags.len();
    let network = if sent.source.is_ipv4() { 20 } else { 40 };
    let transport = 14 + tags + network;
    assert_eq!(&got[..6], &[2, 0, 0, 0, 0, 2], "{name}: to the sender");
    assert_eq!(&got[6..12], &[2, 0, 0, 0, 0, 1], "{name}: from the receiver");
    let back = Frame {
        source: sent.destination,
        destination: sent.source,
        source_port: sent.destination_port,
        destination_port: sent.source_port,
        payload: got[transport + 8..].to_vec(),
        padding: 0,
        ..sent.clone()
    };
    assert!(whole_checksum(&back, got, transport), "{name}: UDP checksum");
    let expected = back.bytes();
    assert_eq!(got.len(), expected.len(), "{name}");
    let ip = 14 + tags;
    if sent.source.is_ipv4() {
        assert_eq!(got[ip + 2..ip + 4], expected[ip + 2..ip + 4], "{name}: length");
        assert!(frame::ipv4_checksum_holds(&got[ip..transport]), "{name}: header checksum");
        assert_eq!(got[ip + 12..transport], expected[ip + 12..transport], "{name}: addresses");
    } else {
        assert_eq!(got[ip + 4..ip + 6], expected[ip + 4..ip + 6], "{name}: length");
        assert_eq!(got[ip + 8..transport], expected[ip + 8..transport], "{name}: addresses");
    }
    assert_eq!(
        got[transport..transport + 6],
        expected[transport..transport + 6],
        "{name}: ports and length"
    );
    String::from_utf8(back.payload).expect("text")
}

/// The 16 digits of a To tag for a Call-ID line: the hash, computed here anew.
fn tag_of(line: &str) -> String {
    let mut hash = challenge::seed(KEY);
    for part in line.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    format!("{:016x}", hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32))
}

/// Splits an answer at the nonce, which must be genuine.
fn without_nonce(name: &str, text: &str, source: &Address) -> String {
    let at = text.find("nonce=\"").expect("a nonce") + 7;
    let nonce = &text[at..at + NONCE_TEXT];
    let word = |n: usize| u64::from_str_radix(&nonce[1 + 16 * n..17 + 16 * n], 16).expect("hex");
    let read = Nonce {
        serial: word(0),
        run: word(1),
    };
    assert_eq!(word(2), read.mac(KEY, source), "{name}: the MAC");
    assert_eq!(read.run, u64::from(BOOT) << 32 | u64::from(RUN), "{name}");
    let age = (u64::from(BOOT) * 1_000 + sipauth_user::datapath::monotonic_ns() / 1_000_000).abs_diff(read.issued_ms());
    assert!(age < 60_000, "{name}: {age} ms");
    assert!(nonce.starts_with('k') && text[at + NONCE_TEXT..].starts_with('"'), "{name}");
    text.replace(nonce, "NONCE")
}

#[test]
fn a_plain_request_is_answered_with_its_own_headers_and_a_genuine_nonce() {
    require_root!();
    stay_on_one_cpu();
    for entry in ENTRIES {
        let mut bench = bench(entry);
        for (n, (v6, received)) in [(false, "203.0.113.3"), (true, "2001:0db8:0000:0000:0000:0000:0000:0003")]
            .into_iter()
            .enumerate()
        {
            let answered = format!("Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-1;rport=40312;received={received}\r\n");
            let plain = VIA.replace(";rport", "");
            let no_rport = format!("Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-1;received={received}\r\n");
            let first = "Via: SIP/2.0/UDP 10.0.0.9:5060;rport;branch=z9hG4bK-1\r\n";
            let rport_first = format!("Via: SIP/2.0/UDP 10.0.0.9:5060;rport=40312;received={received};branch=z9hG4bK-1\r\n");
            let long = format!("X-Long: {}\r\n", "x".repeat(900));
            for (m, (name, via, more, expected)) in [
                ("plain", VIA.to_owned(), "", answered.clone()),
                ("two lines of Via", format!("{VIA}{SECOND}"), "", format!("{answered}{SECOND}")),
                ("without rport", plain, "", no_rport),
                ("rport before the branch", first.to_owned(), "", rport_first),
                ("a number in columns", VIA.to_owned(), "Expires:    60\r\n", answered.clone()),
                ("a tab in a header", VIA.to_owned(), "Subject: a\tb\r\n", answered.clone()),
                ("a long request", VIA.to_owned(), &long, answered.clone()),
            ]
            .into_iter()
            .enumerate()
            {
                for (tags, padding) in [(vec![], 0), (vec![0x8100], 0), (vec![], 7)] {
                    let name = format!("{entry}, v6 {v6}, {} tags, padding {padding}: {name}", tags.len());
                    let call = format!("c{n}{m}{}{padding}@10.0.0.9", tags.len());
                    let sent = Frame {
                        tags,
                        padding,
                        ..from(v6, &invite(&call, &via, TO, more))
                    };
                    let before = bench.stats();
                    let ran = bench.run(&sent.bytes());
                    assert_eq!(ran.action, TX, "{name}");
                    let moved = bench.stats()[Reason::Challenged as usize].packets - before[Reason::Challenged as usize].packets;
                    assert_eq!(moved, 1, "{name}");
                    let text = answer(&name, &sent, &ran.frame);
                    let text = without_nonce(&name, &text, &sent.source.into());
                    let (head, tail) = text.split_once(";tag=sa-0badcafe").expect("our tag");
                    let (tag, tail) = tail.split_at(16);
                    assert_eq!(tag, tag_of(&format!("i: {call}\r\n")), "{name}");
                    assert_eq!(head, format!("{STATUS}{expected}{FROM}{}", TO.trim_end()), "{name}");
                    assert_eq!(tail, format!("\r\ni: {call}\r\nCSeq: 1 INVITE\r\n{BEFORE}NONCE{BEHIND}"), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_request_that_comes_again_goes_to_the_agent_once_and_its_tag_stays() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = bench(ENTRIES[0]);
    let sent = from(false, &invite("again@10.0.0.9", VIA, TO, ""));
    let tag = |frame: &[u8]| {
        let text = String::from_utf8_lossy(frame).into_owned();
        text.split(";tag=sa-").nth(1).map(|rest| rest[..24].to_owned())
    };
    let first = bench.run(&sent.bytes());
    let second = bench.run(&sent.bytes());
    let third = bench.run(&sent.bytes());
    assert_eq!([first.action, second.action, third.action], [TX, PASS, TX]);
    assert_eq!(second.frame[36..38], 16_060_u16.to_be_bytes(), "the punt port of the known lane");
    assert!(tag(&first.frame).is_some());
    assert_eq!(tag(&first.frame), tag(&third.frame));
    let moved = from(false, &invite("moved@10.0.0.9", VIA, TO, "")).bytes();
    assert_eq!(bench.run(&moved).action, TX);
    if stay_on(1).is_ok() {
        assert_eq!(bench.run(&moved).action, PASS, "also where it comes to another CPU");
    }
    let next = bench.run(&from(false, &invite("again@10.0.0.9", VIA, TO, "").replace("CSeq: 1", "CSeq: 2")).bytes());
    assert_eq!(next.action, TX, "the next request of the call");
}

#[test]
fn what_is_not_plain_goes_to_the_agent_as_it_came() {
    require_root!();
    stay_on_one_cpu();
    let good = || from(false, &invite("plain@10.0.0.9", VIA, TO, ""));
    let text = |via: &str, to: &str, more: &str| from(false, &invite("odd@10.0.0.9", via, to, more));
    let whole = |change: &dyn Fn(String) -> String| from(false, &change(invite("odd@10.0.0.9", VIA, TO, "")));
    let cases: Vec<(&str, Frame)> = vec![
        ("credentials", text(VIA, TO, "AUTHORIZATION: Digest x\r\n")),
        ("proxy credentials", text(VIA, TO, "Proxy-authorization: Digest x\r\n")),
        ("credentials with a space", text(VIA, TO, "Authorization : Digest x\r\n")),
        ("a To tag", text(VIA, "To: <sip:100@192.0.2.1>;TAG=1\r\n", "")),
        ("two To headers", text(VIA, &format!("{TO}{TO}"), "")),
        ("no To", text(VIA, "", "")),
        ("no Via", text("", TO, "")),
        ("no Call-ID", whole(&|text| text.replace("i: odd", "x: odd"))),
        ("no CSeq", whole(&|text| text.replace("CSeq:", "DSeq:"))),
        ("no From", whole(&|text| text.replace("FROM:", "FRAM:"))),
        ("a header without a colon", text(VIA, TO, "Subject\r\n")),
        ("a header without a name", text(VIA, TO, ": a\r\n")),
        ("a header without a value", text(VIA, TO, "Subject: \r\n")),
        ("a name with space behind it", text(VIA, TO, "To : <sip:1@h>\r\n")),
        ("a folded header", text(VIA, TO, "Subject: a\r\n b\r\n")),
        ("a bare line feed", text(VIA, TO, "Subject: a\nb\r\n")),
        ("a bare carriage return", text(VIA, TO, "Subject: a\rb\r\n")),
        ("a NUL", text(VIA, TO, "Subject: a\0b\r\n")),
        ("Via apart", text(VIA, TO, SECOND)),
        ("Via with two values", text(&VIA.replace(";rport", ";rport, SIP/2.0/UDP h"), TO, "")),
        ("Via with received", text(&VIA.replace(";rport", ";received=1.2.3.4"), TO, "")),
        ("rport with a value", text(&VIA.replace(";rport", ";rport=1"), TO, "")),
        (
            "no end of headers",
            whole(&|text| text.split("\r\n\r\n").next().unwrap_or_default().to_owned()),
        ),
        (
            "the last line feed is missing",
            whole(&|text| text.split("\n\r\n").next().unwrap_or_default().to_owned() + "\n\r"),
        ),
        ("another version", whole(&|text| text.replace(" SIP/2.0\r\n", " SIP/3.0\r\n"))),
        ("too many lines", text(VIA, TO, &"X: y\r\n".repeat(40))),
        (
            "too long an answer",
            text(VIA, &TO.replace('>', &format!("{}>", "x".repeat(1_000))), ""),
        ),
        ("too long a request", text(VIA, TO, &format!("X: {}\r\n", "x".repeat(2_000)))),
        ("BYE", whole(&|text| text.replace("INVITE sip:", "BYE sip:"))),
        ("CANCEL", whole(&|text| text.replace("INVITE sip:", "CANCEL sip:"))),
        (
            "IPv4 options",
            Frame {
                options: vec![1, 1, 1, 1],
                ..good()
            },
        ),
        (
            "a first fragment",
            Frame {
                fragment: 0x2000,
                udp_length: Some(1_400),
                ..good()
            },
        ),
        (
            "rules of its own",
            Frame {
                source: "203.0.113.5".parse().expect("an address"),
                ..good()
            },
        ),
    ];
    for entry in ENTRIES {
        let mut bench = bench(entry);
        for (name, frame) in &cases {
            let bytes = frame.bytes();
            let ran = bench.run(&bytes);
            assert_eq!(ran.action, PASS, "{entry}: {name}");
            assert_eq!(ran.frame.len(), bytes.len(), "{entry}: {name}");
            let expected = sipauth_tests::model::expect(&bytes, &bench.tables);
            bench.compare(&format!("{entry}: {name}"), &bytes, &expected, &ran);
        }
        let mut broadcast = good().bytes();
        broadcast[0] = 0xff;
        assert_eq!(bench.run(&broadcast).action, PASS, "{entry}: to all stations");
        let plain = from(false, &invite("next@10.0.0.9", VIA, TO, ""));
        assert_eq!(bench.run(&plain.bytes()).action, TX, "{entry}: and the plain one is answered");
    }
}

#[test]
fn nobody_is_challenged_who_would_not_be_handed_over() {
    require_root!();
    stay_on_one_cpu();
    let call = |n: u32| from(false, &invite(&format!("n{n}@10.0.0.9"), VIA, TO, "")).bytes();
    for entry in ENTRIES {
        let mut bench = bench(entry);
        let usual = bench.tables.config.expect("settings");
        let mut n = 0;
        let mut action = |bench: &mut Bench| {
            n += 1;
            bench.run(&call(n)).action
        };
        assert_eq!(action(&mut bench), TX, "{entry}");
        bench.change(|config| config.flags &= !flags::CHALLENGE);
        assert_eq!(action(&mut bench), PASS, "{entry}: by the agent");
        bench.set_config(usual);
        bench.change(|config| config.flags |= flags::MONITOR);
        let frame = call(900);
        let ran = bench.run(&frame);
        assert!(ran.action == PASS && ran.frame == frame, "{entry}: in monitor mode all passes");
        bench.set_config(usual);
        bench.change(|config| config.heartbeat_ns = 0);
        assert_eq!(action(&mut bench), DROP, "{entry}: without an agent");
        bench.set_config(usual);
        bench.change(|config| config.source_rate = [1; 4]);
        // Another source, which has not filled its bucket by the usual rate.
        let call = |n: u32| from(true, &invite(&format!("r{n}@10.0.0.9"), VIA, TO, "")).bytes();
        let actions: Vec<u32> = (0..50).map(|n| bench.run(&call(n)).action).collect();
        let answered = actions.iter().filter(|one| **one == TX).count();
        assert!((1..10).contains(&answered), "{entry}: {answered} of 50");
        assert!(
            actions.iter().all(|one| [TX, DROP].contains(one)),
            "{entry}: beyond the budget nothing passes"
        );
        bench.set_config(usual);
        bench.change(|config| config.default_policy = DefaultPolicy::Challenge as u32);
        let stranger = |text: &str| Frame {
            source: text.parse().expect("an address"),
            ..from(false, &invite("s@x", VIA, TO, ""))
        };
        assert_eq!(bench.run(&stranger("198.51.100.77").bytes()).action, TX, "{entry}: a stranger");
        for forged in ["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            let ran = bench.run(&stranger(forged).bytes());
            assert_eq!(ran.action, PASS, "{entry}: {forged} is the stack's to judge");
        }
    }
}
