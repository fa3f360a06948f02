//! What every program is measured by (`cargo xtask bench xdp`), for measurements alone, and no part of the agent.
//!
//! `BPF_PROG_TEST_RUN` gives the same frame again and again, as the program before left it. Each time the harness writes the frame's headers anew, with
//! the next source address in them, and jumps to the program under test, so that all programs start from the same and pay for the same.
#![allow(clippy::cast_possible_truncation, reason = "an IPv4 address is half of a word")]
#![no_std]
#![no_main]

#[path = "../runtime.rs"]
mod runtime;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    btf_maps::{Array, ProgramArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Words that are written anew: Ethernet, IPv4 or IPv6, and UDP headers, and the first bytes of the message.
const WORDS: usize = 8;
/// Offsets in a frame without VLAN tags, options and extension headers.
const TYPE: usize = 12;
const SOURCE_V4: usize = 26;
const PORT_V4: usize = 36;
const SOURCE_V6: usize = 22;
const PORT_V6: usize = 56;

/// What the harness makes of a frame. The bench has the same.
#[repr(C)]
pub struct Plan {
    /// The frame's head.
    head: [u64; WORDS],
    /// State of the random numbers, for random addresses. Zero: addresses are those of [`SOURCES`].
    seed: u64,
    /// Bits of a random address that are set.
    set: [u64; 2],
    /// Bits of a random address that are random.
    random: [u64; 2],
    /// Addresses in [`SOURCES`].
    count: u32,
    /// The next of them.
    next: u32,
}

/// Written by the bench.
#[btf_map]
static PLAN: Array<Plan, 1> = Array::new();
/// Addresses as two words whose bytes in memory are in network order, an IPv4 address in the first half of the first; written by the bench.
/// So large as the bench needs it.
#[btf_map]
static SOURCES: Array<[u64; 2], 1> = Array::new();
/// The program under test.
#[btf_map]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();

#[xdp]
fn harness_v4(ctx: XdpContext) -> u32 {
    harness(&ctx, |data, source| {
        // SAFETY: within the words that `harness` has checked.
        unsafe { ((data + SOURCE_V4) as *mut u32).write_unaligned(source[0] as u32) };
    })
}

#[xdp]
fn harness_v6(ctx: XdpContext) -> u32 {
    harness(&ctx, |data, source| {
        // SAFETY: within the words that `harness` has checked.
        unsafe {
            ((data + SOURCE_V6) as *mut u64).write_unaligned(source[0]);
            ((data + SOURCE_V6 + 8) as *mut u64).write_unaligned(source[1]);
        }
    })
}

#[inline(always)]
fn harness(ctx: &XdpContext, write: impl Fn(usize, [u64; 2])) -> u32 {
    let data = ctx.data();
    if data + WORDS * 8 > ctx.data_end() {
        return XDP_ABORTED;
    }
    let Some(plan) = PLAN.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the map's element, which nobody else has while this runs; the frame's first words, checked above.
    let source = unsafe {
        for word in 0..WORDS {
            ((data + word * 8) as *mut u64).write_unaligned((*plan).head[word]);
        }
        if (*plan).seed == 0 {
            let next = (*plan).next;
            (*plan).next = if next + 1 < (*plan).count { next + 1 } else { 0 };
            match SOURCES.get(next) {
                Some(source) => *source,
                None => return XDP_ABORTED,
            }
        } else {
            let first = xorshift((*plan).seed);
            let second = xorshift(first);
            (*plan).seed = second;
            [
                second & (*plan).random[0] | (*plan).set[0],
                first & (*plan).random[1] | (*plan).set[1],
            ]
        }
    };
    write(data, source);
    // SAFETY: the program array and the context that the kernel gave.
    unsafe { UNDER_TEST.tail_call(ctx, 0) };
    XDP_ABORTED
}

/// Marsaglia's 64-bit generator: never zero where it was not.
#[inline(always)]
const fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ state << 17
}

/// The floor: what the harness itself costs.
#[xdp]
fn empty(_: XdpContext) -> u32 {
    XDP_DROP
}

/// Reads as far as every program must that is to judge SIP by its source: to the addresses and the destination port.
#[xdp]
fn parse(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    let read = |at: usize| {
        // SAFETY: inside the packet, as each caller has checked.
        unsafe { (at as *const u16).read_unaligned() }
    };
    if data + PORT_V4 + 2 > end {
        return XDP_PASS;
    }
    let port = match u16::from_be(read(data + TYPE)) {
        0x0800 => {
            // Version 4 without options, no fragment, UDP.
            let (first, fragment, protocol) = (read(data + 14), read(data + 20), read(data + 22));
            if first & 0xff != 0x45 || fragment & 0xff3f != 0 || protocol >> 8 != 17 {
                return XDP_PASS;
            }
            read(data + PORT_V4)
        }
        0x86dd if data + PORT_V6 + 2 <= end => {
            let (first, next) = (read(data + 14), read(data + 20));
            if first & 0xf0 != 0x60 || next & 0xff != 17 {
                return XDP_PASS;
            }
            read(data + PORT_V6)
        }
        _ => return XDP_PASS,
    };
    if u16::from_be(port) == 5060 { XDP_DROP } else { XDP_PASS }
}
