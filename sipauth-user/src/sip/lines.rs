//! The lines of a head: the first one, and header fields with their names.

use sipauth_common::sip::Method;

use super::{ParseError, text};

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
pub(super) enum Kind {
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
    pub(super) fn of(name: &[u8]) -> Option<Self> {
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

/// The lines of a head, folded ones together; ends after the blank line.
pub(super) struct Headers<'a> {
    pub(super) rest: &'a [u8],
    /// The blank line was seen; what is left is the body.
    pub(super) done: bool,
}

impl<'a> Headers<'a> {
    pub(super) const fn of(rest: &'a [u8]) -> Self {
        Self { rest, done: false }
    }
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

pub(super) fn split(line: &[u8]) -> Option<Header<'_>> {
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

pub(super) fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

pub(super) fn required(value: Option<&[u8]>) -> Result<&[u8], ParseError> {
    value.filter(|v| !v.is_empty()).ok_or(ParseError::MissingHeader)
}

/// What we copy into responses has no control characters but legal folding, which `Headers` has seen to where LF is concerned, and
/// what a backslash escapes (RFC 3261, 25.1: `quoted-pair`).
pub(super) fn check(value: &[u8]) -> Result<(), ParseError> {
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
pub(super) fn one_reading(line: &[u8]) -> Result<(), ParseError> {
    let bad = |at: usize| line[at] == 0 || line.get(at + 1) != Some(&b'\n');
    if memchr::memchr2_iter(b'\r', 0, line).any(bad) {
        Err(ParseError::BadByte)
    } else {
        Ok(())
    }
}

pub(super) fn start_line(line: &[u8]) -> Result<(StartLine<'_>, Option<ParseError>), ParseError> {
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

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}
