//! A view over a SIP message that borrows everything, and a writer of our own responses.
//!
//! The parser is stricter than RFC 3261 asks where two readings of a message are possible (repeated From, control characters,
//! a CSeq of another method): what it accepts goes to the softswitch unchanged, and the two must not disagree about it. It
//! is lenient where equipment is known to be sloppy: bare LF, white space before the colon or between the parts of the
//! request line, bytes above 127. Nothing is allocated here.

mod error;
mod expiry;
mod redact;
mod response;
pub mod stream;
pub(crate) mod text;

pub use error::ParseError;
pub use redact::redact;
pub use response::{Response, Status};
pub use text::{Params, list, params};

use sipauth_common::sip::Method;

/// More headers than any legitimate request has.
pub const MAX_HEADERS: usize = 256;

/// A request line or status line (RFC 3261, 7.1 and 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request.
    Request {
        /// The method, if it is one that we know.
        method: Method,
        /// As it stands there.
        token: &'a [u8],
        /// Request-URI.
        uri: &'a [u8],
    },
    /// A response.
    Response {
        /// Status code.
        code: u16,
    },
}

/// A header field line; the value may span lines (RFC 3261, 7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// As written.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
}

/// The headers that authentication needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    Expires,
    ContentLength,
    Authorization,
    ProxyAuthorization,
}

impl Kind {
    /// By full name or compact form (RFC 3261, 7.3.3 and 20).
    fn of(name: &[u8]) -> Option<Self> {
        // By length, since most headers of a message are none of these.
        let known: &[(&[u8], Self)] = match name.len() {
            1 => &[
                (b"v", Self::Via),
                (b"f", Self::From),
                (b"t", Self::To),
                (b"i", Self::CallId),
                (b"m", Self::Contact),
                (b"l", Self::ContentLength),
            ],
            2 => &[(b"To", Self::To)],
            3 => &[(b"Via", Self::Via)],
            4 => &[(b"From", Self::From), (b"CSeq", Self::CSeq)],
            7 => &[(b"Call-ID", Self::CallId), (b"Contact", Self::Contact), (b"Expires", Self::Expires)],
            13 => &[(b"Authorization", Self::Authorization)],
            14 => &[(b"Content-Length", Self::ContentLength)],
            19 => &[(b"Proxy-Authorization", Self::ProxyAuthorization)],
            _ => return None,
        };
        known
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, kind)| *kind)
    }
}

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

/// The lines of a head, folded ones together; ends after the blank line.
struct Headers<'a> {
    rest: &'a [u8],
    /// The blank line was seen; what is left is the body.
    done: bool,
}

impl<'a> Headers<'a> {
    const fn of(rest: &'a [u8]) -> Self {
        Self { rest, done: false }
    }
}

/// The values of these headers in a head.
fn of_kind(head: &[u8], wanted: Kind) -> impl Iterator<Item = &[u8]> {
    Headers::of(head)
        .filter_map(split)
        .filter(move |header| Kind::of(header.name) == Some(wanted))
        .map(|header| header.value)
}

impl<'a> Iterator for Headers<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.done {
            return None;
        }
        for end in memchr::memchr_iter(b'\n', self.rest) {
            let line = strip_cr(&self.rest[..end]);
            if !line.is_empty() && matches!(self.rest.get(end + 1), Some(b' ' | b'\t')) {
                continue;
            }
            self.rest = &self.rest[end + 1..];
            self.done = line.is_empty();
            return if self.done { None } else { Some(line) };
        }
        None
    }
}

fn split(line: &[u8]) -> Option<Header<'_>> {
    let colon = memchr::memchr(b':', line)?;
    Some(Header {
        name: trim_end(&line[..colon]),
        value: trim(&line[colon + 1..]),
    })
}

/// Without the white space of SIP around it (RFC 3261, 25.1: `LWS`), which is less than std's: a form feed is none.
fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_space(*b)).unwrap_or(text.len());
    trim_end(&text[start..])
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !is_space(*b)).map_or(0, |last| last + 1);
    &text[..end]
}

const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn required(value: Option<&[u8]>) -> Result<&[u8], ParseError> {
    value.filter(|v| !v.is_empty()).ok_or(ParseError::MissingHeader)
}

/// What we copy into responses has no control characters but legal folding, which `Headers` has seen to where LF is concerned, and
/// what a backslash escapes (RFC 3261, 25.1: `quoted-pair`).
fn check(value: &[u8]) -> Result<(), ParseError> {
    let bad = |(i, b): (usize, &u8)| match b {
        b'\t' | b'\n' => false,
        b'\r' => value.get(i + 1) != Some(&b'\n'),
        0 => true,
        _ => b.is_ascii_control() && (i == 0 || value[i - 1] != b'\\'),
    };
    if value.iter().enumerate().any(bad) {
        Err(ParseError::BadByte)
    } else {
        Ok(())
    }
}

/// Some parsers end a line at a CR alone, others the message at a NUL: they would find other headers than we do, in any line.
fn one_reading(line: &[u8]) -> Result<(), ParseError> {
    let bad = |at: usize| line[at] == 0 || line.get(at + 1) != Some(&b'\n');
    if memchr::memchr2_iter(b'\r', 0, line).any(bad) {
        Err(ParseError::BadByte)
    } else {
        Ok(())
    }
}

fn start_line(line: &[u8]) -> Result<(StartLine<'_>, Option<ParseError>), ParseError> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(ParseError::BadStartLine);
    }
    let first = memchr::memchr(b' ', line).ok_or(ParseError::BadStartLine)?;
    let last = memchr::memrchr(b' ', line.trim_ascii_end()).ok_or(ParseError::BadStartLine)?;
    let token = &line[..first];
    if token.get(..4).is_some_and(|t| t.eq_ignore_ascii_case(b"SIP/")) {
        let code = line[first..].trim_ascii_start().split(|b| *b == b' ').next().and_then(decimal);
        return match code.and_then(|n| u16::try_from(n).ok()) {
            Some(code @ 100..=699) => Ok((StartLine::Response { code }, None)),
            _ => Err(ParseError::BadStartLine),
        };
    }
    if token.is_empty() || !token.iter().all(|b| text::is_token(*b)) || last <= first {
        return Err(ParseError::BadStartLine);
    }
    let uri = line[first..last].trim_ascii();
    let version = line[last..].trim_ascii();
    // A space inside makes it unclear where the URI ends.
    let fault = if uri.is_empty() || uri.contains(&b' ') {
        Some(ParseError::BadUri)
    } else if version.eq_ignore_ascii_case(b"SIP/2.0") {
        None
    } else {
        Some(ParseError::BadVersion)
    };
    // Methods are case-sensitive (RFC 3261, 7.1).
    let method = Method::NAMED
        .into_iter()
        .find(|m| m.as_str().as_bytes() == token)
        .unwrap_or(Method::Unknown);
    Ok((StartLine::Request { method, token, uri }, fault))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
