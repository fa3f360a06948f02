//! The Authorization header (RFC 3261, 25.1: `credentials`; RFC 7616, 3.4), read without copying.

use std::borrow::Cow;

/// The fields of Digest credentials. Values are without their quotes, escapes left as they are: so they are hashed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credentials<'a> {
    pub(crate) username: Option<&'a [u8]>,
    pub(crate) realm: Option<&'a [u8]>,
    pub(crate) nonce: Option<&'a [u8]>,
    pub(crate) uri: Option<&'a [u8]>,
    pub(crate) response: Option<&'a [u8]>,
    pub(crate) algorithm: Option<&'a [u8]>,
    pub(crate) cnonce: Option<&'a [u8]>,
    pub(crate) qop: Option<&'a [u8]>,
    pub(crate) nc: Option<&'a [u8]>,
    /// A field is there twice, or the text is not a list of fields: what it says is uncertain.
    pub(crate) malformed: bool,
}

impl<'a> Credentials<'a> {
    /// `None` if the scheme is not Digest.
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let scheme = value.get(..6)?;
        let mut rest = value.get(6..)?;
        if !scheme.eq_ignore_ascii_case(b"Digest") || rest.first().is_some_and(|b| !b.is_ascii_whitespace()) {
            return None;
        }
        let mut found = Self::default();
        loop {
            rest = skip(rest);
            if rest.is_empty() {
                return Some(found);
            }
            let Some((name, value, next)) = field(rest) else {
                found.malformed = true;
                return Some(found);
            };
            found.put(name, value);
            rest = next;
        }
    }

    fn put(&mut self, name: &[u8], value: &'a [u8]) {
        let slots: [(&[u8], &mut Option<&'a [u8]>); 9] = [
            (b"username", &mut self.username),
            (b"realm", &mut self.realm),
            (b"nonce", &mut self.nonce),
            (b"uri", &mut self.uri),
            (b"response", &mut self.response),
            (b"algorithm", &mut self.algorithm),
            (b"cnonce", &mut self.cnonce),
            (b"qop", &mut self.qop),
            (b"nc", &mut self.nc),
        ];
        let Some((_, slot)) = slots.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            return;
        };
        if slot.replace(value).is_some() {
            self.malformed = true;
        }
    }
}

/// White space and commas; empty list elements are allowed (RFC 7230, 7).
fn skip(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .position(|b| !b.is_ascii_whitespace() && *b != b',')
        .unwrap_or(text.len());
    &text[end..]
}

/// One `name = value`, and what follows.
fn field(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = text.iter().position(|b| matches!(b, b'=' | b',' | b'"'))?;
    if text[equals] != b'=' {
        return None;
    }
    let name = text[..equals].trim_ascii();
    let rest = text[equals + 1..].trim_ascii_start();
    let (value, rest) = if let Some(inner) = rest.strip_prefix(b"\"") {
        let end = closing_quote(inner)?;
        (&inner[..end], &inner[end + 1..])
    } else {
        let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
        let value = rest[..end].trim_ascii();
        // To some readers a quote in it opens a string that hides the fields after it, white space ends it, or a backslash is itself.
        if value.iter().any(|b| matches!(b, b'"' | b'\\') || b.is_ascii_whitespace()) {
            return None;
        }
        (value, &rest[end..])
    };
    let follows = rest.trim_ascii_start();
    if name.is_empty() || follows.first().is_some_and(|b| *b != b',') {
        return None;
    }
    Some((name, value, rest))
}

/// Where an opened quoted string ends; a backslash takes the next byte with it.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// A quoted string's content without its escapes (RFC 3261, 25.1: `quoted-pair`).
pub(crate) fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(b) = bytes.next() {
        let b = if *b == b'\\' { bytes.next().unwrap_or(b) } else { b };
        out.push(*b);
    }
    Cow::Owned(out)
}
