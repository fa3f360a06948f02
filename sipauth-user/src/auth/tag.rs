//! The To tags of our own responses, recognisable without memory: an ACK that carries one is for us and ends here.
//!
//! `sa-`, 8 hex digits that all tags made with a key have in common (the *mark*, by which they are known), and 16 hex digits: HMAC-SHA-256
//! over `"sipauth to tag"`, Call-ID and From tag, cut to 64 bits, or, of the kernel program, another hash. It need only be beyond
//! guessing: who forges one gets his own ACK absorbed.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::digest::Hex;
use crate::sip::Message;

const LEN: usize = PREFIX.len() + MARK + 16;
/// As the kernel program knows it ([`sipauth_common::sip::OWN_TAG`]).
const PREFIX: &[u8] = b"sa-";
const MARK: usize = 8;

/// A MAC under the nonce key serves, since what it is over begins differently for each purpose.
pub(super) struct Tags {
    current: Key,
    previous: Option<Key>,
}

struct Key {
    mac: Hmac<Sha256>,
    mark: [u8; MARK],
}

impl Key {
    fn new(mac: &Hmac<Sha256>) -> Self {
        Self {
            mac: mac.clone(),
            mark: mark(mac),
        }
    }
}

/// The mark of the tags that are made with a key.
pub(super) fn mark(key: &Hmac<Sha256>) -> [u8; MARK] {
    let mut mac = key.clone();
    mac.update(b"sipauth mark of to tags");
    let mut mark = [0; MARK];
    mark.copy_from_slice(Hex::encode(&mac.finalize().into_bytes()[..MARK / 2]).as_bytes());
    mark
}

impl Tags {
    pub(super) fn new(current: &Hmac<Sha256>, previous: Option<&Hmac<Sha256>>) -> Self {
        Self {
            current: Key::new(current),
            previous: previous.map(Key::new),
        }
    }

    /// The tag for responses to `message`.
    pub(super) fn make(&self, message: &Message<'_>) -> [u8; LEN] {
        make(&self.current, message)
    }

    /// Whether `tag` is from us, or the kernel program.
    pub(super) fn is_ours(&self, tag: &[u8]) -> bool {
        let marked = |key: &Key| tag[PREFIX.len()..].starts_with(&key.mark);
        tag.len() == LEN && tag.starts_with(PREFIX) && (marked(&self.current) || self.previous.as_ref().is_some_and(marked))
    }
}

fn make(key: &Key, message: &Message<'_>) -> [u8; LEN] {
    let mut mac = key.mac.clone();
    mac.update(b"sipauth to tag");
    // No header value has a NUL, so that the two cannot run into each other.
    mac.update(message.call_id());
    mac.update(&[0]);
    mac.update(message.from_tag().unwrap_or_default());
    let mut tag = [0; LEN];
    let (prefix, rest) = tag.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let (mark, digits) = rest.split_at_mut(MARK);
    mark.copy_from_slice(&key.mark);
    digits.copy_from_slice(Hex::encode(&mac.finalize().into_bytes()[..8]).as_bytes());
    tag
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sipauth_common::sip::{AckTo, ack_to};

    use crate::auth::{
        Outcome, Settings,
        testing::{Bench, keys, reply, request},
    };

    #[test]
    fn the_kernel_program_knows_an_ack_to_our_answers_from_any_other() {
        let mut bench = Bench::new(Settings::default());
        let source = "192.0.2.200:5060";
        let challenge = reply(&bench.send(&request("INVITE", "", 1, ""), source));
        let tag = challenge
            .split("To: ")
            .nth(1)
            .and_then(|to| to.lines().next()?.split_once(";tag="))
            .unwrap()
            .1;
        let ours = request("ACK", &format!(";tag={tag}"), 1, "");
        assert_eq!(ack_to(&ours, keys().mark()), AckTo::Agent);
        assert_eq!(ack_to(&ours, *b"00000000"), AckTo::Unknown, "of an agent before");
        assert_eq!(bench.send(&ours, source).outcome(), Outcome::AckAbsorbed);
        assert_eq!(ack_to(&request("ACK", ";tag=as6f00ba", 1, ""), keys().mark()), AckTo::Softswitch);
    }
}
