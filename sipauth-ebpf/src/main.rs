//! The programs of sipauth: XDP on the way in, TC on the way out.
//!
//! On the way in a packet is read ([`parse`]), judged (`sipauth_common::decide`), counted, and passed, dropped or punted
//! ([`ingress`]). On the way out the agent's answers get the protected port back, and peers are learned ([`egress`]).
#![allow(
    clippy::cast_possible_truncation,
    reason = "the target has 64 bits, and bytes are cut out of words"
)]
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod ack;
mod challenge;
mod egress;
mod ingress;
mod maps;
mod packet;
mod parse;
mod punt;
mod rate;
mod registration;
mod verdict;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// For drivers that hand over one linear buffer, and kernels before 5.18.
#[xdp]
fn sipauth_ingress(ctx: XdpContext) -> u32 {
    ingress::run::<false>(&ctx)
}

/// For multi-buffer frames (jumbo MTU; kernel 5.18): the same, and it knows that a frame can be longer than its first buffer.
#[xdp(frags)]
fn sipauth_ingress_frags(ctx: XdpContext) -> u32 {
    ingress::run::<true>(&ctx)
}

/// On the way out; lets every packet go on to the next program.
#[classifier]
fn sipauth_egress(ctx: TcContext) -> i32 {
    egress::run(&ctx)
}

/// A panic that can be reached would make this loop reachable, and the verifier refuse the program.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_probe_read_kernel is only for programs under the GPL; the source is offered under MIT or Apache-2.0 as well.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
