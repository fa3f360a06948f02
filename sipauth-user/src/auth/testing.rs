//! A client for tests: requests, and credentials that answer a challenge.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use sipauth_common::proof::Caller;

use super::{
    Account, Action, Algorithm, Arrival, Authenticator, DigestRules, Directory, Ha1, NonceKeys, Outcome, Settings, Source, Timestamp,
};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);
pub(crate) const REALM: &str = "sip.example.com";
pub(crate) const URI: &str = "sip:4670000@192.0.2.1";

pub(crate) fn keys() -> NonceKeys {
    NonceKeys {
        current: [7; 32],
        previous: None,
    }
}

pub(crate) fn authenticator(settings: Settings) -> Authenticator {
    Authenticator::new(Arc::new(settings), &keys(), 3, NOW)
}

pub(crate) fn with_rules(rules: DigestRules) -> Settings {
    Settings {
        rules: Arc::new(rules),
        ..Settings::default()
    }
}

pub(crate) fn later(ms: u64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

pub(crate) fn arrival(source: &str) -> Arrival {
    Arrival {
        source: source.parse().unwrap(),
        destination: "192.0.2.1:5060".parse().unwrap(),
        trusted: false,
        denied: false,
    }
}

/// `198.51.100.x` has a peer, `203.0.113.x` nothing, all else password gateways, of which those at `192.0.2.x` are listed.
pub(crate) struct Book {
    pub(crate) accounts: HashMap<Vec<u8>, Account>,
    /// What every source is challenged by, where that is not what the settings say.
    pub(crate) offered: Option<DigestRules>,
}

impl Default for Book {
    fn default() -> Self {
        let mut book = Self {
            accounts: HashMap::new(),
            offered: None,
        };
        book.add("gw1", 1, "secret", &[]);
        book.add("gw2", 2, "other", &["192.0.2.128/25"]);
        book
    }
}

impl Book {
    pub(crate) fn add(&mut self, username: &str, gateway: u32, password: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|net| net.parse().unwrap()).collect();
        let account = Account {
            gateway,
            realm: REALM.into(),
            ha1: Ha1::derive(username, REALM, password),
            addresses,
            rules: None,
        };
        self.accounts.insert(username.into(), account);
    }
}

impl Directory for Book {
    fn account(&self, username: &[u8]) -> Option<&Account> {
        self.accounts.get(username)
    }

    fn source(&self, address: IpAddr) -> Source<'_> {
        let is = |prefix: &str| address.to_string().starts_with(prefix);
        Source {
            peer: is("198.51.100."),
            password: !is("198.51.100.") && !is("203.0.113."),
            listed: is("192.0.2."),
            realm: REALM,
            rules: self.offered.as_ref(),
        }
    }
}

/// A request without credentials; `extra` is whole header lines.
pub(crate) fn request(method: &str, to_tag: &str, cseq: u32, extra: &str) -> Vec<u8> {
    format!(
        "{method} {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-{cseq};rport\r\nMax-Forwards: 70\r\n\
         From: \"A; \\\"B\\\"\" <sip:1000@192.0.2.1>;tag=f1\r\nTo: <{URI}>{to_tag}\r\nCall-ID: c1@10.0.0.9\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:1000@10.0.0.9>\r\n{extra}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// What a client would put into its answer; change what a test is about.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) username: String,
    pub(crate) password: String,
    /// What is hashed, if it is not the username sent.
    pub(crate) hashed_username: Option<String>,
    pub(crate) realm: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) uri: String,
    pub(crate) qop: Option<&'static str>,
    pub(crate) nc: u32,
    pub(crate) body: &'static [u8],
}

impl Default for Client {
    fn default() -> Self {
        Self {
            username: "gw1".into(),
            password: "secret".into(),
            hashed_username: None,
            realm: REALM.into(),
            algorithm: Algorithm::Md5,
            uri: URI.into(),
            qop: Some("auth"),
            nc: 1,
            body: b"",
        }
    }
}

impl Client {
    /// The Authorization line for a nonce. Computed by another way than the code under test: with `format!` over hex strings.
    pub(crate) fn line(&self, method: &str, nonce: &str) -> String {
        let h = |text: &[u8]| String::from_utf8(self.algorithm.hash().joined(&[text]).as_bytes().to_vec()).unwrap();
        let hashed = self.hashed_username.as_ref().unwrap_or(&self.username);
        let mut ha1 = h(format!("{hashed}:{}:{}", self.realm, self.password).as_bytes());
        if self.algorithm.is_session() {
            ha1 = h(format!("{ha1}:{nonce}:cn").as_bytes());
        }
        let Self {
            username, realm, uri, nc, ..
        } = self;
        let mut ha2 = format!("{method}:{uri}");
        if self.qop == Some("auth-int") {
            ha2 = format!("{ha2}:{}", h(self.body));
        }
        let ha2 = h(ha2.as_bytes());
        let (response, tail) = match self.qop {
            Some(qop) => (
                h(format!("{ha1}:{nonce}:{nc:08x}:cn:{qop}:{ha2}").as_bytes()),
                format!(", qop={qop}, nc={nc:08x}, cnonce=\"cn\""),
            ),
            None => (h(format!("{ha1}:{nonce}:{ha2}").as_bytes()), ", cnonce=\"cn\"".into()),
        };
        let algorithm = self.algorithm.as_str();
        format!(
            "Authorization: Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={algorithm}{tail}\r\n"
        )
    }

    pub(crate) fn invite(&self, nonce: &str, cseq: u32) -> Vec<u8> {
        request("INVITE", "", cseq, &self.line("INVITE", nonce))
    }
}

/// The text of a reply; fails if there is none.
pub(crate) fn reply(action: &Action) -> String {
    match action {
        Action::Reply { response, .. } => String::from_utf8(response.clone()).unwrap(),
        other => panic!("not a reply: {other:?}"),
    }
}

/// The first nonce in a challenge.
pub(crate) fn nonce_of(action: &Action) -> String {
    let text = reply(action);
    let at = text.find("nonce=\"").unwrap() + 7;
    text[at..].split('"').next().unwrap().to_owned()
}

/// One authenticator, one directory, and a clock.
pub(crate) struct Bench {
    pub(crate) auth: Authenticator,
    pub(crate) book: Book,
    pub(crate) now: Timestamp,
    /// What the last action said of the caller; taken out, so that actions can be compared.
    pub(crate) caller: Option<Caller>,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            auth: authenticator(settings),
            book: Book::default(),
            now: NOW,
            caller: None,
        }
    }

    pub(crate) fn send(&mut self, datagram: &[u8], source: &str) -> Action {
        self.send_as(datagram, &arrival(source))
    }

    pub(crate) fn send_as(&mut self, datagram: &[u8], arrival: &Arrival) -> Action {
        let mut action = self.auth.handle(datagram, arrival, &self.book, self.now);
        self.caller = match &mut action {
            Action::Release { flow: Some(grant), .. } => grant.caller.take(),
            _ => None,
        };
        action
    }

    /// A nonce issued to `source` now.
    pub(crate) fn nonce(&mut self, source: &str) -> String {
        let action = self.send(&request("INVITE", "", 1, ""), source);
        assert_eq!(action.outcome(), Outcome::Challenged);
        nonce_of(&action)
    }
}
