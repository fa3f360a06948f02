//! Lists and parameters inside header values, with quoted strings and angle brackets respected (RFC 3261, 25.1).

/// RFC 3261, 25.1: `token`.
pub(crate) const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Where `wanted` first stands outside of quotes and angle brackets.
fn find(text: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut bracket) = (false, false, false);
    for (i, b) in text.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            match b {
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else if bracket {
            bracket = *b != b'>';
        } else if *b == wanted {
            return Some(i);
        } else {
            match b {
                b'"' => quoted = true,
                b'<' => bracket = true,
                _ => {}
            }
        }
    }
    None
}

/// The parts of a comma-separated header value (RFC 3261, 7.3.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let (item, next) = match find(text, b',') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = next;
        Some(item.trim_ascii())
    })
}

/// The first part of a comma-separated header value, and the rest with its comma, as it stands.
pub(crate) fn first(value: &[u8]) -> (&[u8], &[u8]) {
    let (item, rest) = value.split_at(find(value, b',').unwrap_or(value.len()));
    (item.trim_ascii(), rest)
}

/// The parameters of a header value: what follows the first semicolon that is outside of quotes and angle brackets.
#[must_use]
pub fn params(value: &[u8]) -> Params<'_> {
    Params {
        rest: find(value, b';').map(|at| &value[at + 1..]),
    }
}

/// See [`params`]. Yields name and, if there is one, value (quotes left on).
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest?;
        let (param, rest) = match find(text, b';') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        self.rest = rest;
        Some(match memchr::memchr(b'=', param) {
            Some(at) => (param[..at].trim_ascii(), Some(param[at + 1..].trim_ascii())),
            None => (param.trim_ascii(), None),
        })
    }
}

/// The tag of a From or To value, if it is one in every reading. Empty counts as none. So does one that parsers may look for in vain, since
/// the request begins a dialog to them:
///
/// - before an `@` where there are no brackets, it is a part of the user (`sip:b;tag=1@h`);
/// - behind a comma, it is that of a second address (`<sip:b@h>,<sip:c@h>;tag=1`), and so behind anything else that follows the brackets;
/// - behind a quote that does not begin the display name, it may be inside of the quotes or not (`b" <sip:b@h>;x";tag=1`).
pub(crate) fn tag(value: &[u8]) -> Option<&[u8]> {
    let end = find(value, b';')?;
    let (address, parameters) = value.split_at(end);
    let name = match find(address, b'<') {
        Some(open) => {
            let close = open + memchr::memchr(b'>', &address[open..])?;
            if !address[close + 1..].trim_ascii().is_empty() {
                return None;
            }
            &address[..open]
        }
        None if memchr::memchr(b'@', parameters).is_some() || find(address, b',').is_some() => return None,
        None => address,
    };
    let bad_quote = memchr::memchr(b'"', name).is_some() && !name.trim_ascii_start().starts_with(b"\"");
    if bad_quote || find(parameters, b',').is_some() {
        return None;
    }
    params(value)
        .find(|(name, _)| name.eq_ignore_ascii_case(b"tag"))?
        .1
        .filter(|tag| !tag.is_empty())
}
