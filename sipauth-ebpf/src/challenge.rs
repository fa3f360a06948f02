//! Challenges that are made here: a request without credentials goes back as a 401 (or 407) on the interface that it came from. The answer
//! to it is the agent's, or is found right here ([`crate::proof`]).
//!
//! Nothing is remembered of a challenge but that there was one: the nonce is a cookie (`sipauth_common::challenge`). What is not
//! plain goes to the agent: headers that are folded, repeated, missing or long, fragments, a source with rules of its own. So does
//! a request that comes again: perhaps the answer did not get through from here (a driver that cannot send from XDP, a way back over
//! another interface), and the agent's takes the usual way.

mod compose;
mod frame;
pub(crate) mod headers;
pub(crate) mod search;
pub(crate) mod text;

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_probe_read_kernel};
use sipauth_common::{
    challenge::seed,
    decide::{Decision, challenged, may_be_challenged, may_be_proven, proven},
};

use crate::{
    maps::{ANSWERED, CHALLENGE, DRAFT, MESSAGE},
    packet::Packet,
    parse::Parsed,
    proof,
};

/// Bytes of a request that are looked at; longer ones go to the agent.
pub(crate) const REQUEST_ROOM: usize = 2_048;
/// Transactions that are known again, a power of two.
pub(crate) const ANSWERED_SLOTS: u32 = 16_384;

/// What a challenge is made of and in, and a proof checked with; one for each CPU.
#[repr(C)]
pub(crate) struct Draft {
    /// The response. Each piece is at most as long as half of it and begins in the first half.
    response: [u64; 2 * REQUEST_ROOM / 8],
    /// Where in the request the headers stand, by [`headers::Header`]; `end` is behind the line's end, 0 where there is none.
    at: [u32; headers::SLOTS],
    end: [u32; headers::SLOTS],
    pub(crate) proof: proof::Draft,
}

/// Answers a request that may be answered here, or finds its credentials right, and decides about it anew; else the decision stays.
#[inline(always)]
pub(crate) fn answer(ctx: *mut xdp_md, packet: &Packet, parsed: &Parsed, decision: Decision) -> Decision {
    if !may_be_challenged(&parsed.view, &decision) {
        return decision;
    }
    let (at, there) = packet.span(parsed.payload, parsed.payload_len);
    // Not what is in several buffers or fragments.
    if there < parsed.payload_len || there > REQUEST_ROOM || !packet.is_whole() {
        return decision;
    }
    let Some(message) = MESSAGE.get_ptr_mut(0) else { return decision };
    let mut len = there;
    // SAFETY: masks a register. In assembly, so that the compiler cannot prove it needless: the verifier needs the bound.
    unsafe { asm!("{len} &= 4095", len = inout(reg) len, options(nomem, nostack)) };
    if len > REQUEST_ROOM {
        return decision;
    }
    // SAFETY: `message` is this CPU's own element, of `REQUEST_ROOM` bytes and more; the helper takes any address to read from.
    if unsafe { bpf_probe_read_kernel(message.cast(), len as u32, at as *const _) } != 0 {
        return decision;
    }
    match headers::sipauth_headers(len as u32, u32::from(may_be_proven(&parsed.view, &decision))) {
        headers::PLAIN => {
            let length = sipauth_draft();
            // SAFETY: the context is the one that the kernel called the program with.
            if length != 0 && unsafe { frame::sipauth_send_back(ctx, length) } != 0 {
                return challenged(decision);
            }
        }
        headers::WITH_CREDENTIALS if proof::sipauth_proof(len as u32) != 0 => return proven(decision),
        _ => {}
    }
    decision
}

/// Writes the answer to the request in the map, whose headers were found; its length, or 0 where it is for the agent. A function that the
/// verifier checks by itself, as [`crate::parse::sipauth_read`]; so is the next step, since their stacks together would be too large.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_draft() -> u32 {
    let Some(challenge) = CHALLENGE.get(0) else { return 0 };
    // The To tag follows the call, so that a request that is sent again gets the same (RFC 3261, 8.2.7).
    let call = headers::hash(headers::Header::CallId, seed(challenge.key));
    let transaction = headers::hash(headers::Header::CSeq, call);
    let Some(slot) = ANSWERED.get_ptr_mut(transaction as u32 & (ANSWERED_SLOTS - 1)) else {
        return 0;
    };
    let sign = (transaction >> 32) as u32 | 1;
    // SAFETY: an aligned word of the map. Where two CPUs have the same at once, both may answer, or both leave it to the agent.
    unsafe {
        if *slot == sign {
            *slot = 0;
            return 0;
        }
        *slot = sign;
    }
    compose::sipauth_compose(call)
}

/// The draft's response as bytes.
#[inline(always)]
pub(crate) fn response() -> Option<*mut u8> {
    // SAFETY: the map's element; no reference is made.
    DRAFT.get_ptr_mut(0).map(|draft| unsafe { (&raw mut (*draft).response).cast() })
}
