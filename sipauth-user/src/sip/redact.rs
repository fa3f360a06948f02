//! Messages that leave the agent for a person's eyes: without what proves a password.

/// A copy of the same length, with the response of digest credentials, and credentials of any other scheme, replaced by `x`. Works on
/// bytes that are no SIP at all: too much is replaced rather than too little.
#[must_use]
pub fn redact(message: &[u8]) -> Vec<u8> {
    let mut copy = message.to_vec();
    let (mut at, mut covering) = (0, false);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        let end = at + line.len();
        let from = match line.first() {
            // The line before goes on.
            Some(b' ' | b'\t') => covering.then_some(0),
            _ => other_scheme(line),
        };
        covering = from.is_some();
        if let Some(from) = from {
            cover(&mut copy[at + from..end]);
        }
        at = end;
    }
    let mut from = 0;
    while let Some(found) = position(&message[from..], b"response") {
        let after = from + found + b"response".len();
        from = after;
        if let Some((start, end)) = value(message, after) {
            cover(&mut copy[start..end]);
            from = end;
        }
    }
    copy
}

/// Where the value begins of a line with credentials that are not of a digest: Basic has the password itself.
fn other_scheme(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii();
    if !name.eq_ignore_ascii_case(b"authorization") && !name.eq_ignore_ascii_case(b"proxy-authorization") {
        return None;
    }
    let value = line[colon + 1..].trim_ascii_start();
    let start = line.len() - value.len();
    let digest = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"digest"));
    (!digest).then_some(start)
}

/// Start and end of the value behind a field's name; `None` if no value follows.
fn value(message: &[u8], after: usize) -> Option<(usize, usize)> {
    let skip = |mut at: usize| {
        while message.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let equals = skip(after);
    (message.get(equals) == Some(&b'=')).then_some(())?;
    let start = skip(equals + 1);
    let quoted = message.get(start) == Some(&b'"');
    let start = start + usize::from(quoted);
    let rest = message.get(start..)?;
    let ends = |byte: &u8| match byte {
        b'\r' | b'\n' => !quoted,
        b'"' => true,
        _ => !quoted && matches!(byte, b',' | b' ' | b'\t'),
    };
    Some((start, start + rest.iter().position(ends).unwrap_or(rest.len())))
}

/// Line ends stay, so that the message reads as before.
fn cover(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        *byte = b'x';
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|bytes| bytes.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_a_password_is_replaced_and_nothing_else_moves() {
        let hash = "0123456789abcdef0123456789abcdef";
        for line in [
            format!("Authorization: Digest username=\"a\", response=\"{hash}\", uri=\"sip:x\"\r\n"),
            format!("proxy-authorization : digest nc=00000001,\r\n RESPONSE = \"{hash}\"\r\n"),
            format!("Authorization: Digest response={hash},qop=auth\r\n"),
            format!("Authorization: Digest response=\"{hash}"),
            format!("Authorization: Basic {hash}\r\n"),
            format!("Proxy-Authorization:\tBearer {hash}\r\n"),
            format!("Authorization: Basic\r\n {hash}\r\n"),
        ] {
            let shown = redact(line.as_bytes());
            assert_eq!(shown.len(), line.len());
            let text = String::from_utf8(shown).expect("text");
            assert!(!text.contains("abcdef"), "{text}");
            assert_eq!(text.matches('\n').count(), line.matches('\n').count());
        }
        let plain = b"INVITE sip:response@x SIP/2.0\r\nVia: response\r\nX: a response of nobody\r\n\r\nresponse";
        assert_eq!(redact(plain), plain);
        assert_eq!(redact(b""), b"");
        assert_eq!(redact(b"response="), b"response=");
    }
}
