use proptest::{collection::vec, prelude::*};

use crate::auth::{
    Action, Settings,
    testing::{Bench, Client},
};
use crate::sip::Message;

const SOURCE: &str = "192.0.2.200:5060";

/// The lines that the digest does not cover are those whose change may leave credentials right.
fn is_covered(before: &[u8], at: usize) -> bool {
    let start = before[..at].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    start == 0 || before[start..].starts_with(b"Authorization: ")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic_or_release(datagram in vec(any::<u8>(), 0..300)) {
        let _ = Message::parse(&datagram);
        let action = Bench::new(Settings::default()).send(&datagram, SOURCE);
        let released = matches!(action, Action::Release { .. });
        prop_assert!(!released);
    }

    #[test]
    fn nor_do_the_pieces_of_sip(pieces in vec(prop::sample::select(vec![
        "INVITE", " ", "sip:a@b", " SIP/2.0\r\n", "\r\n", "Via: ", "f:", "To", ":", ";tag=", "\"", "\\", "<", ">", ",", "Call-ID: x\r\n",
        "CSeq: 1 INVITE\r\n", "Authorization: Digest ", "username=", "realm=\"sip.example.com\"", "nonce=\"", "=", "response=", "l: 3\r\n", "\n ",
    ]), 0..60)) {
        let text = pieces.concat();
        let _ = Message::parse(text.as_bytes());
        let action = Bench::new(Settings::default()).send(text.as_bytes(), SOURCE);
        let released = matches!(action, Action::Release { .. });
        prop_assert!(!released);
    }

    #[test]
    fn a_changed_byte_in_what_the_digest_covers_is_never_released(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bench = Bench::new(Settings::default());
        let nonce = bench.nonce(SOURCE);
        let good = Client::default().invite(&nonce, 2);
        let at = at.index(good.len());
        let mut changed = good.clone();
        changed[at] = byte;
        let action = bench.send(&changed, SOURCE);
        // Case of names and scheme, white space, and the hex digits of the answer in upper case mean the same.
        let same = changed.eq_ignore_ascii_case(&good) || byte.is_ascii_whitespace() || good[at].is_ascii_whitespace();
        if is_covered(&good, at) && !same && matches!(action, Action::Release { .. }) {
            // Only where the change made another field of one that is optional.
            let line = String::from_utf8_lossy(&changed);
            prop_assert!(!line.contains("algorithm=MD5"), "{}", line);
        }
        let released = matches!(bench.send(&good, SOURCE), Action::Release { .. });
        prop_assert!(released || matches!(action, Action::Release { .. }), "the unchanged request is the control");
    }

    #[test]
    fn a_reply_never_has_more_lines_than_were_written(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut changed = crate::auth::testing::request("INVITE", "", 1, "");
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Action::Reply { response, .. } = Bench::new(Settings::default()).send(&changed, SOURCE) {
            let text = String::from_utf8_lossy(&response);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            prop_assert!(body.is_empty() && head.lines().count() <= 10);
            prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
            prop_assert!(response.len() < changed.len() + 300);
        }
    }
}
