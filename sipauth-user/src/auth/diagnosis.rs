//! Why credentials were refused, in the words of whoever has to find out: what the client sent, and what was expected.
//!
//! Made after the fact from the same datagram, and for a few refusals a second only: a flood of guesses costs nothing more for it.
//! No hash, nonce or password is shown.

use std::{fmt::Write as _, net::SocketAddr};

use super::{Authenticator, DigestRules, Directory, Outcome, Source, Timestamp, credentials::Credentials, credentials::unescape, verify};
use crate::sip::{Message, StartLine};

/// Refusals that a worker explains in a second.
const BUDGET: u32 = 50;
/// Longest value of a client's that is shown.
const SHOWN: usize = 64;

/// Why credentials were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// In a word.
    pub outcome: Outcome,
    /// The gateway that the username belongs to.
    pub gateway: Option<u32>,
    /// In a sentence: printable, one line.
    pub detail: String,
}

/// How many are left of this second's.
#[derive(Default)]
pub(super) struct Budget {
    second: u64,
    used: u32,
}

impl Budget {
    const fn take(&mut self, now: Timestamp) -> bool {
        let second = now.0 / 1_000;
        if self.second != second {
            (self.second, self.used) = (second, 0);
        }
        self.used += 1;
        self.used <= BUDGET
    }
}

impl Authenticator {
    /// The refusal of the last datagram, if it had credentials and is explained. To be asked for after each
    /// [`Authenticator::handle`].
    pub const fn take_diagnosis(&mut self) -> Option<Diagnosis> {
        self.diagnosis.take()
    }

    pub(super) fn diagnose<D: Directory + ?Sized>(
        &mut self,
        outcome: Outcome,
        message: &Message<'_>,
        from: SocketAddr,
        source: Source<'_>,
        directory: &D,
        now: Timestamp,
    ) {
        let mut digests = message.authorizations().filter_map(Credentials::parse);
        let Some(first) = digests.next() else { return };
        if !self.curiosity.take(now) {
            return;
        }
        let ours = |c: &Credentials<'_>| c.realm.is_some_and(|realm| *unescape(realm) == *source.realm.as_bytes());
        let credentials = if ours(&first) { first } else { digests.find(ours).unwrap_or(first) };
        let account = credentials.username.and_then(|name| verify::find(directory, &unescape(name)).0);
        let offer = source.rules.unwrap_or(&self.settings.rules);
        let rules = account.and_then(|account| account.rules.as_deref()).unwrap_or(&self.settings.rules);
        let uri = match message.start() {
            StartLine::Request { uri, .. } => uri,
            StartLine::Response { .. } => b"",
        };
        let detail = match outcome {
            Outcome::StaleNonce => self.age(&credentials, from, offer.nonce_lifetime.min(rules.nonce_lifetime).as_secs(), now),
            Outcome::BadNonce => {
                "the nonce was issued to another address or by another server, or its key has been renewed twice since".to_owned()
            }
            Outcome::Replayed => format!("nonce count {} was used before, in another request", shown(credentials.nc)),
            Outcome::RealmMismatch => format!(
                "realm {} was hashed; the challenge says {}",
                shown(credentials.realm),
                shown(Some(account.map_or(source.realm, |account| &account.realm).as_bytes()))
            ),
            Outcome::AlgorithmMismatch => {
                let accepted = if account.is_some() { rules } else { offer };
                format!(
                    "algorithm {}; offered is {}, accepted is {}",
                    credentials
                        .algorithm
                        .map_or_else(|| "MD5 (none was named)".to_owned(), |name| shown(Some(name))),
                    names(offer),
                    names(accepted)
                )
            }
            Outcome::QopMismatch => match credentials.qop {
                Some(qop) => format!("qop {} is not what was offered and this gateway accepts", shown(Some(qop))),
                None => "no qop although one was offered; old equipment needs --accept-without-qop".to_owned(),
            },
            Outcome::UriMismatch => uri_detail(&credentials, uri),
            Outcome::BadCredentials => missing(&credentials),
            Outcome::UnknownUser => format!("no password gateway has the username {}", shown(credentials.username)),
            Outcome::WrongPassword => format!(
                "the response of {} fits another password, or was made with another username or realm than it says",
                shown(credentials.username)
            ),
            Outcome::WrongAddress => "the password is right, but this address is not among the gateway's".to_owned(),
            Outcome::LockedOut => format!("{} is locked out after too many failures; `sipauth ban remove` lifts it", from.ip()),
            other => other.text().to_owned(),
        };
        self.diagnosis = Some(Diagnosis {
            outcome,
            gateway: account.map(|account| account.gateway),
            detail,
        });
    }

    fn age(&self, credentials: &Credentials<'_>, from: SocketAddr, lifetime: u64, now: Timestamp) -> String {
        let Some(nonce) = credentials.nonce.and_then(|text| self.mint.verify(text, from.ip())) else {
            return Outcome::StaleNonce.text().to_owned();
        };
        if !self.is_of_this_run(&nonce) {
            return "the nonce is from before a restart of the agent, or was issued over the other transport".to_owned();
        }
        if now < nonce.issued {
            return "the nonce is from the future: the clock of this host was set back".to_owned();
        }
        let age = (now.0 - nonce.issued.0) / 1_000;
        if age < lifetime {
            return format!("the nonce is {age} s old and used up, or was forgotten for want of room");
        }
        format!("the nonce is {age} s old and good for {lifetime} s; the client gets a new one and need not ask its user")
    }
}

fn uri_detail(credentials: &Credentials<'_>, uri: &[u8]) -> String {
    let digest = credentials.uri.unwrap_or_default();
    let remedy = if verify::same_uri(&unescape(digest), uri, super::UriMatch::Loose) {
        "they differ in port or parameters only, which --uri-match loose ignores"
    } else {
        "something between the client and here changes the request's URI"
    };
    format!(
        "the digest is for {}, the request for {}; {remedy}",
        shown(Some(digest)),
        shown(Some(uri))
    )
}

fn missing(credentials: &Credentials<'_>) -> String {
    let fields = [
        ("username", credentials.username),
        ("realm", credentials.realm),
        ("nonce", credentials.nonce),
        ("uri", credentials.uri),
        ("response", credentials.response),
    ];
    let absent: Vec<&str> = fields.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
    if credentials.malformed {
        "the header cannot be read, or has a field twice".to_owned()
    } else if absent.is_empty() {
        "a field has a wrong form: response by its length, nc (eight hex digits, from 1 on), or cnonce is missing".to_owned()
    } else {
        format!("without {}", absent.join(", "))
    }
}

pub(super) fn names(rules: &DigestRules) -> String {
    let all: Vec<&str> = rules.algorithms.iter().map(|one| one.as_str()).collect();
    all.join(", ")
}

/// A value of the client's between quotes; what is not printable, and what is too long, is left out.
pub(super) fn shown(value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "(none)".to_owned() };
    let mut text = String::from("\"");
    for byte in value.iter().take(SHOWN) {
        let printable = byte.is_ascii_graphic() || *byte == b' ';
        text.push(if printable { char::from(*byte) } else { '.' });
    }
    if value.len() > SHOWN {
        // Writing to a string cannot fail.
        let _ = write!(text, "… ({} bytes)", value.len());
    }
    text.push('"');
    text
}
