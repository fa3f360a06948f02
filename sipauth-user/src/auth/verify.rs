//! Whether a request proves a password (RFC 3261, 22.4; RFC 7616, 3.4.6).

use std::{net::SocketAddr, time::Duration};

use sipauth_common::{challenge::Text, proof::Caller};
use subtle::{Choice, ConstantTimeEq as _};

use super::{
    Account, Algorithm, Authenticator, DigestRules, Directory, Outcome, Qop, Source, Timestamp, UriMatch,
    credentials::{Credentials, unescape},
    digest::{Hash, Input, Protection, response},
    failures::{Failure, Rules, Standing},
    nonce::{Issuer, Nonce, run},
    replay::{Term, Use, fingerprint},
    uses::Used,
};
use crate::sip::{Message, StartLine};

/// Clocks are read in more than one place; so much may a nonce be ahead. Further ahead, the clock was stepped back.
const AHEAD_MS: u64 = 5_000;

/// The password was proven.
pub(super) struct Proof {
    pub(super) gateway: u32,
    /// By a retransmission.
    pub(super) again: bool,
    /// See [`FlowGrant::caller`](super::FlowGrant::caller).
    pub(super) caller: Option<Caller>,
}

/// Another challenge is due, or none any more.
pub(super) struct Refusal {
    pub(super) outcome: Outcome,
    /// The client may use the same password with the new nonce, without asking its user.
    pub(super) stale: bool,
    /// No challenge but 403.
    pub(super) forbidden: bool,
}

impl Refusal {
    const fn stale(outcome: Outcome) -> Self {
        Self {
            outcome,
            stale: true,
            forbidden: false,
        }
    }

    /// For the rest of a lock-out.
    pub(super) const fn locked(outcome: Outcome) -> Self {
        Self {
            outcome,
            stale: false,
            forbidden: true,
        }
    }
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            stale: false,
            forbidden: false,
        }
    }
}

impl Authenticator {
    pub(super) fn verify<D: Directory + ?Sized>(
        &mut self,
        datagram: &[u8],
        message: &Message<'_>,
        (from, standing): (SocketAddr, Standing),
        source: Source<'_>,
        directory: &D,
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        let StartLine::Request { token: method, uri, .. } = message.start() else {
            return Err(Outcome::BadCredentials.into());
        };
        let credentials = ours(message, source.realm, directory)?;
        let (Some(username), Some(nonce_text), Some(digest_uri), Some(answer), false) = (
            credentials.username,
            credentials.nonce,
            credentials.uri,
            credentials.response,
            credentials.malformed,
        ) else {
            return Err(Outcome::BadCredentials.into());
        };
        let offer = source.rules.unwrap_or(&self.settings.rules);
        let algorithm = offered(offer, credentials.algorithm).ok_or(Outcome::AlgorithmMismatch)?;
        let (protection, count) = protection(offer.qop, &credentials, message.body())?;
        if algorithm.is_session() && credentials.cnonce.is_none() || answer.len() != algorithm.hash().hex_len() {
            return Err(Outcome::BadCredentials.into());
        }
        let nonce = self.mint.verify(nonce_text, from.ip()).ok_or(Outcome::BadNonce)?;
        if !self.is_fresh(&nonce, offer.nonce_lifetime, now) {
            return Err(Refusal::stale(Outcome::StaleNonce));
        }
        let plain_uri = unescape(digest_uri);
        if !same_uri(&plain_uri, uri, UriMatch::Loose) {
            return Err(Outcome::UriMismatch.into());
        }

        // From here on the source has shown that it received the nonce.
        let username = unescape(username);
        if self.failures.locks_name(&username, from, standing, now) {
            return Err(Refusal::locked(Outcome::LockedOut));
        }
        let print = fingerprint(datagram, from);
        let failure = Failure {
            from,
            standing,
            username: &username,
            print,
        };
        let (account, with_domain) = find(directory, &username);
        // An unknown user takes the same way, so that time tells nothing.
        let ha1 = account
            .map_or(self.dummy.ha1(), |account| &account.ha1)
            .get(algorithm.hash(), with_domain);
        let cnonce = credentials.cnonce.unwrap_or_default();
        let expected = response(
            ha1,
            &Input {
                algorithm,
                method,
                uri: digest_uri,
                nonce: nonce_text,
                protection,
                cnonce,
            },
        );
        let right = is_right(expected.as_bytes(), answer);
        let Some(account) = account else {
            return Err(self.failed(Outcome::UnknownUser, &failure, now));
        };
        if credentials.realm.is_none_or(|realm| *unescape(realm) != *account.realm.as_bytes()) {
            return Err(self.failed(Outcome::RealmMismatch, &failure, now));
        }
        if !right {
            return Err(self.failed(Outcome::WrongPassword, &failure, now));
        }
        if !account.may_call_from(from.ip().to_canonical()) {
            return Err(self.failed(Outcome::WrongAddress, &failure, now));
        }
        let rules = account.rules.as_deref().unwrap_or(&self.settings.rules);
        let unasked = protection.is_none() && offer.qop != Qop::None && !rules.accept_without_qop;
        let narrower = if !rules.algorithms.contains(&algorithm) {
            Some(Outcome::AlgorithmMismatch)
        } else if unasked || protection.is_some_and(|p| !rules.qop.accepts(p.body.is_some())) {
            Some(Outcome::QopMismatch)
        } else if !same_uri(&plain_uri, uri, rules.uri_match) {
            Some(Outcome::UriMismatch)
        } else {
            None
        };
        if let Some(outcome) = narrower {
            return Err(self.failed(outcome, &failure, now));
        }
        let lifetime = offer.nonce_lifetime.min(rules.nonce_lifetime);
        if !self.is_fresh(&nonce, lifetime, now) {
            return Err(Refusal::stale(Outcome::StaleNonce));
        }
        // As the kernel program understands it.
        let plain = method == b"INVITE"
            && algorithm == Algorithm::Md5
            && protection.is_some_and(|p| p.body.is_none())
            && offer.qop.accepts(false)
            && (source.rules.is_none() && account.rules.is_none() && !with_domain)
            && account.realm == source.realm;
        let term = Term {
            issued: nonce.issued,
            lifetime,
            one_time: offer.one_time_nonces || rules.one_time_nonces,
        };
        // Where the nonce is used up, the hash was right all the same: the client knows the password and may simply try again.
        let used = match (nonce.issuer, &mut self.of_kernel) {
            (Issuer::Kernel { number, boot_s, key, .. }, Some((uses, further))) => {
                // The first count is what the kernel program takes too.
                if count == 1 || term.one_time {
                    uses.take(&Used { number, boot_s, key }, datagram, from, now)
                } else {
                    further.commit(nonce.serial, term, count, print, now)
                }
            }
            _ => self.replay.commit(nonce.serial, term, count, print, now),
        };
        let again = match used {
            Use::First => false,
            Use::Retransmission => true,
            Use::Spent => return Err(Refusal::stale(Outcome::StaleNonce)),
            Use::Replay => return Err(Refusal::stale(Outcome::Replayed)),
        };
        Ok(Proof {
            gateway: account.gateway,
            again,
            caller: plain.then(|| caller(account, &username)).flatten(),
        })
    }

    /// Counts a failure. All kinds count: were one of them left out, the 403 after the others would tell who has an account,
    /// how it is set, or that a password is right where it does not count.
    fn failed(&mut self, outcome: Outcome, failure: &Failure<'_>, now: Timestamp) -> Refusal {
        let rules = Rules {
            limit: self.settings.failure_limit,
            lockout: self.settings.lockout,
        };
        let (locked, ban) = self.failures.count(failure, rules, now);
        self.ban = ban;
        if locked { Refusal::locked(outcome) } else { outcome.into() }
    }

    pub(super) fn is_fresh(&self, nonce: &Nonce, lifetime: Duration, now: Timestamp) -> bool {
        let forgotten = match nonce.issuer {
            Issuer::Worker { .. } => self.replay.forgotten(nonce.serial),
            Issuer::Kernel { .. } => self.of_kernel.as_ref().is_none_or(|(_, further)| further.forgotten(nonce.serial)),
        };
        self.is_of_this_run(nonce)
            && !forgotten
            && nonce.issued.0 <= now.0.saturating_add(AHEAD_MS)
            && u128::from(now.0.saturating_sub(nonce.issued.0)) <= lifetime.as_millis()
    }
}

impl Authenticator {
    /// Whether its use would be remembered here.
    pub(super) fn is_of_this_run(&self, nonce: &Nonce) -> bool {
        match nonce.issuer {
            Issuer::Worker { started, number } => started == self.started && number == self.worker,
            Issuer::Kernel { run: of, .. } => of == run(self.started) && self.of_kernel.is_some(),
        }
    }
}

/// What the kernel program needs to know; `None` where it has no room for the name.
fn caller(account: &Account, username: &[u8]) -> Option<Caller> {
    Some(Caller {
        until: 0,
        gateway: account.gateway,
        generation: 0,
        username: Text::new(username)?,
        ha1: account.ha1.get(Hash::Md5, false).try_into().ok()?,
    })
}

/// Whether `answer` is these hex digits, in letters of either case; in constant time as to what they are.
fn is_right(expected: &[u8], answer: &[u8]) -> bool {
    expected.len() == answer.len()
        && expected
            .iter()
            .zip(answer)
            .fold(Choice::from(1), |same, (one, other)| same & one.ct_eq(&other.to_ascii_lowercase()))
            .into()
}

/// RFC 7616, 3.4: no algorithm means MD5. One that was not offered is never accepted: that would be a downgrade.
pub(super) fn offered(offer: &DigestRules, name: Option<&[u8]>) -> Option<Algorithm> {
    let algorithm = name.map_or(Some(Algorithm::Md5), Algorithm::from_name)?;
    offer.algorithms.contains(&algorithm).then_some(algorithm)
}

/// The fields that belong to qop, and the nonce count; without qop a nonce is good for one request. Whether an answer without
/// qop is accepted depends on the account.
pub(super) fn protection<'a>(offer: Qop, credentials: &Credentials<'a>, body: &'a [u8]) -> Result<(Option<Protection<'a>>, u32), Outcome> {
    let Some(qop) = credentials.qop else { return Ok((None, 1)) };
    let integrity = qop.eq_ignore_ascii_case(b"auth-int");
    if !integrity && !qop.eq_ignore_ascii_case(b"auth") || !offer.accepts(integrity) {
        return Err(Outcome::QopMismatch);
    }
    let (Some(nc), Some(_)) = (credentials.nc, credentials.cnonce) else {
        return Err(Outcome::BadCredentials);
    };
    let count = count(nc).ok_or(Outcome::BadCredentials)?;
    let body = integrity.then_some(body);
    Ok((Some(Protection { qop, nc, body }), count))
}

/// Ours among the credentials: those with the realm that we challenge with, else those with the realm of the account that they name
/// (sent unasked, before we could say which realm).
pub(super) fn ours<'a, D: Directory + ?Sized>(message: &Message<'a>, realm: &str, directory: &D) -> Result<Credentials<'a>, Outcome> {
    let digests = || message.authorizations().filter_map(Credentials::parse);
    let with_realm = |c: &Credentials<'a>| c.realm.is_some_and(|r| *unescape(r) == *realm.as_bytes());
    let with_account = |c: &Credentials<'a>| {
        let (Some(username), Some(realm)) = (c.username, c.realm) else {
            return false;
        };
        find(directory, &unescape(username))
            .0
            .is_some_and(|account| *account.realm.as_bytes() == *unescape(realm))
    };
    if let Some(found) = digests().find(with_realm).or_else(|| digests().find(with_account)) {
        return Ok(found);
    }
    match digests().next() {
        Some(other) if other.malformed || other.realm.is_none() => Err(Outcome::BadCredentials),
        Some(_) => Err(Outcome::RealmMismatch),
        None => Err(Outcome::Challenged),
    }
}

/// The account of a username, and whether its hashes are to be those for `username@realm`. A domain is cut off only if nobody has the
/// full name. With another domain than the realm, the client is taken to have hashed the plain name: what it hashed otherwise, no
/// stored hash can tell.
pub(super) fn find<'d, D: Directory + ?Sized>(directory: &'d D, username: &[u8]) -> (Option<&'d Account>, bool) {
    if let Some(account) = directory.account(username) {
        return (Some(account), false);
    }
    let Some(at) = memchr::memrchr(b'@', username) else {
        return (None, false);
    };
    let account = directory.account(&username[..at]);
    (
        account,
        account.is_some_and(|account| *account.realm.as_bytes() == username[at + 1..]),
    )
}

/// RFC 7616, 3.4: eight hex digits; the first count is 1.
fn count(nc: &[u8]) -> Option<u32> {
    if nc.len() != 8 || !nc.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let count = u32::from_str_radix(std::str::from_utf8(nc).ok()?, 16).ok()?;
    (count > 0).then_some(count)
}

pub(super) fn same_uri(digest: &[u8], request: &[u8], how: UriMatch) -> bool {
    match how {
        UriMatch::Strict => digest == request || is_server_of(digest, request),
        UriMatch::Loose => digest == request || is_server_of(digest, request) || same_core(digest, request),
    }
}

/// Whether `digest` names, without a user, just the host and port of `request`: SIPp and some gateways hash the server's URI
/// whomever they call. It binds the answer to this server; whoever could change the called number under way could change
/// the session description too, which `qop=auth` does not cover.
fn is_server_of(digest: &[u8], request: &[u8]) -> bool {
    memchr::memchr(b'@', digest).is_none()
        && server(digest)
            .zip(server(request))
            .is_some_and(|(named, called)| named.eq_ignore_ascii_case(called))
}

/// Host and port of a SIP URI, without the port that goes without saying.
fn server(uri: &[u8]) -> Option<&[u8]> {
    let rest = uri.strip_prefix(b"sip:").or_else(|| uri.strip_prefix(b"sips:"))?;
    let host = memchr::memrchr(b'@', rest).map_or(rest, |at| &rest[at + 1..]);
    let end = host.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(host.len());
    let host = &host[..end];
    Some(host.strip_suffix(b":5060").unwrap_or(host))
}

fn same_core(one: &[u8], other: &[u8]) -> bool {
    let ((user, host), (other_user, other_host)) = (core_of(one), core_of(other));
    user == other_user && host.eq_ignore_ascii_case(other_host)
}

/// A SIP URI as (scheme and user, host, whose case does not matter); anything else as it is.
fn core_of(uri: &[u8]) -> (&[u8], &[u8]) {
    let begins = |scheme: &[u8]| uri.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    if uri.len() < 5 || !begins(b"sip:") && !begins(b"sips:") {
        return (uri, &[]);
    }
    // The user part may have semicolons and question marks of its own (RFC 3261, 25.1: `user-unreserved`), a host none of these.
    let host_at = memchr::memrchr(b'@', uri)
        .or_else(|| memchr::memchr(b':', uri))
        .map_or(0, |at| at + 1);
    let (user, rest) = uri.split_at(host_at);
    let end = rest.iter().position(|b| matches!(b, b';' | b'?')).unwrap_or(rest.len());
    let host = &rest[..end];
    let host = if host.starts_with(b"[") {
        memchr::memchr(b']', host).map_or(host, |at| &host[..=at])
    } else {
        memchr::memchr(b':', host).map_or(host, |at| &host[..at])
    };
    (user, host)
}
