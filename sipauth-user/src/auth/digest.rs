//! The arithmetic of HTTP digest as SIP uses it (RFC 3261, 22.4; RFC 7616, 3.4; RFC 8760). No policy here.

use std::{fmt, str::FromStr};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha512_256};

/// A digest algorithm by its IANA name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    /// `MD5`.
    Md5,
    /// `MD5-sess`.
    Md5Sess,
    /// `SHA-256`.
    Sha256,
    /// `SHA-256-sess`.
    Sha256Sess,
    /// `SHA-512-256`.
    Sha512T256,
    /// `SHA-512-256-sess`.
    Sha512T256Sess,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Md5,
        Self::Md5Sess,
        Self::Sha256,
        Self::Sha256Sess,
        Self::Sha512T256,
        Self::Sha512T256Sess,
    ];

    /// Name in a challenge.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
            Self::Sha512T256 => "SHA-512-256",
            Self::Sha512T256Sess => "SHA-512-256-sess",
        }
    }

    /// By name; case does not matter.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The hash function under it.
    pub(super) const fn hash(self) -> Hash {
        match self {
            Self::Md5 | Self::Md5Sess => Hash::Md5,
            Self::Sha256 | Self::Sha256Sess => Hash::Sha256,
            Self::Sha512T256 | Self::Sha512T256Sess => Hash::Sha512T256,
        }
    }

    /// Whether the key depends on the first nonce and cnonce (RFC 7616, 3.4.2).
    pub(super) const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess | Self::Sha512T256Sess)
    }
}

/// Not the name of an algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest algorithm; use MD5, SHA-256 or SHA-512-256, each also with -sess")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::from_name(name.as_bytes()).ok_or_else(|| UnknownAlgorithm(name.chars().take(32).collect()))
    }
}

impl TryFrom<String> for Algorithm {
    type Error = UnknownAlgorithm;

    fn try_from(name: String) -> Result<Self, UnknownAlgorithm> {
        name.parse()
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.as_str().to_owned()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Md5,
    Sha256,
    Sha512T256,
}

impl Hash {
    /// Length of the output in hex digits.
    pub(super) const fn hex_len(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 | Self::Sha512T256 => 64,
        }
    }

    /// The hash of `parts` joined by colons, in lower-case hex.
    pub(super) fn joined(self, parts: &[&[u8]]) -> Hex {
        match self {
            Self::Md5 => joined::<Md5>(parts),
            Self::Sha256 => joined::<Sha256>(parts),
            Self::Sha512T256 => joined::<Sha512_256>(parts),
        }
    }
}

fn joined<D: Digest>(parts: &[&[u8]]) -> Hex {
    let mut hash = D::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    Hex::encode(&hash.finalize())
}

/// A hash in lower-case hex, on the stack.
#[derive(Clone, Copy)]
pub(super) struct Hex {
    bytes: [u8; 64],
    len: usize,
}

impl Hex {
    /// Encodes at most 32 bytes.
    pub(super) fn encode(raw: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; 64];
        let mut len = 0;
        for (pair, byte) in bytes.chunks_exact_mut(2).zip(raw) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
            len += 2;
        }
        Self { bytes, len }
    }

    /// The digits.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What a client hashed together with its password.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) method: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) protection: Option<Protection<'a>>,
    /// Of `-sess` algorithms, which need one also without qop.
    pub(super) cnonce: &'a [u8],
}

/// The fields that exist with qop only.
#[derive(Clone, Copy)]
pub(super) struct Protection<'a> {
    /// As the client wrote it, since it is hashed so.
    pub(super) qop: &'a [u8],
    pub(super) nc: &'a [u8],
    /// The body, with `auth-int`.
    pub(super) body: Option<&'a [u8]>,
}

/// The `response` that proves knowledge of `ha1` (hex of the algorithm's hash).
pub(super) fn response(ha1: &[u8], input: &Input<'_>) -> Hex {
    let hash = input.algorithm.hash();
    let session;
    let ha1 = if input.algorithm.is_session() {
        session = hash.joined(&[ha1, input.nonce, input.cnonce]);
        session.as_bytes()
    } else {
        ha1
    };
    match input.protection {
        None => {
            let ha2 = hash.joined(&[input.method, input.uri]);
            hash.joined(&[ha1, input.nonce, ha2.as_bytes()])
        }
        Some(p) => {
            let ha2 = match p.body {
                None => hash.joined(&[input.method, input.uri]),
                Some(body) => hash.joined(&[input.method, input.uri, hash.joined(&[body]).as_bytes()]),
            };
            hash.joined(&[ha1, input.nonce, p.nc, input.cnonce, p.qop, ha2.as_bytes()])
        }
    }
}
