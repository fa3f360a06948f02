//! A gateway that has called already, its answers to challenges, and the agent that would judge them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use md5::{Digest as _, Md5};
use sipauth_common::{
    challenge::{NONCE_TEXT, Text},
    config::flags,
    decide::UDP,
    flow::{Flow, FlowKey},
    policy::{FLAG_GENERAL, Policy, modes},
    proof::{Caller, SLOTS},
    reason::Reason,
};
use sipauth_tests::frame::Frame;
use sipauth_user::auth::{Account, Action, Arrival, Authenticator, Directory, Ha1, NonceKeys, Settings, Source, Timestamp, Uses};

use crate::bench::{Bench, ENTRIES, PASS, address, policy};

/// Where a message is looked at both entry points are the same, and in a VM each case costs time.
pub(super) const ONE: [&str; 1] = [ENTRIES[0]];
pub(super) const REALM: &str = "sip.example.com";
pub(super) const USERNAME: &str = "gw1";
pub(super) const PASSWORD: &str = "a secret of the test";
pub(super) const FROM: &str = "203.0.113.3";
pub(super) const PORT: u16 = 40_312;
pub(super) const BOOT: u32 = 1_700_000_000;
pub(super) const GATEWAY: u32 = 3;
pub(super) const STARTED: Timestamp = Timestamp(1_800_000_000_000);

pub(super) fn keys() -> NonceKeys {
    NonceKeys {
        current: [7; 32],
        previous: None,
    }
}

pub(super) fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn flow_key() -> FlowKey {
    FlowKey {
        address: address(FROM),
        port: PORT,
        protocol: UDP,
        reserved: 0,
    }
}

pub(super) fn caller(bench: &Bench) -> Caller {
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
pub(super) fn bench(entry: &'static str) -> Bench {
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

pub(super) fn known(bench: &mut Bench) {
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

pub(super) fn frame(text: &str) -> Frame {
    Frame {
        source: FROM.parse().expect("an address"),
        source_port: PORT,
        payload: text.as_bytes().to_vec(),
        ..Frame::invite()
    }
}

pub(super) const URI: &str = "sip:100@192.0.2.1:5060;user=phone";

pub(super) fn invite(uri: &str, call: &str, cseq: u32, credentials: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-{call}-{cseq};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:1000@192.0.2.1>;tag=f1\r\nTo: <sip:100@192.0.2.1>\r\nCall-ID: {call}@10.0.0.9\r\nCSeq: {cseq} INVITE\r\n\
         {credentials}Contact: <sip:1000@10.0.0.9>\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    )
}

/// What a client answers with; change what a test is about.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) realm: String,
    pub(super) uri: String,
    pub(super) cnonce: String,
    pub(super) nc: String,
    pub(super) qop: String,
    pub(super) method: String,
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
    pub(super) fn response(&self, nonce: &str) -> String {
        let ha1 = md5(&format!("{}:{}:{}", self.username, self.realm, self.password));
        let ha2 = md5(&format!("{}:{}", self.method, self.uri));
        md5(&format!("{ha1}:{nonce}:{}:{}:{}:{ha2}", self.nc, self.cnonce, self.qop))
    }

    /// The fields, in SIPp's order.
    pub(super) fn fields(&self, nonce: &str) -> Vec<(String, String)> {
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

    pub(super) fn header(&self, nonce: &str) -> String {
        line("Authorization: Digest ", &self.fields(nonce), ", ")
    }
}

pub(super) fn line(begin: &str, fields: &[(String, String)], between: &str) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{begin}{}\r\n", fields.join(between))
}

/// A nonce of the program's.
pub(super) fn challenged(bench: &mut Bench, call: &str) -> String {
    let ran = bench.run(&frame(&invite(URI, call, 1, "")).bytes());
    let text = String::from_utf8_lossy(&ran.frame).into_owned();
    let at = text.find("nonce=\"").unwrap_or_else(|| panic!("{call}: a challenge: {text}")) + 7;
    text[at..at + NONCE_TEXT].to_owned()
}

/// Whether the program has found a request right. If not it is for the agent.
pub(super) fn passes(bench: &mut Bench, what: &str, sent: &Frame) -> bool {
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
pub(super) struct Book(Account);

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
pub(super) fn agent(uses: Uses, datagram: &[u8]) -> Action {
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
pub(super) fn fresh(bench: &Bench) -> Uses {
    let nonces = bench.programs.maps.nonces();
    let made = (*nonces).as_ref()[0].load(SeqCst);
    let words: Vec<AtomicU64> = (0..2 * SLOTS).map(|_| AtomicU64::new(0)).collect();
    words[0].store(made, SeqCst);
    Uses::new(Arc::new(words))
}
