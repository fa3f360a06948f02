//! Host names among the addresses of a gateway, and what they stand for.
//!
//! The agent asks for them ([`crate::resolve`]); here is what is a name, which answers are acceptable, and how both become the
//! addresses that are enforced.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Gateway, GatewayError};

/// Most host names of one gateway.
pub const MAX_NAMES: usize = 64;
/// Most addresses that one name may stand for.
pub const MAX_RESOLVED: usize = 64;

/// A host name of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without a dot at its end.
    pub name: String,
    /// What it stands for by the last good answer; sorted, and empty only before the first.
    pub addresses: Vec<IpNet>,
}

/// The host names of a gateway, and the addresses that were given beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    hosts: Vec<HostName>,
    /// Empty where there are no names: then all addresses were given as such.
    beside: Vec<IpNet>,
}

impl Names {
    /// Of names and the addresses beside them.
    #[must_use]
    pub fn new(mut hosts: Vec<HostName>, beside: &[IpNet]) -> Self {
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts.dedup_by(|a, b| a.name == b.name);
        let beside = if hosts.is_empty() { Vec::new() } else { beside.to_vec() };
        Self { hosts, beside }
    }

    /// Each name, in their order.
    #[must_use]
    pub fn hosts(&self) -> &[HostName] {
        &self.hosts
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

impl Gateway {
    /// The addresses that were given as such.
    #[must_use]
    pub fn literal_addresses(&self) -> &[IpNet] {
        if self.names.is_empty() {
            &self.addresses
        } else {
            &self.names.beside
        }
    }

    /// Gives each host name what it stands for, as `find` says, and the gateway the addresses that follow.
    ///
    /// # Errors
    /// What `find` says of the first name that stands for nothing.
    pub fn resolve(&mut self, find: impl Fn(&str) -> Result<Vec<IpNet>, String>) -> Result<(), GatewayError> {
        for host in &mut self.names.hosts {
            host.addresses = find(&host.name).map_err(|detail| GatewayError::Unresolved {
                gateway: self.name.clone(),
                name: host.name.clone(),
                detail,
            })?;
        }
        self.settle();
        Ok(())
    }

    /// Puts together the addresses that are in force.
    pub(crate) fn settle(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let resolved = self.names.hosts.iter().flat_map(|host| &host.addresses);
        self.addresses = self.names.beside.iter().chain(resolved).copied().collect();
        self.addresses.sort_unstable();
        self.addresses.dedup();
    }
}

/// A host name in its one form; `None` for what is none. The last label begins with a letter and has two characters, so that no slip of
/// an address passes for a name; there are two labels, since a name that means something on one machine alone is a slip too.
#[must_use]
pub fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| {
        let ends = !label.starts_with('-') && !label.ends_with('-');
        (1..=63).contains(&label.len()) && ends && label.bytes().all(inner)
    };
    let (_, last) = text.rsplit_once('.')?;
    let good = text.len() <= 253 && last.len() >= 2 && last.starts_with(|c: char| c.is_ascii_alphabetic()) && text.split('.').all(label);
    good.then(|| text.to_ascii_lowercase())
}

/// An address that a name server answered, as an address of a gateway. `None` where no gateway can be: a server that answers so is broken, or
/// somebody else answers for it.
#[must_use]
pub fn acceptable(answer: IpAddr) -> Option<IpNet> {
    let address = answer.to_canonical();
    let nowhere = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local(),
    };
    (!nowhere && !address.is_loopback() && !address.is_multicast()).then(|| IpNet::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_told_from_a_slip_of_an_address() {
        for (text, expected) in [
            ("sip.carrier.example", "sip.carrier.example"),
            ("SIP-1.Carrier.Example.", "sip-1.carrier.example"),
            ("_sip.203.example", "_sip.203.example"),
            ("x.xn--p1ai", "x.xn--p1ai"),
        ] {
            assert_eq!(host_name(text).as_deref(), Some(expected));
        }
        for text in [
            "",
            ".",
            "localhost",
            "203.0.113",
            "203.0.113.5",
            "203.0.113.x",
            "203.x.113.x",
            "203.0.113.5:5060",
            "203.0.113.7-9",
            "2001:db8::1",
            "300.1.1.1",
            "a..example",
            "-a.example",
            "a-.example",
            "a b.example",
            "sip.carrier.example:5060",
            "sip:carrier.example",
            "sip.carrier.example/24",
        ] {
            assert_eq!(host_name(text), None, "{text}");
        }
        assert_eq!(host_name(&format!("{}.example", "a".repeat(64))), None);
        assert_eq!(host_name(&format!("{}example", "a.".repeat(124))), None, "255 bytes");
    }

    #[test]
    fn only_where_a_gateway_can_be_is_taken_from_a_name_server() {
        for good in ["203.0.113.5", "10.0.0.1", "2001:db8::5", "fd00::1"] {
            assert_eq!(
                acceptable(good.parse().expect("an address")),
                Some(
                    format!("{good}/{}", if good.contains(':') { 128 } else { 32 })
                        .parse()
                        .expect("a network")
                )
            );
        }
        assert_eq!(
            acceptable("::ffff:203.0.113.5".parse().expect("an address")),
            Some("203.0.113.5/32".parse().expect("a network"))
        );
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.8.9.1",
            "224.0.0.1",
            "239.1.2.3",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
        ] {
            assert_eq!(acceptable(bad.parse().expect("an address")), None, "{bad}");
        }
    }
}
