//! Stateless nonces: whatever the agent must know about one is in it, under a MAC.
//!
//! Byte format, then base64url without padding (48 characters):
//!
//! | bytes | content |
//! |---|---|
//! | 0..6 | issued at, Unix time in ms, big endian |
//! | 6..12 | when the issuing authenticator started, Unix time in ms |
//! | 12..14 | worker that issued it |
//! | 14..20 | serial number of that authenticator |
//! | 20..36 | HMAC-SHA-256 over `"sipauth nonce 1"`, the bytes above and the source address as 16 bytes, cut to 128 bits |
//!
//! Those of the challenges that the kernel program makes are of another form, and known by their length: see
//! [`sipauth_common::challenge`].
//!
//! 128 bits of MAC, since a forger has one try for each datagram and no way to test offline (NIST SP 800-107, 5.3.3).
//! (start, worker, serial) makes a nonce unique, so replay protection needs no random numbers and no clock. The source *port* is
//! left out on purpose: NAT may change it between challenge and answer.

use std::{fmt, net::IpAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sipauth_common::{
    address::Address,
    challenge::{self, NONCE_TEXT},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

use super::{
    Timestamp,
    tag::{self, Tags},
};

/// Keys of nonces. `previous` verifies only, so that a rotation cuts nobody off.
#[derive(Clone)]
pub struct NonceKeys {
    /// Issues and verifies.
    pub current: [u8; 32],
    /// Verifies.
    pub previous: Option<[u8; 32]>,
}

impl NonceKeys {
    /// What the To tags have in front that are made with the current key ([`sipauth_common::config::Config::own_mark`]).
    #[must_use]
    pub fn mark(&self) -> [u8; 8] {
        tag::mark(&keyed(&self.current))
    }

    /// What the kernel program makes its nonces with ([`sipauth_common::challenge::Challenge::key`]).
    #[must_use]
    pub fn of_kernel(&self) -> [u64; 2] {
        of_kernel(&keyed(&self.current))
    }
}

impl fmt::Debug for NonceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKeys(redacted)")
    }
}

impl Drop for NonceKeys {
    fn drop(&mut self) {
        self.current.zeroize();
        self.previous.zeroize();
    }
}

const BODY: usize = 20;
const TAG: usize = 16;
/// Length of a nonce in text.
pub(super) const TEXT: usize = (BODY + TAG) / 3 * 4;

/// Who made a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    /// A worker of ours, in a run that began then.
    Worker { started: Timestamp, number: u16 },
    /// The kernel program, in a run of the agent.
    Kernel { run: u32, number: u32, boot_s: u32, key: [u64; 2] },
}

/// What a genuine nonce says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce {
    pub(super) issued: Timestamp,
    pub(super) issuer: Issuer,
    /// Higher than that of any before, of the same issuer.
    pub(super) serial: u64,
}

/// The run's name in the kernel program's nonces.
pub(super) const fn run(started: Timestamp) -> u32 {
    // The keys change every day, and a run of the same name would have to begin 49 days later to the millisecond.
    (started.0 & 0xffff_ffff) as u32
}

/// Keyed MACs, so that the key schedule is paid once.
pub(super) struct Mint {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
    /// Of the kernel program: the current one, and the one before.
    of_kernel: [Option<[u64; 2]>; 2],
    pub(super) tags: Tags,
}

impl Mint {
    pub(super) fn new(keys: &NonceKeys) -> Self {
        let (current, previous) = (keyed(&keys.current), keys.previous.as_ref().map(keyed));
        let tags = Tags::new(&current, previous.as_ref());
        let kernel = [Some(of_kernel(&current)), previous.as_ref().map(of_kernel)];
        Self {
            current,
            previous,
            of_kernel: kernel,
            tags,
        }
    }

    /// The text of a worker's nonce, good for `source` only.
    pub(super) fn issue(&self, issued: Timestamp, (started, number): (Timestamp, u16), serial: u64, source: IpAddr) -> [u8; TEXT] {
        let mut raw = [0; BODY + TAG];
        let (body, tag) = raw.split_at_mut(BODY);
        body[..6].copy_from_slice(&issued.0.to_be_bytes()[2..]);
        body[6..12].copy_from_slice(&started.0.to_be_bytes()[2..]);
        body[12..14].copy_from_slice(&number.to_be_bytes());
        body[14..].copy_from_slice(&serial.to_be_bytes()[2..]);
        tag.copy_from_slice(&authenticate(&self.current, body, source).finalize().into_bytes()[..TAG]);
        encode(&raw)
    }

    /// The nonce, if it was issued to `source`. In constant time as to the MAC.
    pub(super) fn verify(&self, text: &[u8], source: IpAddr) -> Option<Nonce> {
        if text.len() == NONCE_TEXT {
            return self.verify_of_kernel(text, source);
        }
        let raw = decode(text)?;
        let (body, tag) = raw.split_at(BODY);
        let genuine = |key: &Hmac<Sha256>| authenticate(key, body, source).verify_truncated_left(tag).is_ok();
        if !genuine(&self.current) && !self.previous.as_ref().is_some_and(genuine) {
            return None;
        }
        Some(Nonce {
            issued: Timestamp(number(&body[..6])),
            issuer: Issuer::Worker {
                started: Timestamp(number(&body[6..12])),
                number: u16::from_be_bytes([body[12], body[13]]),
            },
            serial: number(&body[14..]),
        })
    }

    fn verify_of_kernel(&self, text: &[u8], source: IpAddr) -> Option<Nonce> {
        let digits = std::str::from_utf8(text.strip_prefix(b"k")?).ok()?;
        // Only as it is written: no sign, no capitals, else one nonce would have several texts.
        if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let word = |n: usize| u64::from_str_radix(digits.get(16 * n..16 * (n + 1))?, 16).ok();
        let (nonce, mac) = (
            challenge::Nonce {
                serial: word(0)?,
                run: word(1)?,
            },
            word(2)?,
        );
        let source = Address::from(source.to_canonical());
        let genuine = |key: &[u64; 2]| bool::from(nonce.mac(*key, &source).ct_eq(&mac));
        let key = self.of_kernel.iter().flatten().find(|key| genuine(key))?;
        Some(Nonce {
            issued: Timestamp(nonce.issued_ms()),
            issuer: Issuer::Kernel {
                run: (nonce.run & 0xffff_ffff) as u32,
                number: nonce.number(),
                boot_s: (nonce.run >> 32) as u32,
                key: *key,
            },
            serial: nonce.serial,
        })
    }
}

/// A key of its own for another MAC.
fn of_kernel(key: &Hmac<Sha256>) -> [u64; 2] {
    let mut mac = key.clone();
    mac.update(b"sipauth nonces of the kernel program");
    let bytes = mac.finalize().into_bytes();
    [number(&bytes[..8]), number(&bytes[8..16])]
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a key to the block with zeros (RFC 2104, 2); done here, so that no length can be wrong at run time.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mac = Hmac::new(&block.into());
    block.zeroize();
    mac
}

fn authenticate(key: &Hmac<Sha256>, body: &[u8], source: IpAddr) -> Hmac<Sha256> {
    let address = match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut mac = key.clone();
    mac.update(b"sipauth nonce 1");
    mac.update(body);
    mac.update(&address.octets());
    mac
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(raw: &[u8; BODY + TAG]) -> [u8; TEXT] {
    let mut text = [0; TEXT];
    for (to, from) in text.chunks_exact_mut(4).zip(raw.chunks_exact(3)) {
        let [a, b, c] = [from[0], from[1], from[2]];
        to[0] = ALPHABET[usize::from(a >> 2)];
        to[1] = ALPHABET[usize::from((a & 3) << 4 | b >> 4)];
        to[2] = ALPHABET[usize::from((b & 15) << 2 | c >> 6)];
        to[3] = ALPHABET[usize::from(c & 63)];
    }
    text
}

fn decode(text: &[u8]) -> Option<[u8; BODY + TAG]> {
    if text.len() != TEXT {
        return None;
    }
    let mut raw = [0; BODY + TAG];
    for (to, from) in raw.chunks_exact_mut(3).zip(text.chunks_exact(4)) {
        let [a, b, c, d] = [sextet(from[0])?, sextet(from[1])?, sextet(from[2])?, sextet(from[3])?];
        to[0] = a << 2 | b >> 4;
        to[1] = b << 4 | c >> 2;
        to[2] = c << 6 | d;
    }
    Some(raw)
}

const fn sextet(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}
