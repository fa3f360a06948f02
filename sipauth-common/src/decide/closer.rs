//! What a closer look at a message makes of a decision. Apart from [`super::decide`], since only few messages are worth it, and what is not plain
//! in them goes to the agent.

use super::{Content, Decision, PacketView};
use crate::{
    config::Lane,
    reason::{Reason, Verdict},
    sip::{AckTo, Class, Method},
};

/// Whether a message is worth searching for whose answer it is to ([`acknowledged`]): an ACK that would go to the agent.
#[inline(always)]
#[must_use]
pub fn may_be_own_ack(packet: &PacketView, decision: &Decision) -> bool {
    matches!(packet.content, Content::Udp(Class::Request(Method::Ack))) && decision.reason.verdict() as u32 == Verdict::Punt as u32
}

/// What becomes of an ACK that [`may_be_own_ack`] once it was searched ([`crate::sip::ack_to`]). One to an answer of the agent's own ends
/// here: nobody waits for it, and without this it would be a third of what a call costs the agent. One from a flow to an answer of
/// the softswitch goes straight on, so that the BYE behind it does not overtake it. Apart from [`decide`], since only these few
/// messages are worth the search.
#[inline(always)]
#[must_use]
pub fn acknowledged(decision: Decision, to: AckTo) -> Decision {
    let reason = match to {
        AckTo::Agent => Reason::OwnAck,
        AckTo::Softswitch if decision.reason as u32 == Reason::FlowAck as u32 => Reason::Flow,
        AckTo::Softswitch | AckTo::Unknown => return decision,
    };
    Decision { reason, ..decision }
}

/// Whether a request is worth a search for credentials: without any, the kernel program challenges it by itself ([`challenged`]).
#[inline(always)]
#[must_use]
pub fn may_be_challenged(packet: &PacketView, decision: &Decision) -> bool {
    decision.general && decision.reason as u32 == Reason::Challenge as u32 && matches!(packet.content, Content::Udp(_))
}

/// What becomes of a request that the kernel program has challenged. Apart from [`decide`], since it depends on the whole message, and
/// what is not plain in it goes to the agent.
#[inline(always)]
#[must_use]
pub fn challenged(decision: Decision) -> Decision {
    Decision {
        reason: Reason::Challenged,
        ..decision
    }
}

/// Whether credentials of a request are worth a look: an INVITE from a live flow, whose caller the agent has told the kernel program of
/// ([`crate::proof::Caller`]). Of others it does not know what would be right.
#[inline(always)]
#[must_use]
pub fn may_be_proven(packet: &PacketView, decision: &Decision) -> bool {
    may_be_challenged(packet, decision)
        && decision.lane as usize == Lane::Trusted as usize
        && matches!(packet.content, Content::Udp(Class::Request(Method::Invite)))
}

/// What becomes of a request whose credentials the kernel program has found right.
#[inline(always)]
#[must_use]
pub fn proven(decision: Decision) -> Decision {
    Decision {
        reason: Reason::Authenticated,
        ..decision
    }
}
