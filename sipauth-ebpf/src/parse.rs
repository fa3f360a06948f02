//! A frame's headers, one file each; the result is the [`PacketView`] that `decide` judges.
//!
//! The reading is a function that the verifier checks by itself ([`sipauth_read`]), with its result in a map: inlined, each of
//! the ways through the headers would be multiplied with each of the ways through the decision (over a million instructions
//! on kernel 6.18). Its only arguments are the context and a number, which global functions can have since 5.6.

pub(crate) mod ethernet;
mod ipv4;
mod ipv6;
mod transport;

use aya_ebpf::bindings::xdp_md;
use sipauth_common::{
    address::Address,
    decide::{Content, Decision, PacketView},
    reason::Reason,
};

use crate::{maps::SCRATCH, packet::Packet};

/// What was read of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Parsed {
    /// What the decision needs.
    pub(crate) view: PacketView,
    /// Destination address.
    pub(crate) destination: Address,
    /// Offset of the transport header; 0 where there is none to speak of.
    pub(crate) transport: usize,
    /// Offset of the transport's payload.
    pub(crate) payload: usize,
    /// Bytes of payload in this frame.
    pub(crate) payload_len: usize,
    /// What [`crate::judge`] decided, before the message was searched.
    pub(crate) decision: Decision,
}

/// The network layer: addresses, and what comes next.
pub(crate) struct Network {
    source: Address,
    destination: Address,
    next: Next,
}

/// What follows the IP header.
enum Next {
    /// A transport header that is ours to read.
    Transport {
        protocol: u8,
        offset: usize,
        /// Bytes from `offset` to the end of the IP packet.
        len: usize,
        /// The first of several fragments.
        first_fragment: bool,
    },
    /// A fragment other than the first.
    LaterFragment,
    /// Nothing of ours.
    Other,
}

/// What passes untouched.
pub(crate) const OTHER: Parsed = Parsed {
    view: PacketView {
        source: Address([0; 4]),
        source_port: 0,
        destination_port: 0,
        content: Content::Other,
    },
    destination: Address([0; 4]),
    transport: 0,
    payload: 0,
    payload_len: 0,
    decision: Decision::new(Reason::NotProtected, 0),
};

/// [`sipauth_read`]'s answer where the result is in the map; any other is the slot of a [`Reason`].
const READ: u32 = u32::MAX;

/// Reads a frame of `len` bytes into the map; a broken header's reason is the answer.
///
/// # Safety
/// `ctx` is the context that the kernel called the program with.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) unsafe extern "C" fn sipauth_read(ctx: *mut xdp_md, len: u32) -> u32 {
    // Read through the raw pointer, volatile: otherwise the compiler passes the two numbers instead of the context.
    // SAFETY: the caller's promise.
    let (data, end) = unsafe {
        (
            (&raw const (*ctx).data).read_volatile(),
            (&raw const (*ctx).data_end).read_volatile(),
        )
    };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return Reason::Truncated.slot();
    };
    // Field by field into the map: a second one on the stack would be more than there is room for, and has to be copied.
    // SAFETY: this CPU's own element, which no one else uses while this packet is on its way.
    let parsed = unsafe {
        scratch.write(OTHER);
        &mut *scratch
    };
    match read(&Packet::new(data as usize, end as usize, len as usize), parsed) {
        Ok(()) => READ,
        Err(reason) => reason.slot(),
    }
}

/// Reads a frame from its Ethernet header on. The error is a header so broken that not even the ports are known.
#[inline(always)]
pub(crate) fn frame(ctx: *mut xdp_md, packet: &Packet) -> Result<&'static Parsed, Reason> {
    // SAFETY: the caller's context.
    let slot = unsafe { sipauth_read(ctx, packet.len as u32) };
    match SCRATCH.get(0) {
        Some(parsed) if slot == READ => Ok(parsed),
        _ => Err(broken(slot)),
    }
}

/// The reason of a slot that [`sipauth_read`] gave.
#[inline(always)]
const fn broken(slot: u32) -> Reason {
    if slot == Reason::BadIpHeader.slot() {
        Reason::BadIpHeader
    } else if slot == Reason::BadExtension.slot() {
        Reason::BadExtension
    } else {
        Reason::Truncated
    }
}

#[inline(always)]
fn read(packet: &Packet, parsed: &mut Parsed) -> Result<(), Reason> {
    match ethernet::read(packet) {
        Some((ethernet::IPV4, offset)) => upper(packet, parsed, ipv4::read(packet, offset)?),
        Some((ethernet::IPV6, offset)) => upper(packet, parsed, ipv6::read(packet, offset)?),
        Some((ethernet::VLAN | ethernet::VLAN_SERVICE, _)) => Err(Reason::BadExtension),
        _ => Ok(()),
    }
}

#[inline(always)]
fn upper(packet: &Packet, parsed: &mut Parsed, network: Network) -> Result<(), Reason> {
    let Network { source, destination, next } = network;
    parsed.view.source = source;
    parsed.destination = destination;
    match next {
        Next::Other => Ok(()),
        Next::LaterFragment => {
            parsed.view.content = Content::LaterFragment;
            Ok(())
        }
        Next::Transport {
            protocol,
            offset,
            len,
            first_fragment,
        } => transport::read(packet, parsed, protocol, offset, len, first_fragment),
    }
}
