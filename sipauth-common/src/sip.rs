//! What the first bytes of a SIP datagram are. Bytes in, class out: the host tests it, the kernel program runs it.

/// Bytes that [`classify`] looks at; a shorter payload is padded with zeros.
pub const WINDOW: usize = 16;

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
            Self::Invite | Self::Register | Self::Options | Self::Subscribe | Self::Message | Self::Refer | Self::Publish | Self::Unknown => true,
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

/// Classifies a payload of `len` bytes from its first [`WINDOW`] bytes.
///
/// Anything that is neither response nor keep-alive counts as a request, so that the agent's parser decides about it.
/// Leading line ends are not skipped (RFC 3261, 7.5 allows them): such a request is of the unknown method, which is punted.
#[inline(always)]
#[must_use]
pub fn classify(head: &[u8; WINDOW], len: usize) -> Class {
    let h = head;
    if len == 0 {
        return Class::KeepAlive;
    }
    match h[0] {
        // One to four of CR, LF and NUL, and nothing else.
        b'\r' | b'\n' | 0 => {
            let blank = |b: u8| b == b'\r' || b == b'\n' || b == 0;
            // STUN: type 0x0001 (binding request), magic cookie at 4.
            let stun = h[0] == 0 && h[1] == 1 && h[4] == 0x21 && h[5] == 0x12 && h[6] == 0xa4 && h[7] == 0x42 && len >= 20;
            if stun || (len <= 4 && blank(h[1]) && blank(h[2]) && blank(h[3])) { Class::KeepAlive } else { Class::Request(Method::Unknown) }
        }
        b'S' if h[1] == b'I' && h[2] == b'P' && h[3] == b'/' => Class::Response,
        _ => Class::Request(method(h)),
    }
}

/// The method that `head` begins with; it must be followed by a space or tab. Case matters (RFC 3261, 7.1).
#[inline(always)]
fn method(h: &[u8; WINDOW]) -> Method {
    let named = match h[0] {
        b'I' if h[1] == b'N' && h[2] == b'V' => token(h, b"INVITE", Method::Invite),
        b'I' => token(h, b"INFO", Method::Info),
        b'A' => token(h, b"ACK", Method::Ack),
        b'B' => token(h, b"BYE", Method::Bye),
        b'C' => token(h, b"CANCEL", Method::Cancel),
        b'R' if h[2] == b'G' => token(h, b"REGISTER", Method::Register),
        b'R' => token(h, b"REFER", Method::Refer),
        b'O' => token(h, b"OPTIONS", Method::Options),
        b'P' if h[1] == b'R' => token(h, b"PRACK", Method::Prack),
        b'P' => token(h, b"PUBLISH", Method::Publish),
        b'U' => token(h, b"UPDATE", Method::Update),
        b'N' => token(h, b"NOTIFY", Method::Notify),
        b'S' => token(h, b"SUBSCRIBE", Method::Subscribe),
        b'M' => token(h, b"MESSAGE", Method::Message),
        _ => None,
    };
    match named {
        Some(method) => method,
        None => Method::Unknown,
    }
}

#[inline(always)]
fn token<const N: usize>(head: &[u8; WINDOW], name: &[u8; N], method: Method) -> Option<Method> {
    let mut i = 0;
    while i < N {
        if head[i] != name[i] {
            return None;
        }
        i += 1;
    }
    if head[N] == b' ' || head[N] == b'\t' { Some(method) } else { None }
}

/// [`classify`] for a whole payload.
#[must_use]
pub fn classify_payload(payload: &[u8]) -> Class {
    let mut head = [0; WINDOW];
    let n = if payload.len() < WINDOW { payload.len() } else { WINDOW };
    head[..n].copy_from_slice(&payload[..n]);
    classify(&head, payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_method_is_recognised_and_only_as_a_whole_word() {
        for method in Method::NAMED {
            let name = method.as_str();
            assert_eq!(classify_payload(format!("{name} sip:a@b SIP/2.0").as_bytes()), Class::Request(method));
            assert_eq!(classify_payload(format!("{name}X sip:a@b SIP/2.0").as_bytes()), Class::Request(Method::Unknown));
            assert_eq!(classify_payload(format!("{} sip:a", name.to_lowercase()).as_bytes()), Class::Request(Method::Unknown));
            assert_eq!(classify_payload(&name.as_bytes()[..name.len() - 1]), Class::Request(Method::Unknown));
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
