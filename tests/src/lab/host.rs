//! The machines of the lab and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The NAT, as those behind it see it.
pub(super) const NAT_INSIDE: &str = "192.168.77.1";

/// A machine of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Host {
    /// What sipauth protects.
    Softswitch,
    /// A gateway in mode `ip`.
    CarrierIp,
    /// A gateway in mode `ip-port`.
    CarrierPort,
    /// A gateway in mode `password`.
    PbxPassword,
    /// A routing gateway, mode `peer`: the softswitch calls it.
    ProviderPeer,
    /// Nobody's gateway.
    Stranger,
    /// A password gateway behind the NAT.
    NatPassword,
    /// An `ip-port` gateway behind the NAT, whose port the NAT changes.
    NatPort,
}

impl Host {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Softswitch,
        Self::CarrierIp,
        Self::CarrierPort,
        Self::PbxPassword,
        Self::ProviderPeer,
        Self::Stranger,
        Self::NatPassword,
        Self::NatPort,
    ];

    /// Its name, also that of its namespace and of its port at the bridge (15 characters at most).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Softswitch => "softswitch",
            Self::CarrierIp => "carrier-ip",
            Self::CarrierPort => "carrier-port",
            Self::PbxPassword => "pbx-password",
            Self::ProviderPeer => "provider-peer",
            Self::Stranger => "stranger",
            Self::NatPassword => "nat-password",
            Self::NatPort => "nat-port",
        }
    }

    /// Its own IPv4 address.
    #[must_use]
    pub const fn v4(self) -> Ipv4Addr {
        match self {
            Self::Softswitch => Ipv4Addr::new(203, 0, 113, 10),
            Self::CarrierIp => Ipv4Addr::new(203, 0, 113, 21),
            Self::CarrierPort => Ipv4Addr::new(203, 0, 113, 22),
            Self::PbxPassword => Ipv4Addr::new(203, 0, 113, 23),
            Self::ProviderPeer => Ipv4Addr::new(203, 0, 113, 24),
            Self::Stranger => Ipv4Addr::new(198, 51, 100, 66),
            Self::NatPassword => Ipv4Addr::new(192, 168, 77, 2),
            Self::NatPort => Ipv4Addr::new(192, 168, 77, 3),
        }
    }

    /// Its IPv6 address; none behind the NAT.
    #[must_use]
    pub const fn v6(self) -> Option<Ipv6Addr> {
        let last = match self {
            Self::Softswitch => 0x10,
            Self::CarrierIp => 0x21,
            Self::CarrierPort => 0x22,
            Self::PbxPassword => 0x23,
            Self::ProviderPeer => 0x24,
            Self::Stranger => return Some(Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 0x66)),
            Self::NatPassword | Self::NatPort => return None,
        };
        Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
    }

    /// The IPv4 address that the softswitch sees.
    #[must_use]
    pub const fn seen_v4(self) -> Ipv4Addr {
        match self {
            Self::NatPassword => Ipv4Addr::new(203, 0, 113, 40),
            Self::NatPort => Ipv4Addr::new(203, 0, 113, 41),
            _ => self.v4(),
        }
    }

    /// Its own address of a family; `None` if it has none.
    #[must_use]
    pub fn address(self, v6: bool) -> Option<IpAddr> {
        if v6 {
            self.v6().map(IpAddr::V6)
        } else {
            Some(IpAddr::V4(self.v4()))
        }
    }

    pub(super) const fn behind_nat(self) -> bool {
        matches!(self, Self::NatPassword | Self::NatPort)
    }
}

/// The address of each family and on-link routes to the others: the bridge is the whole world.
pub(super) fn host_script(host: Host) -> String {
    let mut script = String::from("link set lo up\nlink set eth0 up\n");
    if host.behind_nat() {
        script += &format!("addr add {}/24 dev eth0\nroute add default via {NAT_INSIDE}\n", host.v4());
        return script;
    }
    let own = host.v4();
    let far = if host == Host::Stranger {
        "203.0.113.0/24"
    } else {
        "198.51.100.0/24"
    };
    script += &format!("addr add {own}/24 dev eth0\nroute add {far} dev eth0 src {own}\n");
    if let Some(v6) = host.v6() {
        let far = if host == Host::Stranger {
            "2001:db8::/64"
        } else {
            "2001:db8:66::/64"
        };
        script += &format!("addr add {v6}/64 dev eth0 nodad\nroute add {far} dev eth0\n");
    }
    script
}
