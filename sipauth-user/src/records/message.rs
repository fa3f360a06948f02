//! What a record shows of a message, whole or cut off: read leniently, since it decides nothing.

use std::borrow::Cow;

use crate::{auth::credentials::Credentials, sip::Message};

/// Longest text of a peer that a record shows, in characters.
const SHOWN: usize = 256;

/// Parts of a request, as far as they are there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) uri: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

impl Parts {
    /// Of a message or its first bytes. A line that is cut off is not there.
    pub(super) fn of(message: &[u8]) -> Self {
        let mut lines = message
            .split_inclusive(|byte| *byte == b'\n')
            .map_while(|line| line.strip_suffix(b"\n"))
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .skip_while(|line| line.is_empty());
        let uri = lines.next().and_then(|line| line.split(|byte| *byte == b' ').nth(1));
        let mut parts = Self {
            uri: uri.map(text),
            ..Self::default()
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
            let named = |full: &[u8], short: &[u8]| name.eq_ignore_ascii_case(full) || name.eq_ignore_ascii_case(short);
            let slot = if named(b"Call-ID", b"i") {
                &mut parts.call_id
            } else if named(b"From", b"f") {
                &mut parts.from
            } else if named(b"To", b"t") {
                &mut parts.to
            } else {
                continue;
            };
            slot.get_or_insert_with(|| text(value));
        }
        parts
    }
}

/// The username of the first credentials, without a domain.
pub(super) fn username(message: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (message, _) = Message::read(message).ok()?;
    let name = message.authorizations().find_map(Credentials::parse)?.username?;
    Some(crate::auth::credentials::unescape(name))
}

/// A peer's bytes as text: what is not UTF-8, and control characters that JSON would leave as they are, become U+FFFD.
fn text(bytes: &[u8]) -> String {
    let all = String::from_utf8_lossy(bytes.get(..4 * SHOWN).unwrap_or(bytes));
    let safe = |c: char| {
        if c.is_control() && !c.is_ascii_control() || c == '\x7f' {
            '\u{fffd}'
        } else {
            c
        }
    };
    let mut text: String = all.chars().take(SHOWN).map(safe).collect();
    if all.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] =
        b"\r\nINVITE sip:100@lab SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nf : \"A\" <sip:a@lab>;tag=1\r\nTO: <sip:100@lab>\r\n\
        i: one@lab\r\nCall-ID: two@lab\r\nContent-Length: 9\r\n\r\nFrom: x\r\n";

    #[test]
    fn the_parts_are_found_by_either_name_and_the_first_counts() {
        let parts = Parts::of(INVITE);
        let wanted = Parts {
            uri: Some("sip:100@lab".to_owned()),
            call_id: Some("one@lab".to_owned()),
            from: Some("\"A\" <sip:a@lab>;tag=1".to_owned()),
            to: Some("<sip:100@lab>".to_owned()),
        };
        assert_eq!(parts, wanted);
    }

    #[test]
    fn what_is_cut_off_is_not_shown_in_part() {
        for end in 0..INVITE.len() {
            let (cut, whole) = (Parts::of(&INVITE[..end]), Parts::of(INVITE));
            for (cut, whole) in [
                (cut.uri, whole.uri),
                (cut.from, whole.from),
                (cut.to, whole.to),
                (cut.call_id, whole.call_id),
            ] {
                assert!(cut.is_none() || cut == whole, "{end}: {cut:?}");
            }
        }
    }

    #[test]
    fn whatever_a_peer_writes_becomes_text_of_a_bounded_length() {
        assert_eq!(text(b"a\xff\x1b[31m\x7f\xc2\x9b"), "a\u{fffd}\u{1b}[31m\u{fffd}\u{fffd}");
        assert_eq!(serde_json::to_string(&text(b"\x1b\0\"")).expect("JSON"), r#""\u001b\u0000\"""#);
        assert_eq!(text(&[b'x'; 5_000]).chars().count(), SHOWN + 1);
        assert_eq!(text("é".repeat(5_000).as_bytes()).chars().count(), SHOWN + 1);
        assert_eq!(Parts::of(b""), Parts::default());
        assert_eq!(Parts::of(&[0xff; 300]), Parts::default());
    }
}
