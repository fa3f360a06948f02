//! What is kept of a decision: counters always, an event sometimes.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_probe_read_kernel};
use sipauth_common::{
    decide::{Decision, Lookup},
    event::{EVENT_HEAD, Event},
    reason::{Reason, Verdict},
    stats::EventStats,
};

use crate::{
    maps::{EVENT_STATS, EVENTS, GATEWAY_STATS, Maps, SCRATCH, STATS},
    packet::Packet,
};

/// Moves the reason's counter and, where there is one, the gateway's.
#[inline(always)]
pub(crate) fn count(len: usize, decision: &Decision) {
    let bytes = len as u64;
    if let Some(count) = STATS.get_ptr_mut(decision.reason.slot()) {
        // SAFETY: the value of this CPU; XDP programs do not interrupt each other on one CPU.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += bytes;
        }
    }
    if decision.gateway == 0 {
        return;
    }
    if let Some(stats) = GATEWAY_STATS.get_ptr_mut(decision.gateway) {
        let verdict = decision.reason.verdict() as usize;
        if verdict < Verdict::ALL.len() {
            // SAFETY: `verdict` is below the array's length; the element is the map's.
            unsafe {
                let count = &raw mut (*stats).verdict[verdict];
                add(&raw mut (*count).packets, 1);
                add(&raw mut (*count).bytes, bytes);
            }
        }
    }
}

/// Adds without losing what other CPUs add. The target has no `AtomicU64::fetch_add`.
///
/// # Safety
/// `to` points to an aligned word of a map.
#[inline(always)]
unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {value}", to = in(reg) to, value = in(reg) value) };
}

/// Counts what became of something that the agent was to be told.
#[inline(always)]
pub(crate) fn told(what: impl FnOnce(&mut EventStats) -> &mut u64) {
    if let Some(budget) = EVENT_STATS.get_ptr_mut(0) {
        // SAFETY: the value of this CPU, and words whose every pattern is valid.
        unsafe { *what(&mut (*budget).stats) += 1 };
    }
}

/// Whether the budget of events has one left; takes it.
#[inline(always)]
fn affordable(maps: &Maps) -> bool {
    match (maps.config(), EVENT_STATS.get_ptr_mut(0)) {
        // SAFETY: as in `told`; the egress program, which may have been interrupted, counts here but has no budget.
        (Some(config), Some(budget)) => unsafe { (*budget).take(config.heartbeat_ns, config.event_rate) },
        _ => false,
    }
}

/// Sends an event of a refusal of the packet in the map, as far as the budget of events goes.
///
/// # Safety
/// `ctx` is the context that the kernel called the program with.
#[inline(always)]
pub(crate) unsafe fn sample(ctx: *mut xdp_md, len: usize, decision: &Decision, monitored: bool) {
    // SAFETY: the caller's promise.
    unsafe { sipauth_sample(ctx, u32::from(decision.reason as u8) | u32::from(monitored) << 8, len as u32) };
}

/// [`sample`], as a function that the verifier checks by itself: see [`crate::judge`]. `what` is the reason and, above it, whether it is monitored;
/// `len` the length of the frame.
///
/// # Safety
/// As [`sample`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn sipauth_sample(ctx: *mut xdp_md, what: u32, len: u32) -> u32 {
    // Volatile: otherwise the compiler passes the two numbers instead of the context.
    // SAFETY: the caller's promise.
    let (data, end) = unsafe {
        (
            (&raw const (*ctx).data).read_volatile(),
            (&raw const (*ctx).data_end).read_volatile(),
        )
    };
    let Some(parsed) = SCRATCH.get(0) else { return 0 };
    let packet = Packet::new(data as usize, end as usize, len as usize);
    let maps = Maps::new();
    if !affordable(&maps) {
        told(|stats| &mut stats.over_budget);
        return 0;
    }
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        told(|stats| &mut stats.lost);
        return 0;
    };
    told(|stats| &mut stats.sent);
    let (at, there) = packet.span(parsed.payload, parsed.payload_len);
    let mut len = if there < EVENT_HEAD { there } else { EVENT_HEAD };
    // SAFETY: masks a register. In assembly, so that the compiler cannot prove it needless: the verifier needs the bound.
    unsafe { asm!("{len} &= 255", len = inout(reg) len, options(nomem, nostack)) };
    if len > EVENT_HEAD {
        len = EVENT_HEAD;
    }
    let event = entry.as_mut_ptr();
    // SAFETY: `event` is the reserved entry; every field is written before it is submitted.
    unsafe {
        (&raw mut (*event).time_ns).write(maps.now());
        (&raw mut (*event).source).write(parsed.view.source);
        (&raw mut (*event).destination).write(parsed.destination);
        (&raw mut (*event).gateway).write(parsed.decision.gateway);
        (&raw mut (*event).frame_len).write(packet.len as u32);
        (&raw mut (*event).source_port).write(parsed.view.source_port);
        (&raw mut (*event).destination_port).write(parsed.view.destination_port);
        (&raw mut (*event).protocol).write(parsed.view.content.protocol());
        (&raw mut (*event).reason).write((what & 0xff) as u8);
        (&raw mut (*event).monitored).write((what >> 8) as u8);
        let head = &raw mut (*event).head;
        head.cast::<[u64; EVENT_HEAD / 8]>().write([0; EVENT_HEAD / 8]);
        let copied = len > 0 && bpf_probe_read_kernel(head.cast(), len as u32, at as *const _) == 0;
        (&raw mut (*event).head_len).write(if copied { len as u8 } else { 0 });
    }
    entry.submit(0);
    0
}

const _: () = assert!(Reason::COUNT < 256);
