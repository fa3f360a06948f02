//! Who may call with a password, and the form in which the password is kept.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use zeroize::Zeroize;

use super::{
    DigestRules,
    digest::{Hash, Hex},
};

/// What the authenticator asks of the gateways' snapshot.
pub trait Directory {
    /// The account with exactly this username.
    fn account(&self, username: &[u8]) -> Option<&Account>;

    /// What the gateways say about a source address.
    fn source(&self, address: IpAddr) -> Source<'_>;
}

/// What is known of a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// It belongs to a gateway in mode `peer`, or is a learned peer.
    pub peer: bool,
    /// A password gateway has the address, or some password gateway may call from anywhere.
    pub password: bool,
    /// The operator listed the address for a gateway: it is never banned.
    pub listed: bool,
    /// The realm to challenge with: that of the gateway at this address, else the default.
    pub realm: &'a str,
    /// How to challenge: the rules of that gateway, where it has its own.
    pub rules: Option<&'a DigestRules>,
}

/// A gateway in mode `password`.
#[derive(Clone, Debug)]
pub struct Account {
    /// Gateway id.
    pub gateway: u32,
    /// The realm that `ha1` was made with.
    pub realm: String,
    /// What is kept instead of the password.
    pub ha1: Ha1,
    /// Where it may call from; empty: from anywhere.
    pub addresses: Vec<IpNet>,
    /// What is accepted from it, where that is not what the agent accepts in general.
    pub rules: Option<Arc<DigestRules>>,
}

impl Account {
    /// Whether the gateway may call from `address`.
    #[must_use]
    pub fn may_call_from(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&address))
    }
}

/// `H(username:realm:password)` for each hash function, in hex, so that a later change of algorithm needs no new password.
///
/// Each is kept twice: for the plain username, and for `username@realm`, which is what many clients send and therefore hash
/// (RFC 3261 leaves the form of the username open). As text: `v1` and the six hex strings, joined by colons.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    plain: Hashes,
    with_domain: Hashes,
}

#[derive(Clone, PartialEq, Eq)]
struct Hashes {
    md5: [u8; 32],
    sha256: [u8; 64],
    sha512_256: [u8; 64],
}

/// The text of an [`Ha1`] is damaged. It says nothing about the content, which is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stored credential of version 1 (v1 and six hex strings); set the gateway's password again")]
pub struct Ha1Error;

impl Ha1 {
    /// From a password.
    #[must_use]
    pub fn derive(username: &str, realm: &str, password: &str) -> Self {
        let domain = format!("{username}@{realm}");
        Self {
            plain: Hashes::derive(username, realm, password),
            with_domain: Hashes::derive(&domain, realm, password),
        }
    }

    /// From MD5 sums that were made elsewhere, in hex; `with_domain` is that of `username@realm`. `None` for what is none.
    ///
    /// The sums of the other functions are not known then. In their places stand such as no password has and nobody can make who does not
    /// know the MD5 sum; with a constant there, that constant would be a password.
    #[must_use]
    pub fn from_md5(plain: &str, with_domain: Option<&str>) -> Option<Self> {
        let known = plain.to_ascii_lowercase();
        let unknown = |what: &str| Hash::Sha256.joined(&[b"sipauth", what.as_bytes(), known.as_bytes()]);
        let hashes = |md5: Option<&str>, form: &str| {
            let md5 = match md5 {
                Some(text) => read_hex(Some(&text.to_ascii_lowercase())).ok()?,
                None => fixed(&unknown(&format!("no MD5 {form}"))),
            };
            Some(Hashes {
                md5,
                sha256: fixed(&unknown(&format!("no SHA-256 {form}"))),
                sha512_256: fixed(&unknown(&format!("no SHA-512-256 {form}"))),
            })
        };
        Some(Self {
            plain: hashes(Some(plain), "plain")?,
            with_domain: hashes(with_domain, "with domain")?,
        })
    }

    /// Whether both have the same MD5 sum for the plain username.
    #[must_use]
    pub fn same_md5(&self, other: &Self) -> bool {
        self.plain.md5 == other.plain.md5
    }

    /// From the text that [`Ha1::to_text`] made.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_text(text: &str) -> Result<Self, Ha1Error> {
        let mut parts = text.split(':');
        if parts.next() != Some("v1") {
            return Err(Ha1Error);
        }
        let ha1 = Self {
            plain: Hashes::read(&mut parts)?,
            with_domain: Hashes::read(&mut parts)?,
        };
        if parts.next().is_some() { Err(Ha1Error) } else { Ok(ha1) }
    }

    /// For the store. As secret as the password itself.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(2 + 2 * (32 + 64 + 64 + 3));
        text.push_str("v1");
        for hashes in [&self.plain, &self.with_domain] {
            for hex in [&hashes.md5[..], &hashes.sha256, &hashes.sha512_256] {
                text.push(':');
                text.extend(hex.iter().copied().map(char::from));
            }
        }
        text
    }

    /// The hex string for a hash function and form of the username.
    pub(super) fn get(&self, hash: Hash, with_domain: bool) -> &[u8] {
        let hashes = if with_domain { &self.with_domain } else { &self.plain };
        match hash {
            Hash::Md5 => &hashes.md5,
            Hash::Sha256 => &hashes.sha256,
            Hash::Sha512T256 => &hashes.sha512_256,
        }
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(redacted)")
    }
}

impl Drop for Hashes {
    fn drop(&mut self) {
        self.md5.zeroize();
        self.sha256.zeroize();
        self.sha512_256.zeroize();
    }
}

/// Stands in for an unknown user, so that the same work is done. No response can match it, as the caller knows that there is no account.
pub(super) struct Dummy(Ha1);

impl Default for Dummy {
    fn default() -> Self {
        Self(Ha1::derive("", "", ""))
    }
}

impl Dummy {
    pub(super) const fn ha1(&self) -> &Ha1 {
        &self.0
    }
}

impl Hashes {
    fn derive(username: &str, realm: &str, password: &str) -> Self {
        let parts = [username.as_bytes(), realm.as_bytes(), password.as_bytes()];
        Self {
            md5: fixed(&Hash::Md5.joined(&parts)),
            sha256: fixed(&Hash::Sha256.joined(&parts)),
            sha512_256: fixed(&Hash::Sha512T256.joined(&parts)),
        }
    }

    fn read<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Result<Self, Ha1Error> {
        Ok(Self {
            md5: read_hex(parts.next())?,
            sha256: read_hex(parts.next())?,
            sha512_256: read_hex(parts.next())?,
        })
    }
}

/// `N` is the hex length of the hash function, so nothing is cut off.
fn fixed<const N: usize>(hex: &Hex) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(hex.as_bytes()) {
        *to = *from;
    }
    out
}

fn read_hex<const N: usize>(text: Option<&str>) -> Result<[u8; N], Ha1Error> {
    let bytes: [u8; N] = text.and_then(|t| t.as_bytes().try_into().ok()).ok_or(Ha1Error)?;
    if bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(bytes)
    } else {
        Err(Ha1Error)
    }
}
