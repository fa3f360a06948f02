//! What the operator can choose about the digest.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Algorithm;

/// Quality of protection that a challenge offers (RFC 7616, 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Qop {
    /// The challenge has no `qop`; answers are as in RFC 2069.
    None,
    /// `auth`.
    Auth,
    /// `auth-int`: the body is covered too.
    AuthInt,
    /// `auth,auth-int`: the client chooses.
    Both,
}

impl Qop {
    /// Whether an answer with `auth`, or (`integrity`) with `auth-int`, is within the offer.
    #[must_use]
    pub const fn accepts(self, integrity: bool) -> bool {
        match self {
            Self::None => false,
            Self::Auth => !integrity,
            Self::AuthInt => integrity,
            Self::Both => true,
        }
    }
}

/// How the digest-uri is compared with the Request-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum UriMatch {
    /// Byte by byte (RFC 3261, 22.4), or the server's own URI without a user, which is what SIPp and some gateways hash.
    Strict,
    /// Without port, parameters and headers: some equipment computes the digest over another form of the URI than it sends.
    Loose,
}

/// How a source is challenged, and what is accepted from a gateway.
///
/// The challenge follows the *source*: the rules of the gateway whose address it is, else the agent's own. So it tells nobody which
/// usernames exist. The rules of the gateway that the credentials name can only narrow what the challenge offered, except
/// for `accept_without_qop` and `uri_match`, which a challenge does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRules {
    /// What is offered, strongest first; one challenge header each (RFC 8760, 2.3). Not empty.
    pub algorithms: Vec<Algorithm>,
    /// What a challenge offers.
    pub qop: Qop,
    /// Whether an answer without qop is accepted although qop was offered.
    pub accept_without_qop: bool,
    /// Whether challenges are 407 with `Proxy-Authenticate` instead of 401.
    pub proxy: bool,
    /// How long a nonce can be used.
    pub nonce_lifetime: Duration,
    /// Whether a nonce is good for one request only.
    pub one_time_nonces: bool,
    /// How the digest-uri is compared.
    pub uri_match: UriMatch,
}

impl Default for DigestRules {
    fn default() -> Self {
        Self {
            // Alone, since many clients read the first challenge only.
            algorithms: vec![Algorithm::Md5],
            qop: Qop::Auth,
            accept_without_qop: false,
            proxy: false,
            nonce_lifetime: Duration::from_secs(300),
            one_time_nonces: false,
            uri_match: UriMatch::Strict,
        }
    }
}

/// Settings of the [`Authenticator`](super::Authenticator).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where neither source nor account has rules of its own.
    pub rules: Arc<DigestRules>,
    /// Nonces whose use is remembered for each worker. Past this, the oldest are treated as stale.
    pub replay_capacity: usize,
    /// Failures until a source is locked out; 0 for never.
    pub failure_limit: u32,
    /// How long the first lock-out lasts. A failure is forgotten in each such period.
    pub lockout: Duration,
    /// Sources and usernames whose failures are remembered for each worker.
    pub failure_capacity: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            replay_capacity: 65_536,
            failure_limit: 6,
            lockout: Duration::from_secs(180),
            failure_capacity: 16_384,
        }
    }
}
