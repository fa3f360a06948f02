//! A single header value through everything that reads one.

use crate::{
    auth::credentials::{Credentials, unescape},
    sip::{Message, list, params, text::tag},
};

/// Reads `data` as a list, as an address with parameters and as credentials, and says what kind it is.
pub fn header(data: &[u8]) -> &'static str {
    let items: Vec<&[u8]> = list(data).collect();
    assert!(!items.is_empty());
    let commas = items.len() - 1;
    assert!(commas <= data.iter().filter(|byte| **byte == b',').count());
    assert!(items.iter().map(|item| item.len()).sum::<usize>() + commas <= data.len());
    for item in &items {
        // Only what is left open may hide a comma from the reader of the whole.
        assert!(list(item).count() == 1, "{item:?} is one part of a list");
        parameters(item);
    }
    in_a_message(data);
    let kind = authorization(data);
    match tag(data) {
        _ if kind != "other" => kind,
        Some(found) => {
            assert!(!found.is_empty() && found.len() < data.len());
            // It belongs to the first address, not to one behind a comma.
            let before = &items[..commas];
            assert!(!before.iter().any(|item| item.starts_with(b"<") || params(item).next().is_some()));
            "tag"
        }
        None if items.len() > 1 => "list",
        None if params(data).next().is_some() => "params",
        None => "other",
    }
}

fn parameters(value: &[u8]) {
    let all: Vec<_> = params(value).collect();
    let semicolons = value.iter().filter(|byte| **byte == b';').count();
    assert!(all.len() <= semicolons);
    for (name, text) in &all {
        assert!(!name.contains(&b'='));
        // Written out again, each is read as before.
        let mut line = b"x;".to_vec();
        line.extend_from_slice(name);
        if let Some(text) = text {
            line.push(b'=');
            line.extend_from_slice(text);
        }
        let again: Vec<_> = params(&line).collect();
        assert_eq!(again, [(*name, *text)], "{value:?}");
    }
}

/// What the parser of messages makes of it is what it makes of it alone.
fn in_a_message(value: &[u8]) {
    if value.contains(&b'\n') || value.contains(&b'\r') {
        return;
    }
    for (before, after) in [
        ("From: <sip:a@h>;tag=1\r\nTo: ", "\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1"),
        ("From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nVia: ", ""),
        ("From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nVia: SIP/2.0/UDP h\r\nContact: ", ""),
    ] {
        let mut text = b"REGISTER sip:h SIP/2.0\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n".to_vec();
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(value);
        text.extend_from_slice(after.as_bytes());
        text.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
        let Ok(message) = Message::parse(&text) else { continue };
        if !after.is_empty() {
            assert_eq!(message.to_tag(), tag(value));
        } else if before.ends_with("Via: ") {
            assert_eq!(list(message.top_via()).count(), list(value).count());
        } else {
            assert_eq!(message.contacts().count(), list(value).count());
            assert!(message.requested_expiry(60).is_none_or(|seconds| seconds > 0));
        }
    }
}

fn authorization(value: &[u8]) -> &'static str {
    let plain = unescape(value);
    assert!(plain.len() <= value.len());
    assert!(value.contains(&b'\\') || *plain == *value);
    let Some(found) = Credentials::parse(value) else { return "other" };
    if found.malformed {
        return "malformed_credentials";
    }
    let fields = [
        ("username", found.username),
        ("realm", found.realm),
        ("nonce", found.nonce),
        ("uri", found.uri),
        ("response", found.response),
        ("algorithm", found.algorithm),
        ("cnonce", found.cnonce),
        ("qop", found.qop),
        ("nc", found.nc),
    ];
    // Written out again in quotes, in the other order, they are the same.
    let mut line = b"Digest ".to_vec();
    for (name, text) in fields.iter().rev() {
        let Some(text) = text else { continue };
        assert!(text.is_empty() || value.windows(text.len()).any(|window| window == *text));
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"=\"");
        line.extend_from_slice(text);
        line.extend_from_slice(b"\", ");
    }
    let again = Credentials::parse(&line).expect("the scheme is there");
    assert!(!again.malformed, "{value:?}");
    for ((_, before), after) in fields.iter().zip([
        again.username,
        again.realm,
        again.nonce,
        again.uri,
        again.response,
        again.algorithm,
        again.cnonce,
        again.qop,
        again.nc,
    ]) {
        assert_eq!(*before, after, "{value:?}");
    }
    "credentials"
}
