//! Passwords that the kernel program checks: what passes, and that nothing passes which the agent would not let pass.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunOptions};
use md5::{Digest as _, Md5};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use sipauth_common::{
    address::Address,
    challenge::{NONCE_TEXT, Nonce, Text},
    config::flags,
    decide::UDP,
    flow::{Flow, FlowKey},
    policy::{FLAG_GENERAL, Policy, modes},
    proof::{Caller, SLOTS, STRANGERS, USES},
    reason::Reason,
};
use sipauth_tests::{frame::Frame, require_root};
use sipauth_user::auth::{Account, Action, Arrival, Authenticator, Directory, Ha1, NonceKeys, Outcome, Settings, Source, Timestamp, Uses};

use crate::bench::{Bench, ENTRIES, PASS, address, policy, stay_on, stay_on_one_cpu};

/// Where a message is looked at both entry points are the same, and in a VM each case costs time.
const ONE: [&str; 1] = [ENTRIES[0]];
const REALM: &str = "sip.example.com";
const USERNAME: &str = "gw1";
const PASSWORD: &str = "a secret of the test";
const FROM: &str = "203.0.113.3";
const PORT: u16 = 40_312;
const BOOT: u32 = 1_700_000_000;
const GATEWAY: u32 = 3;
const STARTED: Timestamp = Timestamp(1_800_000_000_000);

fn keys() -> NonceKeys {
    NonceKeys {
        current: [7; 32],
        previous: None,
    }
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn flow_key() -> FlowKey {
    FlowKey {
        address: address(FROM),
        port: PORT,
        protocol: UDP,
        reserved: 0,
    }
}

fn caller(bench: &Bench) -> Caller {
    let ha1 = md5(&format!("{USERNAME}:{REALM}:{PASSWORD}"));
    Caller {
        until: u64::MAX,
        gateway: GATEWAY,
        generation: bench.tables.config.expect("settings").generation,
        username: Text::new(USERNAME.as_bytes()).expect("it fits"),
        ha1: ha1.as_bytes().try_into().expect("32 digits"),
    }
}

/// A password gateway that has called from its port already.
fn bench(entry: &'static str) -> Bench {
    let mut bench = Bench::new(entry);
    let general = Policy {
        flags: FLAG_GENERAL,
        ..policy(GATEWAY, modes::PASSWORD)
    };
    bench.host(address(FROM), general);
    bench.change(|config| config.flags |= flags::CHALLENGE);
    let challenge = Authenticator::of_kernel(&Settings::default(), REALM, &keys(), STARTED, BOOT).expect("plain");
    bench.programs.maps.set_challenge(&challenge).expect("CHALLENGE");
    known(&mut bench);
    bench
}

fn known(bench: &mut Bench) {
    let flow = Flow {
        expires: u64::MAX,
        seen: bench.tables.now,
        gateway: GATEWAY,
        registering: 0,
    };
    bench.flow(flow_key(), flow);
    let caller = caller(bench);
    bench.programs.maps.put_caller(&flow_key(), &caller).expect("CALLERS");
}

fn frame(text: &str) -> Frame {
    Frame {
        source: FROM.parse().expect("an address"),
        source_port: PORT,
        payload: text.as_bytes().to_vec(),
        ..Frame::invite()
    }
}

const URI: &str = "sip:100@192.0.2.1:5060;user=phone";

fn invite(uri: &str, call: &str, cseq: u32, credentials: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-{call}-{cseq};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:1000@192.0.2.1>;tag=f1\r\nTo: <sip:100@192.0.2.1>\r\nCall-ID: {call}@10.0.0.9\r\nCSeq: {cseq} INVITE\r\n\
         {credentials}Contact: <sip:1000@10.0.0.9>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    )
}

/// What a client answers with; change what a test is about.
#[derive(Clone)]
struct Answer {
    username: String,
    password: String,
    realm: String,
    uri: String,
    cnonce: String,
    nc: String,
    qop: String,
    method: String,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            username: USERNAME.to_owned(),
            password: PASSWORD.to_owned(),
            realm: REALM.to_owned(),
            uri: URI.to_owned(),
            cnonce: "0a4f113b".to_owned(),
            nc: "00000001".to_owned(),
            qop: "auth".to_owned(),
            method: "INVITE".to_owned(),
        }
    }
}

impl Answer {
    fn response(&self, nonce: &str) -> String {
        let ha1 = md5(&format!("{}:{}:{}", self.username, self.realm, self.password));
        let ha2 = md5(&format!("{}:{}", self.method, self.uri));
        md5(&format!("{ha1}:{nonce}:{}:{}:{}:{ha2}", self.nc, self.cnonce, self.qop))
    }

    /// The fields, in SIPp's order.
    fn fields(&self, nonce: &str) -> Vec<(String, String)> {
        let quoted = |text: &str| format!("\"{text}\"");
        [
            ("username", quoted(&self.username)),
            ("realm", quoted(&self.realm)),
            ("cnonce", quoted(&self.cnonce)),
            ("nc", self.nc.clone()),
            ("qop", self.qop.clone()),
            ("uri", quoted(&self.uri)),
            ("nonce", quoted(nonce)),
            ("response", quoted(&self.response(nonce))),
            ("algorithm", "MD5".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn header(&self, nonce: &str) -> String {
        line("Authorization: Digest ", &self.fields(nonce), ", ")
    }
}

fn line(begin: &str, fields: &[(String, String)], between: &str) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{begin}{}\r\n", fields.join(between))
}

/// A nonce of the program's.
fn challenged(bench: &mut Bench, call: &str) -> String {
    let ran = bench.run(&frame(&invite(URI, call, 1, "")).bytes());
    let text = String::from_utf8_lossy(&ran.frame).into_owned();
    let at = text.find("nonce=\"").unwrap_or_else(|| panic!("{call}: a challenge: {text}")) + 7;
    text[at..at + NONCE_TEXT].to_owned()
}

/// Whether the program has found a request right. If not it is for the agent.
fn passes(bench: &mut Bench, what: &str, sent: &Frame) -> bool {
    let before = bench.stats();
    let ran = bench.run(&sent.bytes());
    let after = bench.stats();
    let moved = |reason: Reason| after[reason as usize].packets - before[reason as usize].packets;
    assert_eq!(ran.action, PASS, "{what}");
    assert_eq!(moved(Reason::Authenticated) + moved(Reason::Challenge), 1, "{what}");
    let port = u16::from_be_bytes([ran.frame[36], ran.frame[37]]);
    let expected = if moved(Reason::Authenticated) == 1 { 5_060 } else { 15_060 };
    assert_eq!(port, expected, "{what}: as it came, or to the agent's trusted lane");
    moved(Reason::Authenticated) == 1
}

/// The directory of one gateway, at its address.
struct Book(Account);

impl Directory for Book {
    fn account(&self, username: &[u8]) -> Option<&Account> {
        (username == USERNAME.as_bytes()).then_some(&self.0)
    }

    fn source(&self, _: IpAddr) -> Source<'_> {
        Source {
            peer: false,
            password: true,
            listed: true,
            realm: REALM,
            rules: None,
        }
    }
}

/// What the agent makes of a request, which remembers nothing but the uses of nonces.
fn agent(uses: Uses, datagram: &[u8]) -> Action {
    let mut authenticator = Authenticator::new(Arc::new(Settings::default()), &keys(), 0, STARTED).with_kernel(uses);
    let account = Account {
        gateway: GATEWAY,
        realm: REALM.to_owned(),
        ha1: Ha1::derive(USERNAME, REALM, PASSWORD),
        addresses: vec!["203.0.113.3/32".parse().expect("a prefix")],
        rules: None,
    };
    let arrival = Arrival {
        source: SocketAddr::new(FROM.parse().expect("an address"), PORT),
        destination: "192.0.2.1:5060".parse().expect("an address"),
        trusted: true,
        denied: false,
    };
    let now = Timestamp(u64::from(BOOT) * 1_000 + sipauth_user::datapath::monotonic_ns() / 1_000_000);
    authenticator.handle(datagram, &arrival, &Book(account), now)
}

/// Memory of the agent's own, in which as many nonces were made as in the program's and none was used.
fn fresh(bench: &Bench) -> Uses {
    let nonces = bench.programs.maps.nonces();
    let made = (*nonces).as_ref()[0].load(SeqCst);
    let words: Vec<AtomicU64> = (0..2 * SLOTS).map(|_| AtomicU64::new(0)).collect();
    words[0].store(made, SeqCst);
    Uses::new(Arc::new(words))
}

#[test]
fn a_right_answer_passes_once_and_its_retransmission_is_known_to_the_agent() {
    require_root!();
    stay_on_one_cpu();
    for entry in ENTRIES {
        let mut bench = bench(entry);
        let seen = bench.programs.maps.nonces();
        let made = |n: usize| (*seen).as_ref()[n].load(SeqCst);
        assert_eq!(made(0), 0, "{entry}");
        let nonce = challenged(&mut bench, "one");
        let right = frame(&invite(URI, "one", 2, &Answer::default().header(&nonce)));
        assert_eq!(made(0), 1, "{entry}");
        assert!(passes(&mut bench, entry, &right));
        let nonces = bench.programs.maps.nonces();
        let uses = || Uses::new(Arc::clone(&nonces));
        assert_eq!(agent(uses(), &right.payload).outcome(), Outcome::Retransmission, "{entry}");
        // Another request with them: of another call, or but for a byte the same.
        for other in [
            invite(URI, "other", 2, &Answer::default().header(&nonce)),
            String::from_utf8(right.payload.clone()).expect("text").replace("v=0", "v=1"),
        ] {
            assert_eq!(agent(uses(), other.as_bytes()).outcome(), Outcome::Replayed, "{entry}");
            assert!(!passes(&mut bench, entry, &frame(&other)), "{entry}");
        }
        assert!(!passes(&mut bench, entry, &right), "{entry}: the agent lets it through");
        // And the other way round: what the agent took the program does not take.
        let nonce = challenged(&mut bench, "two");
        let right = frame(&invite(URI, "two", 2, &Answer::default().header(&nonce)));
        let action = agent(Uses::new(bench.programs.maps.nonces()), &right.payload);
        assert_eq!(action.outcome(), Outcome::Authenticated, "{entry}");
        assert!(!passes(&mut bench, entry, &right), "{entry}");
        // What it says of the caller is what the program has of him.
        let Action::Release { flow: Some(grant), .. } = action else {
            panic!("{entry}: no flow")
        };
        let wanted = caller(&bench);
        let said = grant.caller.expect("a caller");
        assert!(said.username == wanted.username && said.ha1 == wanted.ha1 && said.gateway == wanted.gateway);
    }
}

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
fn a_nonce_is_good_for_its_time_and_in_its_run_and_as_long_as_its_use_is_remembered() {
    require_root!();
    stay_on_one_cpu();
    let text = |nonce: &Nonce, key: [u64; 2]| {
        let source = Address::from(FROM.parse::<IpAddr>().expect("an address"));
        format!("k{:016x}{:016x}{:016x}", nonce.serial, nonce.run, nonce.mac(key, &source))
    };
    let run = u32::try_from(STARTED.0 & 0xffff_ffff).expect("32 bits");
    let now = sipauth_user::datapath::monotonic_ns;
    for entry in ONE {
        let mut bench = bench(entry);
        let nonces = bench.programs.maps.nonces();
        (*nonces).as_ref()[0].store(200_000, SeqCst);
        let key = keys().of_kernel();
        let mut attempt = |what: &str, number: u32, age: u64, run: u32, key: [u64; 2]| {
            let nonce = Nonce::new(now() - age.min(now()), number, BOOT, run);
            let sent = frame(&invite(URI, "made", number & 0xffff, &Answer::default().header(&text(&nonce, key))));
            passes(&mut bench, &format!("{entry}: {what}"), &sent)
        };
        assert!(attempt("made here", 200_000, 0, run, key));
        assert!(!attempt("used", 200_000, 0, run, key));
        assert!(attempt("an earlier one", 199_000, 1_000_000_000, run, key));
        assert!(!attempt("with another key", 199_001, 0, run, [key[0], key[1] ^ 1]));
        assert!(!attempt("of an earlier run", 199_001, 0, run - 1, key));
        assert!(!attempt("not made yet", 200_001, 0, run, key));
        assert!(attempt("the oldest that is remembered", 200_000 - USES + 1, 0, run, key));
        assert!(!attempt("one before", 200_000 - USES, 0, run, key));
        assert!(!attempt("one of strangers that was not made", 200_000 | STRANGERS, 0, run, key));
        (*nonces).as_ref()[2].store(200_000, SeqCst);
        assert!(attempt("one that was made for a stranger", 200_000 | STRANGERS, 0, run, key));
        assert!(!attempt("used", 200_000 | STRANGERS, 0, run, key));
        if now() > 301_000_000_000 {
            assert!(attempt("old", 199_002, 299_000_000_000, run, key));
            assert!(!attempt("too old", 199_003, 301_000_000_000, run, key));
        }
        let ahead = Nonce::new(now() + 10_000_000_000, 199_004, BOOT, run);
        let sent = frame(&invite(URI, "ahead", 2, &Answer::default().header(&text(&ahead, key))));
        assert!(!passes(&mut bench, entry, &sent), "{entry}: of a time to come");
    }
}

/// The same request at two CPUs at once, and at a worker of the agent.
#[test]
fn of_all_who_use_a_nonce_at_the_same_time_one_has_it() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = bench(ENTRIES[0]);
    let requests: Vec<Frame> = (0..300)
        .map(|n| {
            let call = format!("r{n}");
            let nonce = challenged(&mut bench, &call);
            frame(&invite(URI, &call, 2, &Answer::default().header(&nonce)))
        })
        .collect();
    let before = bench.stats()[Reason::Authenticated as usize].packets;
    let uses = Uses::new(bench.programs.maps.nonces());
    let program = &*bench.programs.ingress().expect("the program");
    let barrier = Barrier::new(3);
    let by_agent = std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (requests, barrier) = (&requests, &barrier);
            scope.spawn(move || {
                // Where there is one only, they take turns.
                let _ = stay_on(cpu);
                for (n, request) in (0..).zip(requests) {
                    let (bytes, mut out) = (request.bytes(), vec![0; 4_096]);
                    barrier.wait();
                    // Sometimes the agent, which takes longer to begin, is first.
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_micros(n % 50 * 20) {}
                    let options = TestRunOptions {
                        data_in: Some(&bytes),
                        data_out: Some(&mut out),
                        ..TestRunOptions::default()
                    };
                    program.test_run(options).expect("a test run");
                }
            });
        }
        let mut by_agent = 0;
        for request in &requests {
            barrier.wait();
            by_agent += u64::from(agent(uses.clone(), &request.payload).outcome() == Outcome::Authenticated);
        }
        by_agent
    });
    let by_kernel = bench.stats()[Reason::Authenticated as usize].packets - before;
    println!("{by_kernel} by the kernel program, {by_agent} by the agent");
    assert_eq!(by_kernel + by_agent, 300);
}

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
