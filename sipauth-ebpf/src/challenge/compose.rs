//! The text of a challenge: what `sip::Response` of the agent writes, from the same request.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use sipauth_common::{
    challenge::{Challenge, Nonce},
    config::Lane,
    sip::{self, OWN_TAG},
};

use super::{
    headers::{Header, place},
    search::{Request, sipauth_seek},
    text::{MAX, Text},
};
use crate::{
    maps::{CHALLENGE, CONFIG, SCRATCH},
    nonces,
};

/// Writes the challenge to the request in the map; `call` makes its To tag. The length, or 0 where it is for the agent.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sipauth_compose(call: u64) -> u32 {
    match (CHALLENGE.get(0), Text::new()) {
        (Some(challenge), Some(text)) => match write(challenge, text, call) {
            Some(text) => text.len as u32,
            None => 0,
        },
        _ => 0,
    }
}

#[inline(always)]
fn write(challenge: &Challenge, mut text: Text, call: u64) -> Option<Text> {
    text.copy((&raw const challenge.status.bytes) as usize, challenge.status.len as usize)?;
    via(&mut text)?;
    let (from, end) = place(Header::From);
    text.request(from, end)?;
    to(&mut text, call)?;
    let (id, end) = place(Header::CallId);
    text.request(id, end)?;
    let (cseq, end) = place(Header::CSeq);
    text.request(cseq, end)?;
    text.copy((&raw const challenge.before.bytes) as usize, challenge.before.len as usize)?;
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let strangers = matches!(SCRATCH.get(0)?.decision.lane, Lane::Untrusted);
    let nonce = Nonce::new(now, nonces::next(strangers)?, challenge.boot_s, challenge.run);
    text.word(u64::from(b'k'), 1);
    text.hex(nonce.serial);
    text.hex(nonce.run);
    text.hex(nonce.mac(challenge.key, &SCRATCH.get(0)?.view.source));
    text.copy((&raw const challenge.behind.bytes) as usize, challenge.behind.len as usize)?;
    // For the checksum, which takes whole words.
    text.word(0, 0);
    (text.len <= MAX).then_some(text)
}

/// The top value gets `received` and `rport` (RFC 3261, 18.2.1; RFC 3581, 4), as the agent's has.
#[inline(always)]
fn via(text: &mut Text) -> Option<()> {
    let (at, top) = (place(Header::Via).0, place(Header::TopVia).1);
    let all = place(Header::Via).1;
    // Several values, or one that a client wrote there.
    if top < 2
        || sipauth_seek(at as u32, top as u32, u64::from(b','), 0xff) != 0
        || sipauth_seek(at as u32, top as u32, sip::pack(b";receive", 0, 8), u64::MAX) != 0
    {
        return None;
    }
    let view = &SCRATCH.get(0)?.view;
    let rport = sipauth_seek(at as u32, top as u32, sip::pack(b";rport", 0, 6), 0xffff_ffff_ffff) as usize;
    let split = if rport == 0 { top - 2 } else { rport + 6 };
    text.request(at, split)?;
    if rport != 0 {
        if !matches!(Request::get()?.word(split)? as u8, b';' | b'\r') {
            return None;
        }
        text.word(u64::from(b'='), 1);
        text.decimal(u32::from(view.source_port));
    }
    text.word(sip::pack(b";receive", 0, 8), 8);
    text.word(sip::pack(b"d=", 0, 2), 2);
    text.address(&view.source);
    text.request(split, all)
}

/// With our tag; what has one already belongs to a dialog, which is not ours to judge.
#[inline(always)]
fn to(text: &mut Text, call: u64) -> Option<()> {
    let (at, end) = place(Header::To);
    if end < 2 || sipauth_seek(at as u32, end as u32, sip::pack(b";tag=", 0, 5), 0xff_ffff_ffff) != 0 {
        return None;
    }
    text.request(at, end - 2)?;
    text.word(u64::from_le_bytes(OWN_TAG), 8);
    text.word(u64::from_le_bytes(CONFIG.get(0)?.own_mark), 8);
    text.hex(call);
    text.word(sip::pack(b"\r\n", 0, 2), 2);
    Some(())
}
