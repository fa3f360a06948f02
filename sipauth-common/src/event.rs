//! What the kernel programs tell the agent of a single packet, through the ring buffer. The two kinds differ in size.

use crate::{address::Address, flow::FlowKey, pod};

/// Bytes of the transport payload that an event carries.
pub const EVENT_HEAD: usize = 128;

/// A sampled refusal. Fixed size; `head_len` says how much of `head` is filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Gateway id; 0 for none.
    pub gateway: u32,
    /// Bytes of the whole frame.
    pub frame_len: u32,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`crate::reason::Reason`] slot.
    pub reason: u8,
    /// 1 in monitor mode: the verdict was computed, the packet passed.
    pub monitored: u8,
    /// Filled bytes of `head`.
    pub head_len: u8,
    /// First bytes of the transport payload.
    pub head: [u8; EVENT_HEAD],
}
const _: () = assert!(size_of::<Event>() == 56 + EVENT_HEAD);

/// Bytes of a response that a [`Registered`] carries: all of it over Ethernet.
pub const ANSWER_BYTES: usize = 1_472;

/// A 2xx of the softswitch to a flow that is registering: it may say for how long.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registered {
    /// Where it went.
    pub flow: FlowKey,
    /// Filled bytes of `answer`.
    pub len: u32,
    /// The message, as far as there is room.
    pub answer: [u8; ANSWER_BYTES],
}
const _: () = assert!(size_of::<Registered>() == 24 + ANSWER_BYTES);
pod!(Event, Registered);
