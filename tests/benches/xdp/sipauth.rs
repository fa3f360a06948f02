//! The program of sipauth, its maps filled as the agent fills them.

use aya::programs::ProgramFd;
use sipauth_common::{
    abi,
    address::Address,
    config::{Config, DefaultPolicy, LANES, PortRole, port},
    policy::{Policy, modes},
    prefilter,
    reason::{Reason, Verdict},
};
use sipauth_user::datapath::{self, Bounds, Demand, Programs, Sizes};

use crate::{
    Result,
    addresses::{Family, Kind, PASSWORD, PORT},
};

const SIP: u16 = 5060;
const HOUR: u64 = 3_600_000_000_000;
/// The agent's defaults.
const BOUNDS: Bounds = Bounds {
    flows: 32_768,
    peers: 16_384,
    bans: 32_768,
};

pub(crate) struct Sipauth(Programs);

impl Sipauth {
    /// All in mode `ip`, but one in `ip-port` and one in `password`.
    pub(crate) fn with_hosts(family: Family, hosts: &[Address]) -> Result<Self> {
        let count = hosts.len();
        let sipauth = Self::load(&Demand {
            hosts: match family {
                Family::V4 => [count, 0],
                Family::V6 => [0, count],
            },
            gateways: count + 1,
            ..Demand::default()
        })?;
        for (index, host) in hosts.iter().enumerate() {
            let gateway = u32::try_from(index + 1)?;
            let policy = match index {
                PORT => Policy {
                    port: SIP,
                    port_gateway: gateway,
                    ..policy(gateway, modes::IP_PORT, 128)
                },
                PASSWORD => policy(gateway, modes::PASSWORD, 128),
                _ => policy(gateway, modes::IP, 128),
            };
            sipauth.0.maps.put_host(host, &policy)?;
        }
        sipauth.0.maps.renew_prefilter()?;
        Ok(sipauth)
    }

    /// All in mode `ip`, by prefixes.
    pub(crate) fn with_nets(family: Family, nets: &[Address]) -> Result<Self> {
        let sipauth = Self::load(&Demand {
            blocks: nets.iter().map(|net| prefilter::blocks(net, family.prefix())).sum(),
            gateways: nets.len() + 1,
            ..Demand::default()
        })?;
        for (index, net) in nets.iter().enumerate() {
            let policy = policy(u32::try_from(index + 1)?, modes::IP, family.prefix());
            sipauth.0.maps.put_net(net, family.prefix(), &policy)?;
        }
        sipauth.0.maps.renew_prefilter()?;
        Ok(sipauth)
    }

    fn load(demand: &Demand) -> Result<Self> {
        let programs = datapath::load_ingress(None, &Sizes::new(demand, &BOUNDS), abi::PROGRAM_INGRESS)?;
        let now = datapath::monotonic_ns();
        programs.maps.set_port_role(
            SIP,
            PortRole {
                punt: [61_060, 61_061, 61_062, 61_063],
                protected: 0,
                flags: port::PROTECTED,
                reserved: 0,
            },
        )?;
        programs.maps.set_config(&Config {
            layout: abi::LAYOUT,
            generation: 1,
            // Alive for as long as a measurement takes.
            heartbeat_ns: now + HOUR,
            heartbeat_limit_ns: HOUR,
            peer_ttl_ns: HOUR,
            flow_idle_ns: HOUR,
            default_policy: DefaultPolicy::Deny as u32,
            flags: 0,
            // Nothing is over its budget: what is measured is the hand-over.
            source_rate: [u32::MAX; LANES],
            lane_rate: [u32::MAX; LANES],
            own_mark: *b"0badcafe",
            event_rate: 100,
            reserved: 0,
        })?;
        Ok(Self(programs))
    }

    pub(crate) fn fd(&mut self) -> Result<&ProgramFd> {
        Ok(self.0.ingress()?.fd()?)
    }

    /// Packets that were judged as those of this kind are.
    pub(crate) fn count(&self, kind: Kind) -> Result<u64> {
        Ok(self.0.maps.stats()?[reason(kind) as usize].packets)
    }
}

const fn policy(gateway: u32, modes: u8, prefix: u8) -> Policy {
    Policy {
        gateway,
        port_gateway: 0,
        port: 0,
        modes,
        flags: 0,
        prefix,
        reserved: [0; 3],
    }
}

const fn reason(kind: Kind) -> Reason {
    match kind {
        Kind::Random | Kind::Beside | Kind::PrefixRandom => Reason::UnknownSource,
        Kind::Hot | Kind::Cold | Kind::PrefixHit => Reason::IpMatch,
        Kind::Port => Reason::PortMatch,
        Kind::Punt => Reason::Challenge,
    }
}

/// Whether packets of this kind go on to the stack.
pub(crate) fn passes(kind: Kind) -> bool {
    matches!(reason(kind).verdict(), Verdict::Pass | Verdict::Punt)
}
