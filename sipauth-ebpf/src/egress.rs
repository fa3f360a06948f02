//! A packet's way out: the agent's answers leave from the protected port, and those whom the softswitch calls become peers.
//!
//! What is read here was made by this host, so it is read with `bpf_skb_load_bytes` (the payload may lie outside the first
//! buffer), and what cannot be read is none of ours.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_MARK_MANGLED_0},
    programs::TcContext,
};
use sipauth_common::{
    address::Address,
    config::PortRole,
    decide::{Lookup, TCP, UDP},
    flow::{Flow, FlowKey},
    prefilter,
    sip::{self, Class, Window},
};

use crate::{
    maps::{FLOWS, Maps, PEERS},
    registration,
};

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: on to the next program.
const NEXT: i32 = -1;
/// A peer's time is written anew when it is older than this, ns.
const REFRESH_NS: u64 = 1_000_000_000;

#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> i32 {
    // Nothing depends on the result: a packet that cannot be read is not ours.
    let _ = look(ctx);
    NEXT
}

/// Where a packet goes, and what it carries.
struct Outgoing {
    to: Address,
    protocol: u8,
    transport: usize,
}

#[inline(always)]
fn look(ctx: &TcContext) -> Option<()> {
    let packet = network(ctx)?;
    let source_port = number(ctx, packet.transport)?;
    let maps = Maps::new();
    let role = maps.port_role(source_port);
    if role.is_punt() {
        return answer(ctx, &packet, source_port, role);
    }
    learn(ctx, &packet, role.is_protected(), &maps)
}

#[inline(always)]
fn number(ctx: &TcContext, at: usize) -> Option<u16> {
    ctx.load::<u16>(at).ok().map(u16::from_be)
}

#[inline(always)]
fn network(ctx: &TcContext) -> Option<Outgoing> {
    let mut at = 14;
    let mut kind = number(ctx, 12)?;
    for _ in 0..2 {
        if kind != 0x8100 && kind != 0x88a8 {
            break;
        }
        kind = number(ctx, at + 2)?;
        at += 4;
    }
    match kind {
        0x0800 => {
            let header = (ctx.load::<u8>(at).ok()? & 0xf) as usize * 4;
            let fragment = number(ctx, at + 6)?;
            let protocol = ctx.load::<u8>(at + 9).ok()?;
            let to = Address::from_v4(ctx.load::<u32>(at + 16).ok()?);
            ours(protocol, fragment & 0x1fff == 0).then_some(Outgoing {
                to,
                protocol,
                transport: at + header,
            })
        }
        0x86dd => {
            let to = Address([
                ctx.load::<u32>(at + 24).ok()?,
                ctx.load::<u32>(at + 28).ok()?,
                ctx.load::<u32>(at + 32).ok()?,
                ctx.load::<u32>(at + 36).ok()?,
            ]);
            let mut protocol = ctx.load::<u8>(at + 6).ok()?;
            let mut transport = at + 40;
            let mut first = true;
            if protocol == 44 {
                first = number(ctx, transport + 2)? >> 3 == 0;
                protocol = ctx.load::<u8>(transport).ok()?;
                transport += 8;
            }
            ours(protocol, first).then_some(Outgoing { to, protocol, transport })
        }
        _ => None,
    }
}

#[inline(always)]
const fn ours(protocol: u8, first_fragment: bool) -> bool {
    (protocol == UDP || protocol == TCP) && first_fragment
}

/// An answer of the agent: the gateway must see it come from where it sent to.
#[inline(always)]
fn answer(ctx: &TcContext, packet: &Outgoing, from: u16, role: PortRole) -> Option<()> {
    let (at, flags) = if packet.protocol == UDP {
        (6, u64::from(BPF_F_MARK_MANGLED_0))
    } else {
        (16, 0)
    };
    // The checksum first: the helper needs the old value, and leaves a checksum alone that the device is still to compute.
    ctx.l4_csum_replace(
        packet.transport + at,
        u64::from(from.to_be()),
        u64::from(role.protected.to_be()),
        flags | 2,
    )
    .ok()?;
    ctx.store(packet.transport, &role.protected.to_be(), 0).ok()
}

/// Remembers whom the softswitch calls. Its responses teach nothing: whoever gets one has been let in already, and should
/// not gain more by it.
#[inline(always)]
fn learn(ctx: &TcContext, packet: &Outgoing, from_protected: bool, maps: &Maps) -> Option<()> {
    if packet.protocol == UDP {
        if !from_protected {
            return None;
        }
        let len = usize::from(number(ctx, packet.transport + 4)?).checked_sub(8)?;
        // Too short for the window is too short for a request.
        let (low, high) = (
            ctx.load::<u64>(packet.transport + 8).ok()?,
            ctx.load::<u64>(packet.transport + 16).ok()?,
        );
        let window = Window {
            low: u64::from_le(low),
            high: u64::from_le(high),
        };
        match sip::classify(window, len) {
            Class::Request(_) => remember(&packet.to, maps),
            // `SIP/2.0 2`: the ninth byte tells the class of a status.
            Class::Response if window.high & 0xff == u64::from(b'2') => registration::look(ctx, &packet.to, packet.transport, len),
            _ => {}
        }
        return None;
    }
    let flags = number(ctx, packet.transport + 12)? & 0x12;
    if flags != 0x02 {
        return None;
    }
    let port = number(ctx, packet.transport + 2)?;
    if from_protected {
        let key = FlowKey {
            address: packet.to,
            port,
            protocol: TCP,
            reserved: 0,
        };
        let flow = Flow {
            expires: u64::MAX,
            seen: maps.now(),
            gateway: 0,
            registering: 0,
        };
        // A full map forgets its oldest; there is no other error that could be helped here.
        let _ = FLOWS.insert(key, flow, u64::from(BPF_ANY));
    }
    // Most softswitches open connections from any port, so the port they open them to must tell.
    if from_protected || maps.port_role(port).is_protected() {
        remember(&packet.to, maps);
    }
    None
}

#[inline(always)]
fn remember(to: &Address, maps: &Maps) {
    let now = maps.now();
    match PEERS.get_ptr_mut(to) {
        // SAFETY: the map's element; aligned words, and whichever CPU writes last writes a time that is right.
        Some(seen) => unsafe {
            if now.saturating_sub(*seen) > REFRESH_NS {
                *seen = now;
            }
        },
        None => {
            prefilter::set(maps, to);
            let _ = PEERS.insert(to, now, u64::from(BPF_ANY));
        }
    }
}
