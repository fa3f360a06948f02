//! What the operator can choose about the digest.

use std::time::Duration;

use super::Algorithm;

/// Quality of protection that a challenge offers (RFC 7616, 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// None: the challenge has no `qop`, answers are as in RFC 2069.
    None,
    /// `auth`.
    Auth,
    /// `auth-int`: the body is covered too.
    AuthInt,
    /// `auth,auth-int`: the client chooses.
    Both,
}

/// How the digest-uri is compared with the Request-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriMatch {
    /// Byte by byte (RFC 3261, 22.4), or the server's own URI without a user, which is what SIPp and some gateways hash.
    Strict,
    /// Without port, parameters and headers: some equipment computes the digest over another form of the URI than it sends.
    IgnorePortAndParameters,
}

/// Settings of the [`Authenticator`](super::Authenticator).
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is offered, strongest first; one challenge header each (RFC 8760, 2.3). Empty means MD5.
    pub algorithms: Vec<Algorithm>,
    /// What a challenge offers.
    pub qop: Qop,
    /// Whether an answer without qop is accepted although qop was offered.
    pub accept_without_qop: bool,
    /// Whether challenges are 407 with `Proxy-Authenticate` instead of 401.
    pub proxy: bool,
    /// How long a nonce can be used.
    pub nonce_lifetime: Duration,
    /// How the digest-uri is compared.
    pub uri_match: UriMatch,
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
            algorithms: vec![Algorithm::Md5],
            qop: Qop::Auth,
            accept_without_qop: false,
            proxy: false,
            nonce_lifetime: Duration::from_secs(300),
            uri_match: UriMatch::Strict,
            replay_capacity: 65_536,
            failure_limit: 6,
            lockout: Duration::from_secs(180),
            failure_capacity: 16_384,
        }
    }
}
