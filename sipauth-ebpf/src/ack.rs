//! Which ACKs of an authenticated source are for the agent: those to its own challenges, which the softswitch knows nothing of. They
//! carry the agent's To tag. All others go straight on, so that none is overtaken by the BYE behind it.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sipauth_common::{
    decide::{Decision, acknowledged},
    reason::Reason,
    sip::{ACK_WINDOW, OWN_TAG},
};

use crate::{maps::MESSAGE, packet::Packet, parse::Parsed};

/// Lets an ACK pass that is not to an answer of the agent's (`sipauth_common::sip::may_be_own_ack`).
#[inline(always)]
pub(crate) fn judge(packet: &Packet, parsed: &Parsed, decision: Decision) -> Decision {
    if decision.reason as u32 != Reason::FlowAck as u32 {
        return decision;
    }
    let (at, there) = packet.span(parsed.payload, parsed.payload_len);
    if there < parsed.payload_len || there > ACK_WINDOW {
        return decision;
    }
    let Some(message) = MESSAGE.get_ptr_mut(0) else {
        return decision;
    };
    let mut len = there;
    // SAFETY: masks a register. In assembly, so that the compiler cannot prove it needless: the verifier needs the bound.
    unsafe { asm!("{len} &= 2047", len = inout(reg) len, options(nomem, nostack)) };
    if len > ACK_WINDOW {
        return decision;
    }
    // SAFETY: `message` is this CPU's own element, of `ACK_WINDOW` bytes; the helper takes any address to read from.
    let copied = unsafe { bpf_probe_read_kernel(message.cast(), len as u32, at as *const _) } == 0;
    if !copied || sipauth_own_tag(len as u32) != 0 {
        return decision;
    }
    acknowledged(decision, false)
}

/// 1 if the tag is in the first `len` bytes of the message. A function that the verifier checks by itself: its loop would otherwise be
/// walked on each of the ways that lead to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_own_tag(len: u32) -> u32 {
    const WANTED: u64 = u64::from_le_bytes(OWN_TAG);
    let Some(message) = MESSAGE.get_ptr_mut(0) else { return 1 };
    let message: *const u8 = message.cast();
    let mut at = 0;
    while at < ACK_WINDOW - OWN_TAG.len() + 1 {
        if at + OWN_TAG.len() > len as usize {
            return 0;
        }
        let word: u64;
        // SAFETY: eight bytes at an offset of at most `ACK_WINDOW - 8`, inside the element. In assembly, since the compiler would read
        // an unaligned word byte by byte.
        unsafe {
            let from = message.add(at);
            asm!("{word} = *(u64 *)({from} + 0)", word = out(reg) word, from = in(reg) from, options(nostack, readonly));
        }
        if u64::from_le(word) == WANTED {
            return 1;
        }
        at += 1;
    }
    0
}
