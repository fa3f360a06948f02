//! The challenge headers (RFC 7616, 3.3; RFC 8760, 2.3 and 2.4).

use super::{DigestRules, Qop};
use crate::sip::{Response, Status};

/// Stands for the nonce where that is not made here; no realm has it in.
const PLACE: &[u8] = b"\x01";

/// The status line of a challenge, its header up to the nonce, and all that follows. `None` where there is more than one header.
pub(super) fn parts(rules: &DigestRules, realm: &str) -> Option<[Vec<u8>; 3]> {
    if rules.algorithms.len() != 1 {
        return None;
    }
    let mut response = Response::bare();
    write(&mut response, rules, realm, PLACE, false);
    let text = response.finish();
    let at = memchr::memchr(PLACE[0], &text)?;
    Some([
        status(rules).line().to_vec(),
        text[..at].to_vec(),
        text[at + PLACE.len()..].to_vec(),
    ])
}

/// What a challenge by these rules is.
pub(super) const fn status(rules: &DigestRules) -> Status {
    if rules.proxy {
        Status::ProxyAuthenticationRequired
    } else {
        Status::Unauthorized
    }
}

/// Where in the second of [`parts`] the realm begins.
pub(super) fn realm_at(rules: &DigestRules) -> u32 {
    let before = name(rules).len() + REALM.len();
    u32::try_from(before).unwrap_or(0)
}

const REALM: &[u8] = b"Digest realm=\"";

const fn name(rules: &DigestRules) -> &'static [u8] {
    if rules.proxy {
        b"Proxy-Authenticate: "
    } else {
        b"WWW-Authenticate: "
    }
}

/// One header for each algorithm, in the order of the rules.
pub(super) fn write(response: &mut Response, rules: &DigestRules, realm: &str, nonce: &[u8], stale: bool) {
    for algorithm in &rules.algorithms {
        response.line(name(rules), |value| {
            value.copy(REALM);
            for byte in realm.bytes().filter(|b| !b.is_ascii_control()) {
                if matches!(byte, b'"' | b'\\') {
                    value.copy(b"\\");
                }
                value.copy(&[byte]);
            }
            value.copy(b"\", nonce=\"");
            value.copy(nonce);
            value.copy(if stale { b"\", stale=true" } else { b"\"" });
            value.copy(b", algorithm=");
            value.copy(algorithm.as_str().as_bytes());
            value.copy(match rules.qop {
                Qop::None => b"",
                Qop::Auth => b", qop=\"auth\"",
                Qop::AuthInt => b", qop=\"auth-int\"",
                Qop::Both => b", qop=\"auth,auth-int\"",
            });
        });
    }
}
