//! The To tags of our own responses, recognisable without memory: an ACK that carries one is for us and ends here.
//!
//! `sa-` and 16 hex digits: HMAC-SHA-256 over `"sipauth to tag"`, Call-ID and From tag, cut to 64 bits. It need only be beyond
//! guessing: who forges one gets his own ACK absorbed.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::digest::Hex;
use crate::sip::Message;

const LEN: usize = 19;
/// As the kernel program knows it ([`sipauth_common::sip::OWN_TAG`]).
const PREFIX: &[u8] = b"sa-";

/// A MAC under the nonce key serves, since what it is over begins differently for each purpose.
pub(super) struct Tags {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl Tags {
    pub(super) fn new(current: &Hmac<Sha256>, previous: Option<&Hmac<Sha256>>) -> Self {
        Self {
            current: current.clone(),
            previous: previous.cloned(),
        }
    }

    /// The tag for responses to `message`.
    pub(super) fn make(&self, message: &Message<'_>) -> [u8; LEN] {
        make(&self.current, message)
    }

    /// Whether we gave `tag` to the request that `message` belongs to.
    pub(super) fn is_ours(&self, tag: &[u8], message: &Message<'_>) -> bool {
        tag.len() == LEN && (make(&self.current, message) == tag || self.previous.as_ref().is_some_and(|key| make(key, message) == tag))
    }
}

fn make(key: &Hmac<Sha256>, message: &Message<'_>) -> [u8; LEN] {
    let mut mac = key.clone();
    mac.update(b"sipauth to tag");
    // No header value has a NUL, so that the two cannot run into each other.
    mac.update(message.call_id());
    mac.update(&[0]);
    mac.update(message.from_tag().unwrap_or_default());
    let mut tag = *b"sa-0000000000000000";
    tag[PREFIX.len()..].copy_from_slice(Hex::encode(&mac.finalize().into_bytes()[..8]).as_bytes());
    tag
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sipauth_common::sip::may_be_own_ack;

    use crate::auth::{
        Outcome, Settings,
        testing::{Bench, reply, request},
    };

    #[test]
    fn the_kernel_program_hands_over_an_ack_to_our_answers_and_no_other() {
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
        assert!(may_be_own_ack(&ours));
        assert_eq!(bench.send(&ours, source).outcome(), Outcome::AckAbsorbed);
        assert!(!may_be_own_ack(&request("ACK", ";tag=as6f00ba", 1, "")));
    }
}
