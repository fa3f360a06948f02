//! Credentials field by field, for whoever traces a dialogue: what was sent, and whether it is right, whatever the others are.
//!
//! After the fact and without effect on it; with the functions that decided. Neither hash nor nonce nor password is shown.

use std::net::SocketAddr;

use subtle::ConstantTimeEq as _;

use super::{
    Arrival, Authenticator, DigestRules, Directory, Outcome, Qop, Timestamp,
    credentials::{Credentials, unescape},
    diagnosis::{names, shown},
    digest::{Input, response},
    verify::{find, offered, ours, protection, same_uri},
};
use crate::sip::{Message, StartLine};

/// A field of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its name; `response` for what proves the password.
    pub field: &'static str,
    /// What was sent: printable, without secrets.
    pub sent: String,
    /// Whether it is right; `None` where that cannot be said.
    pub right: Option<bool>,
    /// What was expected, or what it means.
    pub note: String,
}

impl Judged {
    fn new(field: &'static str, sent: String, right: impl Into<Option<bool>>, note: impl Into<String>) -> Self {
        Self {
            field,
            sent,
            right: right.into(),
            note: note.into(),
        }
    }
}

/// The credentials of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The gateway that the username belongs to.
    pub gateway: Option<u32>,
    /// Each field that matters; empty where there are no credentials.
    pub fields: Vec<Judged>,
}

impl Authenticator {
    /// The credentials of a message that had this outcome a moment ago.
    #[must_use]
    pub fn judge<D: Directory + ?Sized>(
        &self,
        message: &Message<'_>,
        arrival: &Arrival,
        outcome: Outcome,
        directory: &D,
        now: Timestamp,
    ) -> Judgement {
        let StartLine::Request { token: method, uri, .. } = message.start() else {
            return Judgement::default();
        };
        let source = directory.source(arrival.source.ip().to_canonical());
        let Some(first) = message.authorizations().filter_map(Credentials::parse).next() else {
            return Judgement::default();
        };
        let credentials = ours(message, source.realm, directory).unwrap_or(first);
        let account = credentials.username.and_then(|name| find(directory, &unescape(name)).0);
        let offer = source.rules.unwrap_or(&self.settings.rules);
        let rules = account.and_then(|account| account.rules.as_deref()).unwrap_or(&self.settings.rules);
        let expected = account.map_or(source.realm, |account| &account.realm);
        let realm_is_right = credentials.realm.map(|realm| *unescape(realm) == *expected.as_bytes());
        let mut fields = vec![
            Judged::new(
                "username",
                shown(credentials.username),
                account.is_some(),
                if account.is_some() { "" } else { "no password gateway has it" },
            ),
            Judged::new(
                "realm",
                shown(credentials.realm),
                realm_is_right.unwrap_or(false),
                if realm_is_right == Some(true) {
                    String::new()
                } else {
                    format!("expected {}", shown(Some(expected.as_bytes())))
                },
            ),
        ];
        let algorithm = offered(offer, credentials.algorithm);
        let accepted = algorithm.is_some_and(|algorithm| account.is_none() || rules.algorithms.contains(&algorithm));
        fields.push(Judged::new(
            "algorithm",
            credentials
                .algorithm
                .map_or_else(|| "(none, which means MD5)".to_owned(), |name| shown(Some(name))),
            accepted,
            if accepted {
                String::new()
            } else {
                format!("offered is {}", names(offer))
            },
        ));
        let protection = protection(offer.qop, &credentials, message.body());
        fields.push(qop(&credentials, offer, rules, &protection));
        fields.push(self.nonce(&credentials, arrival.source, offer, rules, now));
        fields.push(nc(&credentials, outcome, protection.is_ok()));
        fields.push(digest_uri(&credentials, uri, rules));
        let answer = match (account, algorithm, protection, credentials.response) {
            (_, _, _, None) => Judged::new("response", "(none)".to_owned(), false, "without it nothing is proven"),
            (Some(account), Some(algorithm), Ok((protection, _)), Some(answer)) => {
                let with_domain = credentials.username.is_some_and(|name| find(directory, &unescape(name)).1);
                let expected = response(
                    account.ha1.get(algorithm.hash(), with_domain),
                    &Input {
                        algorithm,
                        method,
                        uri: credentials.uri.unwrap_or_default(),
                        nonce: credentials.nonce.unwrap_or_default(),
                        protection,
                        cnonce: credentials.cnonce.unwrap_or_default(),
                    },
                );
                let right = bool::from(expected.as_bytes().ct_eq(&answer.to_ascii_lowercase()));
                let note = if right {
                    ""
                } else {
                    "another password was hashed, or another username or realm than it says"
                };
                Judged::new("response", redacted(answer), right, note)
            }
            (_, _, _, Some(answer)) => Judged::new("response", redacted(answer), None, "cannot be judged without the fields above"),
        };
        fields.push(answer);
        if credentials.malformed {
            fields.push(Judged::new(
                "header",
                String::new(),
                false,
                "it cannot be read as a whole, or has a field twice",
            ));
        }
        if let Some(account) = account
            && !account.may_call_from(arrival.source.ip().to_canonical())
        {
            let from = arrival.source.ip().to_string();
            fields.push(Judged::new("address", from, false, "not among the gateway's"));
        }
        Judgement {
            gateway: account.map(|account| account.gateway),
            fields,
        }
    }

    fn nonce(&self, credentials: &Credentials<'_>, from: SocketAddr, offer: &DigestRules, rules: &DigestRules, now: Timestamp) -> Judged {
        let field = "nonce";
        let Some(text) = credentials.nonce else {
            return Judged::new(field, "(none)".to_owned(), false, "");
        };
        let Some(nonce) = self.mint.verify(text, from.ip()) else {
            let note = "not issued by this agent to this address, or its key has been renewed twice since";
            return Judged::new(field, "not genuine".to_owned(), false, note);
        };
        let lifetime = offer.nonce_lifetime.min(rules.nonce_lifetime);
        let age = now.0.saturating_sub(nonce.issued.0) / 1_000;
        let fresh = self.is_fresh(&nonce, lifetime, now);
        let note = if fresh {
            String::new()
        } else if age > lifetime.as_secs() {
            format!("good for {} s", lifetime.as_secs())
        } else {
            "from before a restart, over another transport, or forgotten".to_owned()
        };
        Judged::new(field, format!("genuine, {age} s old"), fresh, note)
    }
}

fn qop(
    credentials: &Credentials<'_>,
    offer: &DigestRules,
    rules: &DigestRules,
    protection: &Result<(Option<super::digest::Protection<'_>>, u32), Outcome>,
) -> Judged {
    let sent = credentials.qop.map_or_else(|| "(none)".to_owned(), |qop| shown(Some(qop)));
    let right = match (credentials.qop, protection) {
        (None, _) => offer.qop == Qop::None || rules.accept_without_qop,
        (Some(qop), _) => {
            let integrity = qop.eq_ignore_ascii_case(b"auth-int");
            (integrity || qop.eq_ignore_ascii_case(b"auth")) && offer.qop.accepts(integrity) && rules.qop.accepts(integrity)
        }
    };
    let note = match (right, credentials.qop) {
        (true, _) => "",
        (false, None) => "one was offered; old equipment needs --accept-without-qop",
        (false, Some(_)) => "not what was offered and this gateway accepts",
    };
    Judged::new("qop", sent, right, note)
}

fn nc(credentials: &Credentials<'_>, outcome: Outcome, readable: bool) -> Judged {
    let field = "nc";
    match (credentials.qop, credentials.nc) {
        (None, None) => Judged::new(
            field,
            "(none)".to_owned(),
            true,
            "without qop there is none: the nonce is good for one request",
        ),
        (Some(_), None) => Judged::new(field, "(none)".to_owned(), false, "it belongs to qop, with a cnonce"),
        (_, Some(nc)) if outcome == Outcome::Replayed => Judged::new(field, shown(Some(nc)), false, "used before, in another request"),
        (Some(_), Some(nc)) if !readable => Judged::new(field, shown(Some(nc)), None, "eight hex digits from 00000001 on, with a cnonce"),
        (_, Some(nc)) => Judged::new(field, shown(Some(nc)), true, ""),
    }
}

fn digest_uri(credentials: &Credentials<'_>, request: &[u8], rules: &DigestRules) -> Judged {
    let digest = credentials.uri.unwrap_or_default();
    let right = same_uri(&unescape(digest), request, rules.uri_match);
    let note = if right {
        String::new()
    } else {
        format!("the request is for {}", shown(Some(request)))
    };
    Judged::new("uri", shown(credentials.uri), right, note)
}

/// Only how long it is.
fn redacted(response: &[u8]) -> String {
    format!("({} bytes, not shown)", response.len())
}
