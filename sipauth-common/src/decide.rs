//! The whole decision: what happens to a packet, and why.
//!
//! [`decide`] is the only place to read. The kernel program, `sipauth explain` and the tests call it with their own [`Lookup`].
//! It has no effects: counting, sampling, budgets ([`crate::stats::Bucket`]) and monitor mode are the caller's.

use crate::{
    address::Address,
    config::{Config, DefaultPolicy, Lane, PortRole, flags},
    flow::{Ban, Flow, FlowKey},
    policy::{FLAG_GENERAL, FLAG_MORE_PORTS, Policy, PortKey, modes},
    prefilter::Possible,
    reason::Reason,
    sip::{Class, Method},
};

mod closer;
mod sifted;

pub use closer::{acknowledged, challenged, may_be_challenged, may_be_own_ack, may_be_proven, proven};
pub use sifted::Sifted;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// What of a packet matters, once its headers were read.
///
/// Aligned, since the kernel program has it on its stack: where two words are known the compiler writes both at once, and the
/// verifier refuses that across a boundary.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketView {
    /// Source address.
    pub source: Address,
    /// Source port, host order; 0 in a later fragment.
    pub source_port: u16,
    /// Destination port, host order; 0 in a later fragment.
    pub destination_port: u16,
    /// What it carries.
    pub content: Content,
}

impl PacketView {
    /// The flow that it belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn flow_key(&self) -> FlowKey {
        FlowKey {
            address: self.source,
            port: self.source_port,
            protocol: self.content.protocol(),
            reserved: 0,
        }
    }
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Neither UDP nor TCP, or not IP.
    Other,
    /// A UDP datagram, or its first fragment.
    Udp(Class),
    /// A UDP or TCP header that breaks a rule; drops only what is for a protected port.
    Malformed(Reason, u8),
    /// A TCP segment. Its bytes say nothing about where a message begins, so the source alone decides.
    Tcp {
        /// SYN without ACK: a new connection.
        opens: bool,
    },
    /// A fragment other than the first of a UDP or TCP packet: no ports to look at.
    LaterFragment,
}

impl Content {
    /// IP protocol number for flows; 0 where there is none.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Udp(_) => UDP,
            Self::Tcp { .. } => TCP,
            Self::Malformed(_, protocol) => protocol,
            Self::Other | Self::LaterFragment => 0,
        }
    }

    /// What a datagram is; `None` for anything else.
    #[inline(always)]
    const fn class(self) -> Option<Class> {
        match self {
            Self::Udp(class) => Some(class),
            _ => None,
        }
    }
}

/// The maps, as the decision reads them.
pub trait Lookup {
    /// The settings; `None` only where the map cannot be read.
    fn config(&self) -> Option<Config>;
    /// What a local port (host order) is to us.
    fn port_role(&self, port: u16) -> PortRole;
    /// What the prefilter leaves possible of an address. What it rules out of hosts, bans, peers and prefixes is not asked for.
    fn possible(&self, address: &Address) -> Possible;
    /// The policy of exactly this address.
    fn host(&self, address: &Address) -> Option<Policy>;
    /// The policy of the longest prefix that contains the address.
    fn net(&self, address: &Address) -> Option<Policy>;
    /// The gateway that a port of a policy belongs to.
    fn port(&self, key: &PortKey) -> Option<u32>;
    /// An authenticated flow, expired or not.
    fn flow(&self, key: &FlowKey) -> Option<Flow>;
    /// When the softswitch last sent a request to the address (`CLOCK_MONOTONIC`, ns).
    fn peer(&self, address: &Address) -> Option<u64>;
    /// A ban, expired or not.
    fn ban(&self, address: &Address) -> Option<Ban>;
    /// `CLOCK_MONOTONIC`, ns. Costs the kernel some 30 ns, so it is asked for only where needed.
    fn now(&self) -> u64;
}

/// What happens to a packet. The verdict is the reason's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Why; [`Reason::verdict`] says what.
    pub reason: Reason,
    /// Gateway that the packet is counted for; 0 for none.
    pub gateway: u32,
    /// Where a punted packet queues.
    pub lane: Lane,
    /// The general challenge is right for it ([`may_be_challenged`]).
    pub general: bool,
}

impl Decision {
    /// For this reason, counted for this gateway, and no more to say.
    #[inline(always)]
    #[must_use]
    pub const fn new(reason: Reason, gateway: u32) -> Self {
        Self {
            reason,
            gateway,
            lane: Lane::Untrusted,
            general: false,
        }
    }
}

/// Decides about one packet. The numbers are those of the design's list.
#[inline(always)]
pub fn decide<L: Lookup>(packet: &PacketView, maps: &L) -> Decision {
    let config = match whatever_the_source(packet, maps) {
        Ok(config) => config,
        Err(reason) => return Decision::new(reason, 0),
    };
    let maps = &Sifted::new(maps, &packet.source);
    match whatever_the_message(packet, maps, &config) {
        Outline::Decided(decision) => decision,
        Outline::Password(gateway, known) => password(packet, maps, &config, gateway, packet.content.class(), known), // 6
        Outline::Peer(gateway) => peer(packet, maps, &config, gateway, packet.content.class()),                       // 7
    }
}

/// [`decide`] as far as the message does not matter: of a datagram any [`Class`] will do. `None` where it does matter.
#[inline(always)]
pub fn decide_unread<L: Lookup>(packet: &PacketView, maps: &L) -> Option<Decision> {
    let config = match whatever_the_source(packet, maps) {
        Ok(config) => config,
        Err(reason) => return Some(Decision::new(reason, 0)),
    };
    match whatever_the_message(packet, &Sifted::new(maps, &packet.source), &config) {
        Outline::Decided(decision) => Some(decision),
        Outline::Password(..) | Outline::Peer(..) => None,
    }
}

/// The settings, or the reason where the source makes no difference.
#[inline(always)]
fn whatever_the_source<L: Lookup>(packet: &PacketView, maps: &L) -> Result<Config, Reason> {
    match packet.content {
        Content::Other => return Err(Reason::NotProtected),
        Content::LaterFragment => {}
        Content::Malformed(..) | Content::Udp(_) | Content::Tcp { .. } => {
            let role = maps.port_role(packet.destination_port);
            if role.is_punt() {
                return Err(Reason::PuntPort); // 1
            }
            if !role.is_protected() {
                return Err(Reason::NotProtected);
            }
            if let Content::Malformed(reason, _) = packet.content {
                return Err(reason); // 1
            }
        }
    }
    match maps.config() {
        Some(config) if config.layout != 0 => Ok(config),
        _ => Err(Reason::NotConfigured),
    }
}

/// What the source of a packet makes of it, before its message is looked at.
enum Outline {
    /// All.
    Decided(Decision),
    /// It is a gateway's, or nobody's (0), and what the message is decides.
    Password(u32, Known),
    /// Likewise.
    Peer(u32),
}

#[inline(always)]
fn whatever_the_message<L: Lookup>(packet: &PacketView, maps: &L, config: &Config) -> Outline {
    let policy = match maps.host(&packet.source) {
        Some(policy) => Some(policy),
        None => maps.net(&packet.source),
    }; // 3
    match policy {
        Some(policy) => known(packet, maps, config, &policy),
        None => unknown(packet, maps, config),
    }
}

/// The source is an address of a gateway.
#[inline(always)]
fn known<L: Lookup>(packet: &PacketView, maps: &L, config: &Config, policy: &Policy) -> Outline {
    let gateway = policy.gateway;
    let decided = |reason| Outline::Decided(Decision::new(reason, gateway));
    if matches!(packet.content, Content::LaterFragment) {
        return decided(Reason::Fragment); // 2
    }
    if policy.has(modes::IP_PORT)
        && let Some(owner) = port_owner(packet, maps, policy)
    {
        return Outline::Decided(Decision::new(Reason::PortMatch, owner)); // 5
    }
    if policy.has(modes::IP) {
        return decided(Reason::IpMatch); // 5
    }
    if !policy.has(modes::IP_PORT) && banned(packet, maps) {
        return decided(Reason::Banned); // 4
    }
    if policy.has(modes::PASSWORD) {
        let known = Known {
            listed: true,
            peer: policy.has(modes::PEER),
            general: policy.flags & FLAG_GENERAL != 0,
        };
        return Outline::Password(gateway, known); // 6
    }
    if policy.has(modes::PEER) {
        return Outline::Peer(gateway); // 7
    }
    Outline::Decided(unauthorized(packet, maps, config, gateway, Reason::PortMismatch)) // 8
}

/// The gateway in mode `ip-port` that the source port belongs to.
#[inline(always)]
fn port_owner<L: Lookup>(packet: &PacketView, maps: &L, policy: &Policy) -> Option<u32> {
    if packet.source_port == policy.port && policy.port != 0 {
        return Some(policy.port_gateway);
    }
    if policy.flags & FLAG_MORE_PORTS == 0 || packet.source_port == 0 {
        return None;
    }
    maps.port(&PortKey {
        network: packet.source.network(policy.prefix),
        port: packet.source_port,
        prefix: policy.prefix,
        reserved: 0,
    })
}

/// No gateway has the source address.
#[inline(always)]
fn unknown<L: Lookup>(packet: &PacketView, maps: &L, config: &Config) -> Outline {
    let decided = |reason| Outline::Decided(Decision::new(reason, 0));
    if matches!(packet.content, Content::LaterFragment) {
        let refused = config.default_policy == DefaultPolicy::Deny as u32 && !learned_peer(packet, maps, config);
        return decided(if refused { Reason::FragmentUnknown } else { Reason::Fragment }); // 2
    }
    if banned(packet, maps) {
        return decided(Reason::Banned); // 4
    }
    if config.default_policy == DefaultPolicy::Allow as u32 {
        return decided(Reason::DefaultAllow);
    }
    if config.default_policy == DefaultPolicy::Challenge as u32 {
        let known = Known {
            listed: false,
            peer: false,
            general: true,
        };
        return Outline::Password(0, known); // 6
    }
    if let Some(flow) = softswitch_connection(packet, maps, config) {
        return Outline::Decided(flow);
    }
    if learned_peer(packet, maps, config) {
        return Outline::Peer(0); // 7
    }
    Outline::Decided(unauthorized(packet, maps, config, 0, Reason::UnknownSource)) // 8
}

/// What the policy of a source says besides its mode.
#[derive(Clone, Copy)]
struct Known {
    /// A gateway has the address.
    listed: bool,
    /// One of its gateways is in mode `peer`.
    peer: bool,
    /// [`FLAG_GENERAL`]; of a stranger too.
    general: bool,
}

/// Mode `password`, and the default policy `challenge`.
#[inline(always)]
fn password<L: Lookup>(packet: &PacketView, maps: &L, config: &Config, gateway: u32, class: Option<Class>, known: Known) -> Decision {
    let flow = live_flow(packet, maps, config);
    let owner = match flow {
        Some(flow) if flow.gateway != 0 => flow.gateway,
        _ => gateway,
    };
    let passes = match class {
        // TCP: only a connection that the softswitch itself opened is not the agent's.
        None => flow.is_some() && matches!(packet.content, Content::Tcp { opens: false }),
        Some(Class::Request(method)) if method.is_initial() => false,
        // It may be to the agent's own challenge, which the softswitch knows nothing of: see `acknowledged`.
        Some(Class::Request(Method::Ack)) if flow.is_some() && config.agent_alive(maps.now()) => {
            return Decision {
                lane: Lane::Trusted,
                ..Decision::new(Reason::FlowAck, owner)
            };
        }
        Some(_) => {
            if flow.is_none() && (known.peer || learned_peer(packet, maps, config)) {
                return Decision::new(Reason::Peer, gateway);
            }
            flow.is_some()
        }
    };
    if passes {
        return Decision::new(Reason::Flow, owner);
    }
    match class {
        Some(Class::Response | Class::KeepAlive) => Decision::new(Reason::NoFlow, gateway),
        _ => {
            let lane = if flow.is_some() {
                Lane::Trusted
            } else if known.listed || class.is_some() && learned_peer(packet, maps, config) {
                // Not TCP: the segments of a connection must keep their lane, whomever the softswitch calls meanwhile.
                Lane::Known
            } else {
                Lane::Untrusted
            };
            punt(
                maps,
                config,
                Decision {
                    lane,
                    general: known.general
                        && config.has(flags::CHALLENGE)
                        && !config.has(flags::MONITOR)
                        && matches!(class, Some(Class::Request(method)) if method.is_initial()),
                    ..Decision::new(Reason::Challenge, owner)
                },
            )
        }
    }
}

/// Mode `peer`, and learned peers: what belongs to a call that the softswitch made.
#[inline(always)]
fn peer<L: Lookup>(packet: &PacketView, maps: &L, config: &Config, gateway: u32, class: Option<Class>) -> Decision {
    match class {
        Some(Class::Response | Class::KeepAlive) => Decision::new(Reason::Peer, gateway),
        Some(Class::Request(method)) if !method.is_initial() => Decision::new(Reason::Peer, gateway),
        Some(Class::Request(_)) => punt(
            maps,
            config,
            Decision {
                lane: Lane::Known,
                ..Decision::new(Reason::PeerRequest, gateway)
            },
        ),
        None => match softswitch_connection(packet, maps, config) {
            Some(flow) => flow,
            None => punt(
                maps,
                config,
                Decision {
                    lane: Lane::Known,
                    ..Decision::new(Reason::PeerRequest, gateway)
                },
            ),
        },
    }
}

/// A TCP segment of a connection that the softswitch opened from a protected port; the egress program remembers these as flows.
/// A SYN is none: the flow does not say which way a connection goes, and a peer could open one of its own from the port that
/// the softswitch connected to.
#[inline(always)]
fn softswitch_connection<L: Lookup>(packet: &PacketView, maps: &L, config: &Config) -> Option<Decision> {
    match packet.content {
        Content::Tcp { opens: false } => live_flow(packet, maps, config).map(|flow| Decision::new(Reason::Flow, flow.gateway)),
        _ => None,
    }
}

#[inline(always)]
fn live_flow<L: Lookup>(packet: &PacketView, maps: &L, config: &Config) -> Option<Flow> {
    match maps.flow(&packet.flow_key()) {
        Some(flow) if flow.is_live(maps.now(), config.flow_idle_ns) => Some(flow),
        _ => None,
    }
}

#[inline(always)]
fn learned_peer<L: Lookup>(packet: &PacketView, maps: &L, config: &Config) -> bool {
    match maps.peer(&packet.source) {
        Some(seen) => maps.now().saturating_sub(seen) < config.peer_ttl_ns,
        None => false,
    }
}

#[inline(always)]
fn banned<L: Lookup>(packet: &PacketView, maps: &L) -> bool {
    match maps.ban(&packet.source) {
        Some(ban) => (ban.port == 0 || ban.port == packet.source_port) && maps.now() < ban.expires,
        None => false,
    }
}

/// Hands a packet to the agent, if there is one.
#[inline(always)]
fn punt<L: Lookup>(maps: &L, config: &Config, decision: Decision) -> Decision {
    if config.agent_alive(maps.now()) {
        return decision;
    }
    // A routing gateway never calls in, so there is nothing that failing open could admit.
    let open = config.has(flags::FAIL_OPEN) && decision.reason as u32 == Reason::Challenge as u32;
    Decision::new(if open { Reason::FailOpen } else { Reason::AgentDown }, decision.gateway)
}

/// Refuses: silently, through the agent, or (TCP) by a reset of the kernel's. Of a connection that gets a reset only what opens it is
/// answered, so that no more goes out than came in.
#[inline(always)]
fn unauthorized<L: Lookup>(packet: &PacketView, maps: &L, config: &Config, gateway: u32, silent: Reason) -> Decision {
    let answered = match packet.content {
        Content::Tcp { opens } if config.has(flags::TCP_RESET) => opens,
        _ => config.has(flags::REPLY_UNAUTHORIZED) && config.agent_alive(maps.now()),
    };
    if !answered {
        return Decision::new(silent, gateway);
    }
    let reason = if silent as u32 == Reason::PortMismatch as u32 {
        Reason::ReplyMismatch
    } else {
        Reason::ReplyUnknown
    };
    Decision {
        lane: Lane::Denied,
        ..Decision::new(reason, gateway)
    }
}

#[cfg(test)]
mod tests;
