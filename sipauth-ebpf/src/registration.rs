//! How long a registration is granted: only the softswitch's answer says so, and the agent sees it here.

use core::arch::asm;

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_skb_load_bytes, programs::TcContext};
use sipauth_common::{
    address::Address,
    decide::UDP,
    event::{ANSWER_BYTES, Registered},
    flow::FlowKey,
};

use crate::{
    maps::{EVENTS, FLOWS},
    verdict,
};

/// Shows a 2xx of `len` bytes to the agent, if its receiver is registering. Where there is no room for it the time that the client
/// asked for stands.
#[inline(always)]
pub(crate) fn look(ctx: &TcContext, to: &Address, transport: usize, len: usize) {
    let Ok(port) = ctx.load::<u16>(transport + 2) else { return };
    let key = FlowKey {
        address: *to,
        port: u16::from_be(port),
        protocol: UDP,
        reserved: 0,
    };
    let Some(flow) = FLOWS.get_ptr_mut(key) else { return };
    // SAFETY: the map's element; an aligned word, which the agent sets and this clears. Where both do at once, an answer is shown
    // once too often or once too seldom, which is as if it had not been seen.
    unsafe {
        if (*flow).registering == 0 {
            return;
        }
        (*flow).registering = 0;
    }
    let Some(mut entry) = EVENTS.reserve_untyped::<Registered>(0) else {
        verdict::told(|stats| &mut stats.lost);
        return;
    };
    verdict::told(|stats| &mut stats.sent);
    // The last byte's offset, so that the length below is seen to be 1 at least: the helper refuses 0, and kernel 6.1 forgets
    // that a register is not 0.
    let mut last = len.saturating_sub(1);
    // SAFETY: masks a register. In assembly, so that the compiler cannot prove it needless: the verifier needs the bound.
    unsafe { asm!("{last} &= 0xffff", last = inout(reg) last, options(nomem, nostack)) };
    if last >= ANSWER_BYTES {
        last = ANSWER_BYTES - 1;
    }
    let len = last + 1;
    let shown = entry.as_mut_ptr();
    // SAFETY: `shown` is the reserved entry; every field is written before it is submitted, but for the bytes after `len`, which
    // the agent does not look at. They were in this ring before.
    unsafe {
        (&raw mut (*shown).flow).write(key);
        let answer = (&raw mut (*shown).answer).cast();
        let copied = bpf_skb_load_bytes(ctx.as_ptr().cast(), transport as u32 + 8, answer, len as u32) == 0;
        (&raw mut (*shown).len).write(if copied { len as u32 } else { 0 });
    }
    entry.submit(0);
}
