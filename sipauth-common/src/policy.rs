//! What is known of a source: values of `HOSTS_*` and `NETS_*`, and the key of `PORTS`.

use crate::{address::Address, pod};

/// Bits of [`Policy::modes`]: the union over all gateways that share the address.
pub mod modes {
    /// The source address is enough.
    pub const IP: u8 = 1;
    /// Address and source port must match.
    pub const IP_PORT: u8 = 2;
    /// SIP digest.
    pub const PASSWORD: u8 = 4;
    /// A routing gateway: responses and in-dialog requests only.
    pub const PEER: u8 = 8;
}

/// Bit of [`Policy::flags`]: there are more ports than the inline one, in `PORTS`.
pub const FLAG_MORE_PORTS: u8 = 1;
/// Bit of [`Policy::flags`]: who is to prove a password here is challenged by the general rules and realm.
pub const FLAG_GENERAL: u8 = 2;

/// Compiled policy of one address or prefix.
///
/// Several gateways may share an address; this is their union. `gateway` is the one that traffic is counted for unless
/// a port decides: of the gateways in the strongest right that the address gives (`ip`, else `password`, else `ip-port`,
/// else `peer`) the one with the highest priority.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Policy {
    /// Gateway that is counted when no port of an `ip-port` gateway matched.
    pub gateway: u32,
    /// Gateway that `port` belongs to.
    pub port_gateway: u32,
    /// One source port that passes, host order; 0 for none.
    pub port: u16,
    /// Union of [`modes`].
    pub modes: u8,
    /// Union of [`FLAG_MORE_PORTS`] and [`FLAG_GENERAL`].
    pub flags: u8,
    /// Length of the prefix that the policy stands at, in bits of the 16-byte [`Address`]: 128 for a host, 96 + n for an IPv4 prefix of length n.
    pub prefix: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<Policy>() == 16);

/// Key of `PORTS`: a source port that passes at an address or prefix. The value is the gateway's id (`u32`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortKey {
    /// The address or, with its host bits zero, the prefix that the policy stands at.
    pub network: Address,
    /// Source port, host order; never 0.
    pub port: u16,
    /// [`Policy::prefix`].
    pub prefix: u8,
    /// Always 0.
    pub reserved: u8,
}
const _: () = assert!(size_of::<PortKey>() == 20);

pod!(Policy, PortKey);

impl Policy {
    /// Whether all bits of `mode` are in the union.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, mode: u8) -> bool {
        self.modes & mode != 0
    }
}
