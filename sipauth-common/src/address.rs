//! An IPv4 or IPv6 address as the maps hold it.

use crate::pod;

/// 16 bytes in network order; an IPv4 address in its mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// Held as four words whose bytes *in memory* are in network order, so that the kernel program copies it with four loads.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Address(pub [u32; 4]);
const _: () = assert!(size_of::<Address>() == 16 && align_of::<Address>() == 4);
pod!(Address);

/// The word before the address in the IPv4-mapped form.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// From the word whose bytes in memory are the IPv4 address in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// The IPv4 address as a word whose bytes in memory are in network order; `None` for IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn v4(&self) -> Option<u32> {
        if self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED {
            Some(self.0[3])
        } else {
            None
        }
    }

    /// The address with all but its first `prefix` bits (of 128) zero.
    #[inline(always)]
    #[must_use]
    pub const fn network(&self, prefix: u8) -> Self {
        Self([
            mask(self.0[0], prefix, 0),
            mask(self.0[1], prefix, 32),
            mask(self.0[2], prefix, 64),
            mask(self.0[3], prefix, 96),
        ])
    }

    /// What one sender commonly has to himself: the address, or of IPv6 its /64.
    #[inline(always)]
    #[must_use]
    pub const fn sender(&self) -> Self {
        if self.v4().is_some() { *self } else { self.network(64) }
    }

    /// The 16 bytes, network order.
    #[inline(always)]
    #[must_use]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3],
        ]
    }

    /// From 16 bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }
}

/// The word that begins at bit `first`, with the bits from `prefix` on zero.
#[inline(always)]
const fn mask(word: u32, prefix: u8, first: u8) -> u32 {
    if prefix >= first + 32 {
        word
    } else if prefix <= first {
        0
    } else {
        word & (u32::MAX << ((first + 32 - prefix) & 31)).to_be()
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(v4) => Self::from_v4(u32::from_ne_bytes(v4.octets())),
            core::net::IpAddr::V6(v6) => Self::from_octets(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        match address.v4() {
            Some(word) => Self::from(word.to_ne_bytes()),
            None => Self::from(address.octets()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["203.0.113.5", "0.0.0.0", "2001:db8::1", "::", "::1"] {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(IpAddr::from(Address::from(ip)), ip);
        }
    }

    #[test]
    fn a_sender_has_an_ipv4_address_or_an_ipv6_network() {
        let sender = |text: &str| IpAddr::from(Address::from(text.parse::<IpAddr>().expect("an address")).sender()).to_string();
        assert_eq!(sender("198.51.100.77"), "198.51.100.77");
        assert_eq!(sender("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    #[test]
    fn a_network_has_its_host_bits_zero() {
        let network =
            |text: &str, prefix| IpAddr::from(Address::from(text.parse::<IpAddr>().expect("an address")).network(prefix)).to_string();
        assert_eq!(network("198.51.100.77", 96 + 24), "198.51.100.0");
        assert_eq!(network("198.51.100.77", 96 + 31), "198.51.100.76");
        assert_eq!(network("198.51.100.77", 128), "198.51.100.77");
        assert_eq!(network("2001:db8:1:2:3:4:5:6", 48), "2001:db8:1::");
        assert_eq!(network("2001:db8:1:2:3:4:5:6", 33), "2001:db8::");
        assert_eq!(network("2001:db8:1:2:3:4:5:6", 0), "::");
    }
}
