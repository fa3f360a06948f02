//! A packet's way in, one line a step.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    helpers::generated::bpf_xdp_get_buff_len,
    programs::XdpContext,
};
use sipauth_common::{
    config::flags,
    decide::{Content, Decision, Lookup},
    reason::{Reason, Verdict},
};

use crate::{
    ack, challenge, judge,
    maps::{FLOWS, Maps},
    packet::Packet,
    parse::{self, Parsed},
    punt, verdict,
};

#[inline(always)]
pub(crate) fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    let len = if FRAGS {
        // SAFETY: the context is the one that the kernel called us with. The helper is there on every kernel that has `xdp.frags` (5.18).
        unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
    } else {
        end - data
    };
    let packet = Packet::new(data, end, len);
    let maps = Maps::new();
    let (parsed, decision) = match parse::frame(ctx.ctx, &packet) {
        Ok(parsed) => {
            // SAFETY: the context that the kernel called us with.
            let decision = unsafe { ack::judge(ctx.ctx, parsed, judge::decided()) };
            let decision = budget(parsed, decision);
            let decision = challenge::answer(ctx.ctx, &packet, parsed, decision);
            (Some(parsed), decision)
        }
        Err(reason) => (None, Decision::new(reason, 0)),
    };
    // An answer has moved the frame's end, and the verifier wants its limits read again.
    let packet = Packet::new(ctx.data(), ctx.data_end(), len);
    verdict::count(packet.len, &decision);
    if decision.reason as u32 == Reason::NotProtected as u32 {
        return XDP_PASS;
    }
    let monitor = match maps.config() {
        Some(config) => config.has(flags::MONITOR) && config.layout != 0,
        None => false,
    };
    match decision.reason.verdict() {
        Verdict::Pass => {
            let uses = matches!(decision.reason, Reason::Flow | Reason::Authenticated);
            if let (Some(parsed), true) = (parsed, uses) {
                refresh(parsed, &maps);
            }
            XDP_PASS
        }
        Verdict::Drop => {
            if parsed.is_some() {
                // SAFETY: the context that the kernel called us with.
                unsafe { verdict::sample(ctx.ctx, packet.len, &decision, monitor) };
            }
            if monitor { XDP_PASS } else { XDP_DROP }
        }
        Verdict::Absorb => {
            if decision.reason as u32 == Reason::Challenged as u32 {
                XDP_TX
            } else if monitor {
                XDP_PASS
            } else {
                XDP_DROP
            }
        }
        Verdict::Punt => {
            if monitor {
                return XDP_PASS;
            }
            match parsed {
                Some(parsed)
                    if punt::redirect(
                        &packet,
                        parsed,
                        maps.port_role(parsed.view.destination_port).punt_port(decision.lane),
                    ) =>
                {
                    XDP_PASS
                }
                _ => XDP_DROP,
            }
        }
    }
}

/// Takes the punt's token; without one the packet is dropped. Of TCP only what opens a connection costs one.
#[inline(always)]
fn budget(parsed: &Parsed, decision: Decision) -> Decision {
    let metered = match parsed.view.content {
        Content::Udp(_) => true,
        Content::Tcp { opens } => opens,
        _ => false,
    };
    match decision.reason.verdict() {
        Verdict::Punt if metered => match judge::unaffordable() {
            Some(reason) => Decision { reason, ..decision },
            None => decision,
        },
        _ => decision,
    }
}

/// Keeps a flow in use alive.
#[inline(always)]
fn refresh(parsed: &Parsed, maps: &Maps) {
    if let Some(flow) = FLOWS.get_ptr_mut(parsed.view.flow_key()) {
        // SAFETY: the map's element; one aligned store that any other writer may overtake, see `Flow`.
        unsafe { (*flow).seen = maps.now() };
    }
}
