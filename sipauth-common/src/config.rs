//! Settings that the kernel program reads: the one entry of `CONFIG`, and `PORT_ROLES`.

use crate::pod;

/// What happens to a source that no gateway has.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultPolicy {
    /// Refused.
    Deny = 0,
    /// As if it were a gateway in password mode.
    Challenge = 1,
    /// Admitted.
    Allow = 2,
}

/// Bits of [`Config::flags`].
pub mod flags {
    /// Compute and count every verdict, pass everything.
    pub const MONITOR: u32 = 1;
    /// While no agent runs, admit what would need one (the default is to refuse it).
    pub const FAIL_OPEN: u32 = 2;
    /// Hand unauthorised requests to the agent, which answers 403, instead of dropping them.
    pub const REPLY_UNAUTHORIZED: u32 = 4;
    /// Hand what opens an unauthorised TCP connection to a port where nobody listens, so that the kernel answers by a reset.
    pub const TCP_RESET: u32 = 8;
    /// Answer requests without credentials by a challenge, where that is the general one ([`crate::challenge::Challenge`]).
    pub const CHALLENGE: u32 = 16;
}

/// Lanes of punted packets, each with a punt port per protected port and a budget of its own.
pub const LANES: usize = 4;

/// A lane: index into [`PortRole::punt`], [`Config::lane_rate`] and the `LANES` map.
#[repr(usize)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Sources that authenticated lately.
    Trusted = 0,
    /// Addresses that a gateway is listed with, or that the softswitch calls, but no authenticated flow. Apart from strangers, who
    /// can be as many as they like; apart from flows, since an address is easy to forge.
    Known = 1,
    /// Strangers that may authenticate, and have not yet.
    Untrusted = 2,
    /// Sources that are refused, with an answer (`reply_unauthorized`, `tcp_reset`).
    Denied = 3,
}

impl Lane {
    /// All, in the order of their numbers.
    pub const ALL: [Self; LANES] = [Self::Trusted, Self::Known, Self::Untrusted, Self::Denied];

    /// Name in logs and output.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Known => "known",
            Self::Untrusted => "untrusted",
            Self::Denied => "denied",
        }
    }
}

/// The entry of `CONFIG`. Written by the agent only; `heartbeat_ns` is stored by itself once a second.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// [`crate::abi::LAYOUT`] of the agent that wrote it; 0 in a map that no agent has filled.
    pub layout: u32,
    /// Another one with every change of gateways or settings: what the agent said of callers before is void ([`crate::proof::Caller`]).
    pub generation: u32,
    /// `CLOCK_MONOTONIC`, ns, when the agent was last alive; 0 when it said goodbye.
    pub heartbeat_ns: u64,
    /// The agent is taken for dead when its heartbeat is older.
    pub heartbeat_limit_ns: u64,
    /// A learned peer is forgotten after this time, ns.
    pub peer_ttl_ns: u64,
    /// A flow is forgotten after this idle time, ns.
    pub flow_idle_ns: u64,
    /// [`DefaultPolicy`] in force, as its number.
    pub default_policy: u32,
    /// Union of [`flags`].
    pub flags: u32,
    /// Punted packets per second from one source and CPU, by lane.
    pub source_rate: [u32; LANES],
    /// Punted packets per second from all sources together, per CPU, by lane.
    pub lane_rate: [u32; LANES],
    /// What follows [`crate::sip::OWN_TAG`] in the To tags of the agent that wrote this, which made it up when it started.
    pub own_mark: [u8; 8],
    /// Events per second and CPU.
    pub event_rate: u32,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Config>() == 96);

impl Config {
    /// Whether the bit of [`flags`] is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether an agent was alive at `now` (`CLOCK_MONOTONIC`, ns).
    #[inline(always)]
    #[must_use]
    pub const fn agent_alive(&self, now: u64) -> bool {
        self.heartbeat_ns != 0 && now.saturating_sub(self.heartbeat_ns) < self.heartbeat_limit_ns
    }
}

/// Bits of [`PortRole::flags`].
pub mod port {
    /// SIP arrives here, UDP and TCP, and is judged.
    pub const PROTECTED: u8 = 1;
    /// The agent listens here; nothing may come from the wire.
    pub const PUNT: u8 = 2;
}

/// What a local port is to us. Entry of `PORT_ROLES`, indexed by the port in host order; all zero for most.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRole {
    /// Of a protected port: its punt port in each lane, host order.
    pub punt: [u16; LANES],
    /// Of a punt port: the protected port that it stands for, host order.
    pub protected: u16,
    /// [`port`].
    pub flags: u8,
    /// Always 0.
    pub reserved: u8,
}
const _: () = assert!(size_of::<PortRole>() == 12);

impl PortRole {
    /// Whether this is a protected port.
    #[inline(always)]
    #[must_use]
    pub const fn is_protected(&self) -> bool {
        self.flags & port::PROTECTED != 0
    }

    /// The punt port of a lane, host order; 0 where there is none.
    #[inline(always)]
    #[must_use]
    pub const fn punt_port(&self, lane: Lane) -> u16 {
        match lane {
            Lane::Trusted => self.punt[0],
            Lane::Known => self.punt[1],
            Lane::Untrusted => self.punt[2],
            Lane::Denied => self.punt[3],
        }
    }

    /// Whether this is a punt port.
    #[inline(always)]
    #[must_use]
    pub const fn is_punt(&self) -> bool {
        self.flags & port::PUNT != 0
    }
}

pod!(Config, PortRole);
