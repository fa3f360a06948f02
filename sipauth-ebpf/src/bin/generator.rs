//! The other end of `cargo xtask bench pps` and `flood`: a program that makes packets, and one that refuses them at the least cost.
//!
//! Both are for measurements alone, and no part of the agent. The bench runs [`generate`] with `BPF_PROG_TEST_RUN` on live frames: what it
//! writes goes on the wire.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the target has 64 bits, and sums are folded before they are cut"
)]
#![no_std]
#![no_main]

#[path = "../runtime.rs"]
mod runtime;

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_redirect, generated::bpf_get_prandom_u32},
    macros::xdp,
    programs::XdpContext,
};

/// Offsets in a frame without VLAN tags and IPv4 options.
const IP_CHECKSUM: usize = 24;
const SOURCE: usize = 26;
const END: usize = 30;

/// Where the frames go; set by the bench.
#[unsafe(no_mangle)]
static INTERFACE: u32 = 0;
/// Sum of the IPv4 header's words without checksum and source. Frames are used again as they were left, so there is no old checksum to go by.
#[unsafe(no_mangle)]
static HEADER_SUM: u32 = 0;
/// Bits that all sources have.
#[unsafe(no_mangle)]
static SOURCE_SET: u32 = 0;
/// Bits that are random.
#[unsafe(no_mangle)]
static SOURCE_RANDOM: u32 = 0;

/// Another source for each frame, and off it goes.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    let data = ctx.data();
    if data + END > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: the helper has no preconditions.
    let random = unsafe { bpf_get_prandom_u32() };
    // SAFETY: of the program's own read-only data; volatile, since the bench sets it after compilation.
    let (set, random_bits, header, interface) = unsafe {
        (
            read_volatile(&raw const SOURCE_SET),
            read_volatile(&raw const SOURCE_RANDOM),
            read_volatile(&raw const HEADER_SUM),
            read_volatile(&raw const INTERFACE),
        )
    };
    let source = random & random_bits | set;
    let mut sum = header + (source >> 16) + (source & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    // SAFETY: inside the packet, as checked above.
    unsafe {
        ((data + IP_CHECKSUM) as *mut u16).write_unaligned((!sum as u16).to_be());
        ((data + SOURCE) as *mut u32).write_unaligned(source.to_be());
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_redirect(interface, 0) as u32 }
}

/// What no filter can undercut.
#[xdp]
fn refuse(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}
