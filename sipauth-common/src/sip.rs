//! What the first bytes of a SIP datagram are. Bytes in, class out: the host tests it, the kernel program runs it.
#![allow(clippy::cast_possible_truncation, reason = "words are cut down to the bytes that are compared")]

/// Bytes that [`classify`] looks at; a shorter payload is padded with zeros.
pub const WINDOW: usize = 16;

/// How a To tag of the agent's begins in a header, with what stands before it. Eight bytes, to be compared at once.
pub const OWN_TAG: [u8; 8] = *b";tag=sa-";
/// So many bytes of an ACK are searched for [`OWN_TAG`]; few are longer.
pub const ACK_WINDOW: usize = 1_024;

/// Whose answer an ACK is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckTo {
    /// The softswitch's.
    Softswitch,
    /// One of the agent's own, of which the softswitch knows nothing.
    Agent,
    /// It is too long to tell, or to an answer of an agent that ran before; the agent finds out.
    Unknown,
}

/// Whose answer an ACK is to, where the agent's tags have `mark` ([`crate::config::Config::own_mark`]). What looks like a tag of an
/// agent decides where it is met first. A sender can make his ACK end here by it, and nobody else's.
#[must_use]
pub fn ack_to(message: &[u8], mark: [u8; 8]) -> AckTo {
    if message.len() > ACK_WINDOW {
        return AckTo::Unknown;
    }
    match message.windows(OWN_TAG.len()).position(|bytes| bytes == OWN_TAG) {
        None => AckTo::Softswitch,
        Some(at) if message[at + OWN_TAG.len()..].starts_with(&mark) => AckTo::Agent,
        Some(_) => AckTo::Unknown,
    }
}

/// A request method (RFC 3261 and its extensions).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Method {
    /// RFC 3261.
    Invite,
    /// RFC 3261.
    Ack,
    /// RFC 3261.
    Bye,
    /// RFC 3261.
    Cancel,
    /// RFC 3261.
    Register,
    /// RFC 3261.
    Options,
    /// RFC 3262.
    Prack,
    /// RFC 3311.
    Update,
    /// RFC 6086.
    Info,
    /// RFC 6665.
    Notify,
    /// RFC 6665.
    Subscribe,
    /// RFC 3428.
    Message,
    /// RFC 3515.
    Refer,
    /// RFC 3903.
    Publish,
    /// Any other token.
    Unknown,
}

impl Method {
    /// Every method that has a name.
    pub const NAMED: [Self; 14] = [
        Self::Invite,
        Self::Ack,
        Self::Bye,
        Self::Cancel,
        Self::Register,
        Self::Options,
        Self::Prack,
        Self::Update,
        Self::Info,
        Self::Notify,
        Self::Subscribe,
        Self::Message,
        Self::Refer,
        Self::Publish,
    ];

    /// As it stands in a request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Message => "MESSAGE",
            Self::Refer => "REFER",
            Self::Publish => "PUBLISH",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether a request with this method can create a dialog or a binding, or is otherwise to be authenticated on its own.
    /// The others belong to a dialog or transaction that exists.
    #[inline(always)]
    #[must_use]
    pub const fn is_initial(self) -> bool {
        match self {
            Self::Ack | Self::Bye | Self::Cancel | Self::Prack | Self::Update | Self::Info | Self::Notify => false,
            Self::Invite
            | Self::Register
            | Self::Options
            | Self::Subscribe
            | Self::Message
            | Self::Refer
            | Self::Publish
            | Self::Unknown => true,
        }
    }
}

/// What a datagram is, from its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Class {
    /// A request.
    Request(Method),
    /// A response (`SIP/2.0 …`).
    Response,
    /// A keep-alive: nothing, CR, LF and NUL only (RFC 5626, 3.5.1), or a STUN binding request (3.5.2).
    KeepAlive,
}

/// The first [`WINDOW`] bytes of a payload as two numbers, the first byte in the lowest bits, zeros behind a shorter payload.
///
/// Numbers, not an array: the kernel program compares them in registers, and the verifier has no stack accesses to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// Bytes 0 to 7.
    pub low: u64,
    /// Bytes 8 to 15.
    pub high: u64,
}

impl Window {
    /// The window of a whole payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut head = [0; WINDOW];
        let n = if payload.len() < WINDOW { payload.len() } else { WINDOW };
        head[..n].copy_from_slice(&payload[..n]);
        Self {
            low: pack(&head, 0, 8),
            high: pack(&head, 8, 8),
        }
    }

    /// Byte `i` of the first eight.
    #[inline(always)]
    const fn byte(self, i: u32) -> u8 {
        (self.low >> (8 * i)) as u8
    }

    /// Whether it begins with `token` and a space or tab.
    #[inline(always)]
    const fn is_method<const N: usize>(self, token: &[u8; N]) -> bool {
        let first = if N < 8 { N } else { 8 };
        let mask = u64::MAX >> (64 - 8 * first as u32);
        if self.low & mask != pack(token, 0, first) {
            return false;
        }
        let after = match N {
            0..8 => self.low >> (8 * (N as u32 % 8)),
            8 => self.high,
            _ => {
                if self.high as u8 != token[N - 1] {
                    return false;
                }
                self.high >> 8
            }
        } as u8;
        after == b' ' || after == b'\t'
    }
}

/// `n` bytes (at most 8) from `from` on as a number, the first in the lowest bits.
#[inline(always)]
#[must_use]
pub const fn pack(bytes: &[u8], from: usize, n: usize) -> u64 {
    let (mut packed, mut i) = (0, 0);
    while i < n {
        packed |= (bytes[from + i] as u64) << (8 * i);
        i += 1;
    }
    packed
}

/// Classifies a payload of `len` bytes by its first ones.
///
/// Anything that is neither response nor keep-alive counts as a request, so that the agent's parser decides about it.
/// Leading line ends are not skipped (RFC 3261, 7.5 allows them): such a request is of the unknown method, which is punted.
#[inline(always)]
#[must_use]
pub const fn classify(window: Window, len: usize) -> Class {
    if len == 0 {
        return Class::KeepAlive;
    }
    match window.byte(0) {
        b'\r' | b'\n' | 0 => {
            // STUN: type 0x0001 (binding request), magic cookie 0x2112a442 at 4.
            let stun = window.low & 0xffff_ffff_0000_ffff == 0x42a4_1221_0000_0100 && len >= 20;
            let blank = blank(window.byte(1)) && blank(window.byte(2)) && blank(window.byte(3));
            if stun || (len <= 4 && blank) {
                Class::KeepAlive
            } else {
                Class::Request(Method::Unknown)
            }
        }
        b'S' if window.low as u32 == pack(b"SIP/", 0, 4) as u32 => Class::Response,
        _ => Class::Request(method(window)),
    }
}

#[inline(always)]
const fn blank(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// The method that the window begins with. Case matters (RFC 3261, 7.1).
#[inline(always)]
const fn method(w: Window) -> Method {
    match w.byte(0) {
        b'I' if w.is_method(b"INVITE") => Method::Invite,
        b'I' if w.is_method(b"INFO") => Method::Info,
        b'A' if w.is_method(b"ACK") => Method::Ack,
        b'B' if w.is_method(b"BYE") => Method::Bye,
        b'C' if w.is_method(b"CANCEL") => Method::Cancel,
        b'R' if w.is_method(b"REGISTER") => Method::Register,
        b'R' if w.is_method(b"REFER") => Method::Refer,
        b'O' if w.is_method(b"OPTIONS") => Method::Options,
        b'P' if w.is_method(b"PRACK") => Method::Prack,
        b'P' if w.is_method(b"PUBLISH") => Method::Publish,
        b'U' if w.is_method(b"UPDATE") => Method::Update,
        b'N' if w.is_method(b"NOTIFY") => Method::Notify,
        b'S' if w.is_method(b"SUBSCRIBE") => Method::Subscribe,
        b'M' if w.is_method(b"MESSAGE") => Method::Message,
        _ => Method::Unknown,
    }
}

/// [`classify`] for a whole payload.
#[must_use]
pub fn classify_payload(payload: &[u8]) -> Class {
    classify(Window::of(payload), payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_method_is_recognised_and_only_as_a_whole_word() {
        for method in Method::NAMED {
            let name = method.as_str();
            assert_eq!(
                classify_payload(format!("{name} sip:a@b SIP/2.0").as_bytes()),
                Class::Request(method)
            );
            assert_eq!(
                classify_payload(format!("{name}X sip:a@b SIP/2.0").as_bytes()),
                Class::Request(Method::Unknown)
            );
            assert_eq!(
                classify_payload(format!("{} sip:a", name.to_lowercase()).as_bytes()),
                Class::Request(Method::Unknown)
            );
            assert_eq!(
                classify_payload(&name.as_bytes()[..name.len() - 1]),
                Class::Request(Method::Unknown)
            );
            assert_eq!(classify_payload(name.as_bytes()), Class::Request(Method::Unknown));
        }
    }

    #[test]
    fn keep_alives_and_responses_are_told_from_requests() {
        for keep_alive in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\n"] {
            assert_eq!(classify_payload(keep_alive), Class::KeepAlive, "{keep_alive:?}");
        }
        assert_eq!(classify_payload(b"\0\x01\0\0\x21\x12\xa4\x42aaaabbbbcccc"), Class::KeepAlive);
        assert_eq!(classify_payload(b"SIP/2.0 200 OK\r\n"), Class::Response);
        assert_eq!(classify_payload(b"\r\n\r\nX"), Class::Request(Method::Unknown));
        assert_eq!(classify_payload(b"\r\n\r\nINVITE sip:a@b SIP/2.0"), Class::Request(Method::Unknown));
        assert_eq!(classify_payload(b"SUBSCRIBE sip:a"), Class::Request(Method::Subscribe));
    }
}
