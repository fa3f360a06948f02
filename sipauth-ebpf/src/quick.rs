//! The short way in, for most packets: plain headers, and a decision that the message does not matter for. Whoever floods gets no
//! further, nor does a call's media, nor what a gateway in mode `ip` sends.
//!
//! It changes nothing about what happens, only what it costs: what is not plain, or needs more, goes the long way ([`crate::ingress`])
//! from the start. So does a refusal that an event is to tell of. The decision is `decide`'s own first part; the model test runs
//! every packet through whichever way it takes.

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    programs::XdpContext,
};
use sipauth_common::{
    address::Address,
    config::flags,
    decide::{Content, Lookup, PacketView, TCP, UDP, decide_unread},
    reason::{Reason, Verdict},
    sip::Class,
};

use crate::{
    maps::{EVENT_STATS, Maps},
    parse::{self, ethernet},
    verdict,
};

/// Ethernet, IPv4 without options, TCP.
const PLAIN_V4: usize = 14 + 20 + 20;
/// Ethernet, IPv6, TCP.
const PLAIN_V6: usize = 14 + 40 + 20;

/// Loads from a packet, at a fixed offset that was checked. As in [`crate::packet`], in assembly.
macro_rules! load {
    ($type:literal, $data:expr, $offset:literal) => {{
        let value: u64;
        asm!(concat!("{value} = *(", $type, " *)({at} + ", $offset, ")"),
            value = out(reg) value, at = in(reg) $data, options(nostack, readonly, pure));
        value
    }};
}

/// The XDP code for the packet; `None` where it must go the long way.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> Option<u32> {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + PLAIN_V4 > end {
        return None;
    }
    // SAFETY: within the first `PLAIN_V4` bytes.
    let kind = unsafe { load!("u16", data, 12) } as u16;
    // Twice the same, so that the compiler knows which family it is.
    if kind == ethernet::IPV4.to_be() {
        plain_v4(data, end).and_then(|view| judge(&view, end - data))
    } else if kind == ethernet::IPV6.to_be() {
        plain_v6(data, end).and_then(|view| judge(&view, end - data))
    } else if kind != ethernet::VLAN.to_be() && kind != ethernet::VLAN_SERVICE.to_be() {
        judge(&parse::OTHER.view, end - data)
    } else {
        None
    }
}

/// Decides and counts; `None` where more than that is to do.
#[inline(always)]
fn judge(view: &PacketView, len: usize) -> Option<u32> {
    let maps = Maps::new();
    let decision = decide_unread(view, &maps)?;
    let action = match decision.reason.verdict() {
        // What is in use must be kept alive.
        Verdict::Pass if decision.reason as u32 != Reason::Flow as u32 => XDP_PASS,
        Verdict::Drop => unheard(&maps)?,
        _ => return None,
    };
    // Of a frame in several buffers, what stands in others behind the end of the IP packet is not counted.
    verdict::count(len, &decision);
    Some(action)
}

/// What becomes of a refused packet that no event tells of; `None` where one may.
#[inline(always)]
fn unheard(maps: &Maps) -> Option<u32> {
    let config = maps.config()?;
    let budget = EVENT_STATS.get_ptr_mut(0)?;
    // SAFETY: the value of this CPU, and words whose every pattern is valid.
    unsafe {
        if !(*budget).is_spent(config.heartbeat_ns) {
            return None;
        }
        (*budget).stats.over_budget += 1;
    }
    let monitor = config.has(flags::MONITOR) && config.layout != 0;
    Some(if monitor { XDP_PASS } else { XDP_DROP })
}

/// Reads a packet whose headers are where they mostly are, and break no rule. The class of a datagram is not its own. The caller has
/// seen that there are [`PLAIN_V4`] bytes.
#[inline(always)]
fn plain_v4(data: usize, end: usize) -> Option<PacketView> {
    // SAFETY: as above.
    let (first, total, fragment, protocol, source) = unsafe {
        (
            load!("u8", data, 14),
            load!("u16", data, 16),
            load!("u16", data, 20),
            load!("u8", data, 23),
            load!("u32", data, 26),
        )
    };
    let total = usize::from((total as u16).to_be());
    if first != 0x45 || fragment as u16 & 0x3fff_u16.to_be() != 0 || total < 20 || total > end - data - 14 {
        return None;
    }
    // SAFETY: as above.
    let transport = unsafe {
        Transport {
            ports: load!("u32", data, 34) as u32,
            length: load!("u16", data, 38) as u16,
            word: load!("u16", data, 46) as u16,
        }
    };
    view(Address::from_v4(source as u32), protocol as u8, &transport, total - 20)
}

/// Likewise of IPv6.
#[inline(always)]
fn plain_v6(data: usize, end: usize) -> Option<PacketView> {
    if data + PLAIN_V6 > end {
        return None;
    }
    // SAFETY: within the first `PLAIN_V6` bytes.
    let (first, length, protocol, source) = unsafe {
        (
            load!("u8", data, 14),
            load!("u16", data, 18),
            load!("u8", data, 20),
            Address([
                load!("u32", data, 22) as u32,
                load!("u32", data, 26) as u32,
                load!("u32", data, 30) as u32,
                load!("u32", data, 34) as u32,
            ]),
        )
    };
    let length = usize::from((length as u16).to_be());
    if first >> 4 != 6 || source.v4().is_some() || length > end - data - 54 {
        return None;
    }
    // SAFETY: as above.
    let transport = unsafe {
        Transport {
            ports: load!("u32", data, 54) as u32,
            length: load!("u16", data, 58) as u16,
            word: load!("u16", data, 66) as u16,
        }
    };
    view(source, protocol as u8, &transport, length)
}

/// What may be a UDP or TCP header, in network order.
struct Transport {
    /// Source and destination port.
    ports: u32,
    /// Of a UDP datagram.
    length: u16,
    /// Length and flags of a TCP header.
    word: u16,
}

/// `len` bytes of transport are in the packet.
#[inline(always)]
fn view(source: Address, protocol: u8, transport: &Transport, len: usize) -> Option<PacketView> {
    let content = match protocol {
        UDP => {
            let length = usize::from(u16::from_be(transport.length));
            if length < 8 || length > len {
                return None;
            }
            Content::Udp(Class::KeepAlive)
        }
        TCP => {
            let word = u16::from_be(transport.word);
            let header = usize::from(word >> 12) * 4;
            if header < 20 || header > len {
                return None;
            }
            Content::Tcp {
                opens: word & 0x12 == 0x02,
            }
        }
        _ => return None,
    };
    let ports = u32::from_be(transport.ports);
    Some(PacketView {
        source,
        source_port: (ports >> 16) as u16,
        destination_port: (ports & 0xffff) as u16,
        content,
    })
}
