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
mod judge;
mod maps;
mod nonces;
mod packet;
mod parse;
mod proof;
mod punt;
mod quick;
mod rate;
mod registration;
mod runtime;
mod verdict;

use aya_ebpf::{
    bindings::xdp_md,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// For drivers that hand over one linear buffer, and kernels before 5.18.
#[xdp]
fn sipauth_ingress(ctx: XdpContext) -> u32 {
    match quick::run(&ctx) {
        Some(action) => action,
        // SAFETY: the context that the kernel called us with.
        None => unsafe { sipauth_long(ctx.ctx) },
    }
}

/// For multi-buffer frames (jumbo MTU; kernel 5.18): the same, and it knows that a frame can be longer than its first buffer.
#[xdp(frags)]
fn sipauth_ingress_frags(ctx: XdpContext) -> u32 {
    match quick::run(&ctx) {
        Some(action) => action,
        // SAFETY: as above.
        None => unsafe { sipauth_long_frags(ctx.ctx) },
    }
}

/// The long way of [`sipauth_ingress`]: a function that the verifier checks by itself, and that costs the short way nothing.
///
/// # Safety
/// `ctx` is the context that the kernel called the program with.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn sipauth_long(ctx: *mut xdp_md) -> u32 {
    ingress::run::<false>(&XdpContext::new(ctx))
}

/// Likewise of [`sipauth_ingress_frags`].
///
/// # Safety
/// As [`sipauth_long`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn sipauth_long_frags(ctx: *mut xdp_md) -> u32 {
    ingress::run::<true>(&XdpContext::new(ctx))
}

/// On the way out; lets every packet go on to the next program.
#[classifier]
fn sipauth_egress(ctx: TcContext) -> i32 {
    egress::run(&ctx)
}
