//! Which ACKs are to the agent's own challenges and refusals. They carry its To tag and end here; what is in a flow and carries none
//! goes straight on to the softswitch.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_probe_read_kernel};
use sipauth_common::{
    decide::{Decision, acknowledged, may_be_own_ack},
    sip::{ACK_WINDOW, AckTo, OWN_TAG},
};

use crate::{
    maps::{CONFIG, MESSAGE, SCRATCH},
    packet::Packet,
    parse::Parsed,
};

/// Searches an ACK for the agent's tag (`sipauth_common::sip::ack_to`) and decides about it anew.
///
/// # Safety
/// `ctx` is the context that the kernel called the program with.
#[inline(always)]
pub(crate) unsafe fn judge(ctx: *mut xdp_md, parsed: &Parsed, decision: Decision) -> Decision {
    if !may_be_own_ack(&parsed.view, &decision) {
        return decision;
    }
    // SAFETY: the caller's promise.
    let to = match unsafe { sipauth_ack(ctx) } {
        SOFTSWITCH => AckTo::Softswitch,
        AGENT => AckTo::Agent,
        _ => AckTo::Unknown,
    };
    acknowledged(decision, to)
}

/// Copies the ACK in the packet to the map and searches it. A function that the verifier checks by itself: see [`crate::judge`].
///
/// # Safety
/// As [`judge`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn sipauth_ack(ctx: *mut xdp_md) -> u32 {
    // Volatile: otherwise the compiler passes the two numbers instead of the context.
    // SAFETY: the caller's promise.
    let (data, end) = unsafe {
        (
            (&raw const (*ctx).data).read_volatile(),
            (&raw const (*ctx).data_end).read_volatile(),
        )
    };
    let (Some(parsed), Some(message), Some(config)) = (SCRATCH.get(0), MESSAGE.get_ptr_mut(0), CONFIG.get(0)) else {
        return UNKNOWN;
    };
    let (at, there) = Packet::new(data as usize, end as usize, 0).span(parsed.payload, parsed.payload_len);
    if there < parsed.payload_len || there > ACK_WINDOW {
        return UNKNOWN;
    }
    let mut len = there;
    // SAFETY: masks a register. In assembly, so that the compiler cannot prove it needless: the verifier needs the bound.
    unsafe { asm!("{len} &= 2047", len = inout(reg) len, options(nomem, nostack)) };
    if len > ACK_WINDOW {
        return UNKNOWN;
    }
    // SAFETY: `message` is this CPU's own element, of `ACK_WINDOW` bytes and more; the helper takes any address to read from.
    let copied = unsafe { bpf_probe_read_kernel(message.cast(), len as u32, at as *const _) } == 0;
    if !copied {
        return UNKNOWN;
    }
    sipauth_ack_to(len as u32, u64::from_le_bytes(config.own_mark))
}

/// Answers of [`sipauth_ack_to`], which can return a number only.
const SOFTSWITCH: u32 = 0;
const AGENT: u32 = 1;
const UNKNOWN: u32 = 2;

/// Searches the first `len` bytes of the message. A function that the verifier checks by itself: its loop would otherwise be
/// walked on each of the ways that lead to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_ack_to(len: u32, mark: u64) -> u32 {
    const WANTED: u64 = u64::from_le_bytes(OWN_TAG);
    let Some(message) = MESSAGE.get_ptr_mut(0) else { return UNKNOWN };
    let message: *const u8 = message.cast();
    let mut at = 0;
    while at < ACK_WINDOW - OWN_TAG.len() + 1 {
        if at + OWN_TAG.len() > len as usize {
            return SOFTSWITCH;
        }
        let (word, next): (u64, u64);
        // SAFETY: 16 bytes at an offset of at most `ACK_WINDOW - 8`, inside the element, which is 8 bytes longer than the window. In
        // assembly, since the compiler would read an unaligned word byte by byte.
        unsafe {
            let from = message.add(at);
            asm!(
                "{word} = *(u64 *)({from} + 0)", "{next} = *(u64 *)({from} + 8)",
                word = out(reg) word, next = out(reg) next, from = in(reg) from, options(nostack, readonly),
            );
        }
        if u64::from_le(word) == WANTED {
            // What a longer message left behind the end of this one is not its own.
            let whole = at + OWN_TAG.len() + size_of::<u64>() <= len as usize;
            return if whole && u64::from_le(next) == mark { AGENT } else { UNKNOWN };
        }
        at += 1;
    }
    SOFTSWITCH
}
