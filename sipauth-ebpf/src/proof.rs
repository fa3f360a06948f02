//! Credentials that are checked here: the call of a source that has a live flow, which the agent let through not long ago, passes when it
//! answers a challenge of this program rightly. The agent need not see it.
//!
//! Nothing is refused: what is wrong, used before, or written in another way than nearly all clients write it goes to the agent, which says
//! why it is refused, counts failures, and knows retransmissions. So all that has to be right here is what right means, and that is no more
//! than the agent accepts: digest with MD5 and `qop=auth` (RFC 3261, 22.4; RFC 7616, 3.4), over the Request-URI or its server's, a nonce that is
//! genuine, fresh and unused, and the username and realm of the flow's own gateway.

mod digest;
mod fields;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use sipauth_common::{
    challenge::{NONCE_TEXT, Nonce, unhex},
    proof::{Caller, Fingerprint, USERNAME_ROOM},
    sip,
};

use crate::{
    challenge::{
        REQUEST_ROOM,
        headers::{Header, place},
        search::{Request, sipauth_find, sipauth_number},
    },
    maps::{CALLERS, CHALLENGE, CONFIG, DRAFT, FLOWS, SCRATCH},
    nonces,
};
use fields::Field;

/// The longest Request-URI, bytes: two blocks of the digest.
const URI: usize = 112;
/// The longest cnonce, bytes: four blocks.
const CNONCE: usize = 64;
/// The longest realm, bytes.
const REALM: usize = 128;

/// What a check needs; one for each CPU.
#[repr(C)]
pub(crate) struct Draft {
    /// Of this flow, copied: an entry that the map gives away meanwhile is no other's in the middle.
    caller: Caller,
    /// The last digest.
    sum: [u32; 4],
    /// Where in the request the fields' values stand, by [`Field`]; `end` is behind the value, 0 where there is none.
    at: [u32; fields::SLOTS],
    end: [u32; fields::SLOTS],
}

/// Whether the request whose `len` bytes are in the map proves the password of its flow's gateway. If so its nonce is used up.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sipauth_proof(len: u32) -> u32 {
    if sipauth_caller() == 0 || sipauth_sound(len) == 0 || fields::sipauth_fields() == 0 || sipauth_named() == 0 {
        return 0;
    }
    let nonce = sipauth_nonce();
    if nonce == 0 || sipauth_uri() == 0 || !digest::is_right() {
        return 0;
    }
    let fingerprint = sipauth_fingerprint(len);
    // SAFETY: the helper has no preconditions.
    u32::from(nonces::take(nonce as u32, unsafe { bpf_ktime_get_ns() }, fingerprint))
}

/// Finds what the agent said of the packet's source, while its flow is a call's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_caller() -> u32 {
    let (Some(draft), Some(parsed), Some(config)) = (DRAFT.get_ptr_mut(0), SCRATCH.get(0), CONFIG.get(0)) else {
        return 0;
    };
    let key = parsed.view.flow_key();
    // SAFETY: as in `maps`: the one is copied at once, of the other two words are read.
    let (Some(caller), Some(flow)) = (unsafe { (CALLERS.get(key), FLOWS.get(key)) }) else {
        return 0;
    };
    // SAFETY: `caller` is a value of the map, and the draft this CPU's own, which no one else uses while this packet is on its way.
    let (caller, now) = unsafe {
        let to = &raw mut (*draft).proof.caller;
        if bpf_probe_read_kernel(to.cast(), size_of::<Caller>() as u32, (&raw const *caller).cast()) != 0 {
            return 0;
        }
        (&*to, bpf_ktime_get_ns())
    };
    let known = caller.generation == config.generation && now < caller.until;
    // A registration's flow is for the agent to turn into a call's.
    u32::from(known && caller.gateway == flow.gateway && caller.gateway != 0 && flow.expires == u64::MAX)
}

/// Whether the message is one that the agent does not find fault with (`sip::Message::read`), as far as its headers' lines did not show that: it is
/// an INVITE, by its CSeq too, and has all of its body.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_sound(len: u32) -> u32 {
    let Some(request) = Request::get() else { return 0 };
    let (cseq, end) = place(Header::CSeq);
    let number = sipauth_number(cseq as u32 + 5);
    // Its method ends the line.
    let method = end.wrapping_sub(9);
    if number >> 32 != method as u64
        || request.word(method) != Some(sip::pack(b" INVITE\r", 0, 8))
        || request.word(0).is_none_or(|word| word << 8 != sip::pack(b"INVITE ", 0, 7) << 8)
    {
        return 0;
    }
    let (length, end) = place(Header::ContentLength);
    if end == 0 {
        return 1;
    }
    let (_, body) = place(Header::Blank);
    let number = sipauth_number(sipauth_find(length as u32, end as u32, b':'.into()) + 1);
    u32::from((number >> 32) as usize + 2 == end && number & 0xffff_ffff <= u64::from(len).wrapping_sub(body as u64))
}

/// Whether the credentials are those of the caller, the realm is ours, and the rest says what it must.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_named() -> u32 {
    let (Some(draft), Some(challenge), Some(request)) = (DRAFT.get(0), CHALLENGE.get(0), Request::get()) else {
        return 0;
    };
    let (username, realm) = (draft.proof.value(Field::Username), draft.proof.value(Field::Realm));
    let (name, room) = (&draft.proof.caller.username, challenge.before.bytes.len());
    let (begin, end) = (challenge.realm_at as usize, challenge.realm_at as usize + realm.len);
    if username.len > USERNAME_ROOM || username.len as u64 != name.len || begin == 0 || realm.len > REALM || end >= room {
        return 0;
    }
    let text = fields::Known(&raw const name.bytes as *const u8);
    let ours = fields::Known(&raw const challenge.before.bytes as *const u8);
    let right = fields::same::<{ USERNAME_ROOM / 8 }>(request, username, |offset| text.word(offset))
        && fields::same::<{ REALM / 8 }>(request, realm, |offset| ours.word(begin + offset))
        && ours.word(end) as u8 == b'"'
        && request.is(draft.proof.value(Field::Qop), sip::pack(b"auth", 0, 4), 4)
        && request.is(draft.proof.value(Field::Nc), sip::pack(b"00000001", 0, 8), 8)
        && (draft.proof.end[Field::Algorithm as usize] == 0 || request.is(draft.proof.value(Field::Algorithm), sip::pack(b"MD5", 0, 3), 3));
    u32::from(right)
}

/// The number of the nonce, with a bit above it, if it is genuine and fresh; else 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_nonce() -> u64 {
    let (Some(draft), Some(challenge), Some(parsed), Some(request)) = (DRAFT.get(0), CHALLENGE.get(0), SCRATCH.get(0), Request::get())
    else {
        return 0;
    };
    let text = draft.proof.value(Field::Nonce);
    if text.len != NONCE_TEXT || request.word(text.at).is_none_or(|word| word as u8 != b'k') {
        return 0;
    }
    let word = |n: usize| {
        let at = text.at + 1 + 16 * n;
        Some(u64::from(unhex(request.word(at)?)?) << 32 | u64::from(unhex(request.word(at + 8)?)?))
    };
    let (Some(serial), Some(run), Some(mac)) = (word(0), word(1), word(2)) else {
        return 0;
    };
    let nonce = Nonce { serial, run };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if nonce.mac(challenge.key, &parsed.view.source) != mac || run as u32 != challenge.run || !nonce.is_fresh(now, challenge.lifetime) {
        return 0;
    }
    1 << 32 | u64::from(nonce.number())
}

/// Whether the digest-uri is the Request-URI, or names its server alone (the agent's `is_server_of`, without what is rare).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_uri() -> u32 {
    let (Some(draft), Some(request)) = (DRAFT.get(0), Request::get()) else {
        return 0;
    };
    let digest = draft.proof.value(Field::Uri);
    let (_, line) = place(Header::Start);
    // Behind the method, and before ` SIP/2.0` with the line's end.
    let (begin, end) = (7, line.wrapping_sub(10));
    if line < 24 || end - begin > URI || digest.len > URI || request.word(end).is_none_or(|word| word as u8 != b' ') {
        return 0;
    }
    // In one piece to everybody.
    if sipauth_find(begin as u32, end as u32, b' '.into()) != 0 || sipauth_find(begin as u32, end as u32, b'\t'.into()) != 0 {
        return 0;
    }
    if digest.len == end - begin {
        return u32::from(fields::same::<{ URI / 8 }>(request, digest, |offset| {
            request.word(begin + offset).unwrap_or(0)
        }));
    }
    let at = sipauth_find(begin as u32, end as u32, b'@'.into()) as usize;
    // The last one, and the scheme is the same: `sip:`.
    if at == 0
        || digest.len <= 4
        || sipauth_find(at as u32 + 1, end as u32, b'@'.into()) != 0
        || request.word(begin).is_none_or(|word| word as u32 != SCHEME)
        || request.word(digest.at).is_none_or(|word| word as u32 != SCHEME)
    {
        return 0;
    }
    let server = fields::Value {
        at: digest.at + 4,
        len: digest.len - 4,
    };
    let behind = at + 1 + server.len;
    if behind > end {
        return 0;
    }
    // All of the host: behind it the URI ends, or its parameters or headers begin. None of these is in what the digest names.
    let next = request.word(behind).unwrap_or(0) as u8;
    let (from, to) = (server.at as u32, (server.at + server.len) as u32);
    let whole = (behind == end || next == b';' || next == b'?')
        && sipauth_find(from, to, b';'.into()) == 0
        && sipauth_find(from, to, b'?'.into()) == 0
        && sipauth_find(from, to, b'@'.into()) == 0;
    let same = whole && fields::same::<{ URI / 8 }>(request, server, |offset| request.word(at + 1 + offset).unwrap_or(0));
    u32::from(same)
}

const SCHEME: u32 = sip::pack(b"sip:", 0, 4) as u32;

/// The fingerprint of the request whose `len` bytes are in the map.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_fingerprint(len: u32) -> u64 {
    let (Some(challenge), Some(parsed), Some(request)) = (CHALLENGE.get(0), SCRATCH.get(0), Request::get()) else {
        return 0;
    };
    let len = len as usize;
    let mut fingerprint = Fingerprint::new(challenge.key, parsed.view.source_port);
    for i in 0..REQUEST_ROOM / 8 {
        let at = 8 * i;
        let word = request.word(at).unwrap_or(0);
        if at + 8 > len {
            let left = (len - at) as u32 & 7;
            let last = if left == 0 { 0 } else { word & u64::MAX >> (64 - 8 * left) };
            return fingerprint.finish(last, len);
        }
        fingerprint = fingerprint.word(word);
    }
    fingerprint.finish(0, len)
}
