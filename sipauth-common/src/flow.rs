//! Authenticated flows and bans: what the agent tells the kernel program about single sources.

use crate::{address::Address, pod};

/// Key of `FLOWS`: where a gateway that proved its password sends from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowKey {
    /// Source address.
    pub address: Address,
    /// Source port, host order.
    pub port: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
    /// Always 0.
    pub reserved: u8,
}
const _: () = assert!(size_of::<FlowKey>() == 20);

/// Value of `FLOWS`.
///
/// Written by the agent. The kernel program refreshes `seen` in place, without a lock: both sides only ever store a time
/// that is close to now, so the last writer is right whichever it is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flow {
    /// `CLOCK_MONOTONIC`, ns: not valid from this time on, however busy (a registration's end); `u64::MAX` for no such end.
    pub expires: u64,
    /// `CLOCK_MONOTONIC`, ns: last packet. The flow ends when this is older than [`crate::config::Config::flow_idle_ns`],
    /// unless `expires` is set and later.
    pub seen: u64,
    /// Gateway that authenticated; 0 where the softswitch itself opened the connection (TCP).
    pub gateway: u32,
    /// 1 while the softswitch's answer to a REGISTER is awaited: the egress program shows it to the agent, and clears this.
    pub registering: u32,
}
const _: () = assert!(size_of::<Flow>() == 24);

/// Value of `BANS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ban {
    /// `CLOCK_MONOTONIC`, ns; `u64::MAX` for a ban without end.
    pub expires: u64,
    /// Source port, host order, when only this port of the address is banned; 0 for all.
    pub port: u16,
    /// Why, a number of the agent's.
    pub cause: u16,
    /// Always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Ban>() == 16);

pod!(FlowKey, Flow, Ban);

impl Flow {
    /// Whether the flow still admits packets at `now` (`CLOCK_MONOTONIC`, ns).
    #[inline(always)]
    #[must_use]
    pub const fn is_live(&self, now: u64, idle_ns: u64) -> bool {
        if self.expires != u64::MAX {
            now < self.expires
        } else {
            now.saturating_sub(self.seen) < idle_ns
        }
    }
}
