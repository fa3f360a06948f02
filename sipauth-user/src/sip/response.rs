//! Responses of our own (RFC 3261, 8.2.6 and 18.2). Each is the copied headers and little more, so that a forged source
//! address gains a flooder next to nothing.

use std::{io::Write, net::SocketAddr};

use super::{
    Message, params,
    text::{first, tag},
};

/// Most responses have room in it.
const ROOM: usize = 1_024;

/// The final responses that the agent gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 407
    ProxyAuthenticationRequired,
    /// 481
    NoSuchTransaction,
    /// 503
    ServiceUnavailable,
}

impl Status {
    /// The line, with its end.
    #[must_use]
    pub const fn line(self) -> &'static [u8] {
        match self {
            Self::BadRequest => b"SIP/2.0 400 Bad Request\r\n",
            Self::Unauthorized => b"SIP/2.0 401 Unauthorized\r\n",
            Self::Forbidden => b"SIP/2.0 403 Forbidden\r\n",
            Self::ProxyAuthenticationRequired => b"SIP/2.0 407 Proxy Authentication Required\r\n",
            Self::NoSuchTransaction => b"SIP/2.0 481 Call/Transaction Does Not Exist\r\n",
            Self::ServiceUnavailable => b"SIP/2.0 503 Service Unavailable\r\n",
        }
    }

    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::ProxyAuthenticationRequired => 407,
            Self::NoSuchTransaction => 481,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// A response in the making.
#[derive(Debug)]
pub struct Response {
    bytes: Vec<u8>,
}

impl Response {
    /// With everything that a response to `request` must have; `our_tag` goes into To if that has none. What is in `buffer` goes, its room
    /// is used.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>, status: Status, request: &Message<'_>, source: SocketAddr, our_tag: &[u8]) -> Self {
        buffer.clear();
        buffer.reserve(ROOM);
        let mut response = Self { bytes: buffer };
        response.bytes.extend_from_slice(status.line());
        for (i, via) in request.vias().enumerate() {
            response.bytes.extend_from_slice(b"Via: ");
            if i == 0 {
                response.top_via(via, source)
            } else {
                response.copy(via)
            }
            response.end_line();
        }
        response.header(b"From: ", request.from());
        response.bytes.extend_from_slice(b"To: ");
        response.copy(request.to());
        if tag(request.to()).is_none() {
            response.bytes.extend_from_slice(b";tag=");
            response.bytes.extend_from_slice(our_tag);
        }
        response.end_line();
        response.header(b"Call-ID: ", request.call_id());
        response.header(b"CSeq: ", request.cseq());
        response
    }

    /// Without status line and headers so far.
    #[must_use]
    pub const fn bare() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Adds a header line. `name` includes colon and space; line ends in `value` become spaces.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        self.line(name, |text| text.copy(value));
    }

    /// Adds a header line whose value is written in pieces.
    pub fn line(&mut self, name: &[u8], value: impl FnOnce(&mut Self)) {
        self.bytes.extend_from_slice(name);
        value(self);
        self.end_line();
    }

    /// The finished bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"Server: sipauth\r\nContent-Length: 0\r\n\r\n");
        self.bytes
    }

    /// The first value of the line gets `received` and `rport` (RFC 3261, 18.2.1; RFC 3581, 4); what the client put there itself goes.
    /// `received` is always added: one rule, and the client sees what NAT made of it.
    fn top_via(&mut self, line: &[u8], source: SocketAddr) {
        let (top, others) = first(line);
        // The parser of parameters starts at the same semicolon: neither quotes nor brackets come before it in a Via.
        let sent_by = memchr::memchr(b';', top).map_or(top, |at| &top[..at]);
        self.copy(sent_by.trim_ascii());
        let mut rport = false;
        for (name, value) in params(top) {
            if name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            if name.eq_ignore_ascii_case(b"rport") {
                rport = true;
                continue;
            }
            self.bytes.push(b';');
            self.copy(name);
            if let Some(value) = value {
                self.bytes.push(b'=');
                self.copy(value);
            }
        }
        // Writing to a Vec cannot fail.
        let _ = write!(self.bytes, ";received={}", source.ip().to_canonical());
        if rport {
            let _ = write!(self.bytes, ";rport={}", source.port());
        }
        self.copy(others);
    }

    /// Adds to the line. Unfolds: whatever the parser let through, no line end gets into a value.
    pub fn copy(&mut self, value: &[u8]) {
        self.bytes
            .extend(value.iter().filter(|b| **b != b'\r').map(|b| if *b == b'\n' { b' ' } else { *b }));
    }

    fn end_line(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }
}
