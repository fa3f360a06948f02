//! For how long a registration holds (RFC 3261, 10.2.1.1 and 10.3).

use sipauth_common::sip::Method;

use super::{Message, StartLine, lines::decimal, params};

impl Message<'_> {
    /// The longest time that a REGISTER asks for, in seconds: that of the contact, else `Expires`, else
    /// `default`. `None` if it removes bindings or only asks for them.
    #[must_use]
    pub fn requested_expiry(&self, default: u32) -> Option<u32> {
        // A malformed value is to be read as 3600 (RFC 3261, 10.3); a larger one than fits is simply long.
        let seconds = |text: &[u8]| decimal(text).map_or(default, clamped);
        let general = self.expires.map_or(default, seconds);
        self.contacts()
            .map(|contact| own_expiry(contact).map_or(general, seconds))
            .max()
            .filter(|n| *n > 0)
    }

    /// The longest time that a 2xx to a REGISTER grants, in seconds: those of its contacts, else `Expires`. `None` for any other
    /// message, and where it names no time, or only 0.
    #[must_use]
    pub fn granted_expiry(&self) -> Option<u32> {
        let StartLine::Response { code: 200..=299 } = self.start else {
            return None;
        };
        let method = self.cseq.split(u8::is_ascii_whitespace).rfind(|word| !word.is_empty());
        if method != Some(Method::Register.as_str().as_bytes()) {
            return None;
        }
        let seconds = |text: &[u8]| decimal(text).map(clamped);
        let general = self.expires.and_then(seconds);
        self.contacts()
            .filter_map(|contact| own_expiry(contact).map_or(general, seconds))
            .max()
            .filter(|n| *n > 0)
    }
}

fn own_expiry(contact: &[u8]) -> Option<&[u8]> {
    params(contact).find(|(name, _)| name.eq_ignore_ascii_case(b"expires"))?.1
}

fn clamped(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_softswitch_says_how_long_in_its_answer_to_a_register_only() {
        let granted = |start: &str, cseq: &str, lines: &str| {
            let text = format!(
                "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: c\r\n\
                 CSeq: {cseq}\r\n{lines}Content-Length: 0\r\n\r\n"
            );
            Message::parse(text.as_bytes()).unwrap().granted_expiry()
        };
        let ok = "SIP/2.0 200 OK";
        let two = "Contact: <sip:a@1>;expires=60, <sip:a@2;expires=9>;q=1;expires=120\r\n";
        for (start, cseq, lines, expected) in [
            (ok, "2 REGISTER", two, Some(120)),
            (ok, "2  REGISTER", "Expires: 300\r\nm: <sip:a@1>\r\n", Some(300)),
            (ok, "2 REGISTER", "Expires: 300\r\nm: <sip:a@1>;expires=30\r\n", Some(30)),
            (ok, "2 REGISTER", "", None),
            (ok, "2 REGISTER", "Contact: <sip:a@1>;expires=0\r\n", None),
            (ok, "2 REGISTER", "Contact: <sip:a@1>\r\n", None),
            (ok, "2 INVITE", two, None),
            ("SIP/2.0 403 No", "2 REGISTER", two, None),
        ] {
            assert_eq!(granted(start, cseq, lines), expected, "{start} {cseq} {lines}");
        }
    }
}
