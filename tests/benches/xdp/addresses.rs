//! Addresses of gateways, and of packets: the same in every run.
//!
//! One bit tells gateways from strangers, in hosts the last of the address, in prefixes the last of the prefix. So no stranger is a gateway by chance,
//! and strangers are else anywhere.

use std::collections::HashSet;

use sipauth_common::address::Address;

/// IP version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Length of the prefixes that gateways have, in bits of the 16-byte address.
    pub(crate) const fn prefix(self) -> u8 {
        match self {
            Self::V4 => 96 + 24,
            Self::V6 => 48,
        }
    }
}

/// What the sources of packets are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Random,
    Beside,
    Hot,
    Cold,
    Port,
    Punt,
    PrefixHit,
    PrefixRandom,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Random,
        Self::Beside,
        Self::Hot,
        Self::Cold,
        Self::Port,
        Self::Punt,
        Self::PrefixHit,
        Self::PrefixRandom,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Random => "refused: random source",
            Self::Beside => "refused: beside a gateway",
            Self::Hot => "ip: one source",
            Self::Cold => "ip: all gateways",
            Self::Port => "ip-port: one source",
            Self::Punt => "password: INVITE to the agent",
            Self::PrefixHit => "ip: all prefixes",
            Self::PrefixRandom => "refused: random source, prefixes",
        }
    }

    pub(crate) const fn is_refused(self) -> bool {
        matches!(self, Self::Random | Self::Beside | Self::PrefixRandom)
    }

    /// Gateways have prefixes.
    pub(crate) const fn is_prefix(self) -> bool {
        matches!(self, Self::PrefixHit | Self::PrefixRandom)
    }

    /// It knows addresses; neither the ports of one nor prefixes.
    pub(crate) const fn is_for_filter(self) -> bool {
        matches!(self, Self::Random | Self::Beside | Self::Hot | Self::Cold)
    }
}

/// Where packets come from.
pub(crate) enum Traffic {
    /// One after the other, again and again.
    Listed(Vec<Address>),
    /// Any with these bits; the others as the second says.
    Random { set: Address, random: Address },
}

/// Which gateways are not in mode `ip`.
pub(crate) const PORT: usize = 1;
pub(crate) const PASSWORD: usize = 2;

/// The gateways of one family.
pub(crate) struct Sources {
    family: Family,
    hosts: Vec<Address>,
    nets: Vec<Address>,
}

impl Sources {
    /// So many hosts and, apart from them, so many prefixes.
    pub(crate) fn new(family: Family, gateways: usize) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut draw = |length: u8| {
            let mut seen = HashSet::with_capacity(gateways);
            let mut drawn = Vec::with_capacity(gateways);
            while drawn.len() < gateways {
                let mut at = random.unicast(family);
                flip(&mut at, length, false);
                let at = Address::from_octets(at).network(length);
                if seen.insert(at) {
                    drawn.push(at);
                }
            }
            drawn
        };
        let (hosts, nets) = (draw(128), draw(family.prefix()));
        Self { family, hosts, nets }
    }

    pub(crate) fn hosts(&self) -> &[Address] {
        &self.hosts
    }

    pub(crate) fn nets(&self) -> &[Address] {
        &self.nets
    }

    /// The packets of a case. Gateways have been drawn by chance, so their order is one of chance too.
    pub(crate) fn traffic(&self, kind: Kind) -> Traffic {
        match kind {
            Kind::Random => self.strangers(128),
            Kind::PrefixRandom => self.strangers(self.family.prefix()),
            Kind::Beside => Traffic::Listed(
                self.hosts
                    .iter()
                    .map(|host| {
                        let mut at = host.octets();
                        flip(&mut at, 128, true);
                        Address::from_octets(at)
                    })
                    .collect(),
            ),
            Kind::Hot => Traffic::Listed(vec![self.hosts[0]]),
            Kind::Port => Traffic::Listed(vec![self.hosts[PORT]]),
            Kind::Punt => Traffic::Listed(vec![self.hosts[PASSWORD]]),
            Kind::Cold => {
                let mut all = self.hosts.clone();
                all.drain(PORT..=PASSWORD);
                // As they were entered, neighbours in time would be neighbours in memory.
                shuffle(&mut all);
                Traffic::Listed(all)
            }
            Kind::PrefixHit => {
                let mut random = Random(0x2545_f491_4f6c_dd1d);
                let mut all: Vec<Address> = self
                    .nets
                    .iter()
                    .map(|net| {
                        let (mut at, any) = (net.octets(), random.unicast(self.family));
                        let prefix = usize::from(self.family.prefix() / 8);
                        at[prefix..].copy_from_slice(&any[prefix..]);
                        Address::from_octets(at)
                    })
                    .collect();
                shuffle(&mut all);
                Traffic::Listed(all)
            }
        }
    }

    fn strangers(&self, length: u8) -> Traffic {
        let (mut set, mut random) = match self.family {
            Family::V4 => (Address::from_v4(0).octets(), Address::from_v4(u32::MAX).octets()),
            Family::V6 => ([0; 16], [0xff; 16]),
        };
        if self.family == Family::V6 {
            set[0] = GLOBAL;
            random[0] = !GLOBAL_MASK;
        }
        flip(&mut set, length, true);
        flip(&mut random, length, false);
        Traffic::Random {
            set: Address::from_octets(set),
            random: Address::from_octets(random),
        }
    }
}

/// 2000::/3, the addresses that are given out (RFC 4291).
const GLOBAL: u8 = 0x20;
const GLOBAL_MASK: u8 = 0xe0;

/// Makes the last of the first `length` bits what is wanted.
fn flip(at: &mut [u8; 16], length: u8, to: bool) {
    let (byte, bit) = (usize::from((length - 1) / 8), 7 - (length - 1) % 8);
    at[byte] = at[byte] & !(1 << bit) | u8::from(to) << bit;
}

/// Fisher and Yates.
fn shuffle(all: &mut [Address]) {
    let mut random = Random(0xd134_2543_de82_ef95);
    for index in (1..all.len()).rev() {
        all.swap(index, usize::try_from(random.next() % (index as u64 + 1)).unwrap_or(0));
    }
}

/// Marsaglia's generator.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// An address that a carrier could have.
    fn unicast(&mut self, family: Family) -> [u8; 16] {
        let words = [self.next().to_le_bytes(), self.next().to_le_bytes()];
        let mut at = [0; 16];
        at[..8].copy_from_slice(&words[0]);
        at[8..].copy_from_slice(&words[1]);
        match family {
            Family::V6 => at[0] = at[0] & !GLOBAL_MASK | GLOBAL,
            Family::V4 => {
                at[..12].copy_from_slice(&Address::from_v4(0).octets()[..12]);
                while matches!(at[12], 0 | 127 | 224..) {
                    at[12] = self.next().to_le_bytes()[4];
                }
            }
        }
        at
    }
}
