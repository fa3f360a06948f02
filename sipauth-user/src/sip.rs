//! A view over a SIP message that borrows everything, and a writer of our own responses.
//!
//! The parser is stricter than RFC 3261 asks where two readings of a message are possible (repeated From, control characters,
//! a CSeq of another method): what it accepts goes to the softswitch unchanged, and the two must not disagree about it. It
//! is lenient where equipment is known to be sloppy: bare LF, white space before the colon or between the parts of the
//! request line, bytes above 127. Nothing is allocated here.

mod error;
mod expiry;
mod lines;
mod redact;
mod response;
pub mod stream;
pub(crate) mod text;

pub use error::ParseError;
pub use lines::{Header, StartLine};
pub use redact::redact;
pub use response::{Response, Status};
pub use text::{Params, list, params};

use lines::{Headers, Kind, check, decimal, one_reading, required, split, start_line, strip_cr};

/// More headers than any legitimate request has.
pub const MAX_HEADERS: usize = 256;

/// A SIP message with everything that is needed to answer it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    start: StartLine<'a>,
    /// The header lines, with the blank line that ends them.
    head: &'a [u8],
    /// From the first line of `head` that has credentials on; empty where none has.
    credentials: &'a [u8],
    body: &'a [u8],
    via: &'a [u8],
    from: &'a [u8],
    to: &'a [u8],
    call_id: &'a [u8],
    cseq: &'a [u8],
    expires: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// If it is no SIP message, or one that must not be acted on.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        match Self::read(datagram)? {
            (message, None) => Ok(message),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// As [`Message::parse`], but a faulty message that can be answered (RFC 3261, 8.2.6.2 says what that takes) comes with its fault.
    ///
    /// # Errors
    /// If it cannot be answered.
    pub fn read(datagram: &'a [u8]) -> Result<(Self, Option<ParseError>), ParseError> {
        // RFC 3261, 7.5: leading line ends are ignored.
        let begin = datagram.iter().position(|b| !matches!(b, b'\r' | b'\n')).ok_or(ParseError::Empty)?;
        let datagram = &datagram[begin..];
        let end = memchr::memchr(b'\n', datagram).ok_or(ParseError::Truncated)?;
        let (start, mut fault) = start_line(strip_cr(&datagram[..end]))?;
        let rest = &datagram[end + 1..];

        let [mut via, mut from, mut to, mut call_id, mut cseq, mut expires, mut length] = [None; 7];
        // An indented first line is a header to some, to others a part of the request line.
        if matches!(rest.first(), Some(b' ' | b'\t')) {
            fault = fault.or(Some(ParseError::BadHeader));
        }
        let mut headers = Headers::of(rest);
        let (mut count, mut before, mut credentials) = (0, rest.len(), None);
        while let Some(line) = headers.next() {
            let begin = rest.len() - std::mem::replace(&mut before, headers.rest.len());
            count += 1;
            if count > MAX_HEADERS {
                return Err(ParseError::TooManyHeaders);
            }
            one_reading(line)?;
            // A name with a control character is the name before it to parsers that take that for white space.
            let Some(header) = split(line).filter(|header| !header.name.iter().any(u8::is_ascii_control)) else {
                fault = fault.or(Some(ParseError::BadHeader));
                continue;
            };
            let slot = match Kind::of(header.name) {
                Some(Kind::Via) => {
                    via = via.or(Some(header.value));
                    check(header.value)?;
                    continue;
                }
                Some(Kind::From) => &mut from,
                Some(Kind::To) => &mut to,
                Some(Kind::CallId) => &mut call_id,
                Some(Kind::CSeq) => &mut cseq,
                Some(Kind::Expires) => &mut expires,
                Some(Kind::ContentLength) => &mut length,
                Some(Kind::Authorization | Kind::ProxyAuthorization) => {
                    credentials = credentials.or(Some(begin));
                    continue;
                }
                Some(Kind::Contact) | None => continue,
            };
            check(header.value)?;
            // The first is good enough for an answer, but which of them counts is not for us to say.
            if slot.is_some() {
                fault = fault.or(Some(ParseError::Repeated));
            } else {
                *slot = Some(header.value);
            }
        }
        if !headers.done {
            return Err(ParseError::Truncated);
        }
        let head = &rest[..rest.len() - headers.rest.len()];
        let mut body = headers.rest;
        if let Some(length) = length {
            match decimal(length).and_then(|n| usize::try_from(n).ok()) {
                // RFC 3261, 18.3: bytes beyond Content-Length are ignored, too few are an error.
                Some(n) if n <= body.len() => body = &body[..n],
                Some(_) => fault = fault.or(Some(ParseError::ShortBody)),
                None => fault = fault.or(Some(ParseError::BadContentLength)),
            }
        }
        let message = Self {
            start,
            head,
            credentials: credentials.and_then(|begin| head.get(begin..)).unwrap_or_default(),
            body,
            via: required(via)?,
            from: required(from)?,
            to: required(to)?,
            call_id: required(call_id)?,
            cseq: required(cseq)?,
            expires,
        };
        Ok((message, fault.or(message.cseq_fault())))
    }

    /// RFC 3261, 8.1.1.5: a number below 2^31 and the method of the request.
    fn cseq_fault(&self) -> Option<ParseError> {
        let mut words = self.cseq.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let number = words.next().and_then(decimal);
        let method = words.next();
        let fits = match self.start {
            StartLine::Request { token, .. } => method == Some(token),
            StartLine::Response { .. } => method.is_some(),
        };
        let good = number.is_some_and(|n| n < 1 << 31) && fits && words.next().is_none();
        if good { None } else { Some(ParseError::BadCSeq) }
    }

    /// Request line or status line.
    #[must_use]
    pub const fn start(&self) -> StartLine<'a> {
        self.start
    }

    /// Every header line that has a colon.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        Headers::of(self.head).filter_map(split)
    }

    /// The topmost `Via` line, which may hold several values.
    #[must_use]
    pub const fn top_via(&self) -> &'a [u8] {
        self.via
    }

    /// Every `Via` line in order.
    pub fn vias(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        of_kind(self.head, Kind::Via)
    }

    /// The `branch` of the topmost `Via`.
    #[must_use]
    pub fn branch(&self) -> Option<&'a [u8]> {
        let top = list(self.via).next()?;
        params(top).find(|(name, _)| name.eq_ignore_ascii_case(b"branch"))?.1
    }

    /// `From`.
    #[must_use]
    pub const fn from(&self) -> &'a [u8] {
        self.from
    }

    /// The tag of `From`.
    #[must_use]
    pub fn from_tag(&self) -> Option<&'a [u8]> {
        text::tag(self.from)
    }

    /// `To`.
    #[must_use]
    pub const fn to(&self) -> &'a [u8] {
        self.to
    }

    /// The tag of `To`; a request that has one belongs to a dialog (RFC 3261, 12.2).
    #[must_use]
    pub fn to_tag(&self) -> Option<&'a [u8]> {
        text::tag(self.to)
    }

    /// `Call-ID`.
    #[must_use]
    pub const fn call_id(&self) -> &'a [u8] {
        self.call_id
    }

    /// `CSeq`.
    #[must_use]
    pub const fn cseq(&self) -> &'a [u8] {
        self.cseq
    }

    /// The body, as long as `Content-Length` says, else to the end.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Every `Authorization`, then every `Proxy-Authorization`.
    pub fn authorizations(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        of_kind(self.credentials, Kind::Authorization).chain(of_kind(self.credentials, Kind::ProxyAuthorization))
    }

    /// Every contact, whether on a line of its own or in a list.
    pub fn contacts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        of_kind(self.head, Kind::Contact).flat_map(list)
    }
}

/// The values of these headers in a head.
fn of_kind(head: &[u8], wanted: Kind) -> impl Iterator<Item = &[u8]> {
    Headers::of(head)
        .filter_map(split)
        .filter(move |header| Kind::of(header.name) == Some(wanted))
        .map(|header| header.value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
