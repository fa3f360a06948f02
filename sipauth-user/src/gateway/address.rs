//! Addresses of gateways: from text to their canonical form, and back.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::{GatewayError, HostName, MAX_ENTRIES, MAX_NAMES, Names, host_name};

/// A network as operators write it: a single address without its prefix length.
#[must_use]
pub fn address_text(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// The addresses of a gateway in canonical form, sorted, without repetitions, and the host names among them.
pub(super) fn parse_all(gateway: &str, texts: &[String]) -> Result<(Vec<IpNet>, Names), GatewayError> {
    if texts.len() > MAX_ENTRIES {
        return Err(GatewayError::TooMany {
            gateway: gateway.to_owned(),
            what: "addresses",
        });
    }
    let (mut addresses, mut hosts) = (Vec::with_capacity(texts.len()), Vec::new());
    for text in texts {
        match host_name(text.trim()) {
            Some(name) => hosts.push(HostName {
                name,
                addresses: Vec::new(),
            }),
            None => addresses.push(parse(gateway, text.trim())?),
        }
    }
    if hosts.len() > MAX_NAMES {
        return Err(GatewayError::TooManyNames {
            gateway: gateway.to_owned(),
        });
    }
    addresses.sort_unstable();
    addresses.dedup();
    let names = Names::new(hosts, &addresses);
    Ok((addresses, names))
}

/// One address or prefix, in canonical form.
fn parse(gateway: &str, text: &str) -> Result<IpNet, GatewayError> {
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip.to_canonical()),
        Err(_) => {
            let net: IpNet = text.parse().map_err(|_| GatewayError::Address {
                gateway: gateway.to_owned(),
                text: text.chars().take(64).collect(),
            })?;
            unmap(net)
        }
    };
    if net != net.trunc() {
        return Err(GatewayError::HostBits {
            gateway: gateway.to_owned(),
            text: text.to_owned(),
            network: net.trunc(),
            host: net.addr(),
        });
    }
    let single = net.prefix_len() == net.max_prefix_len();
    let broadcast = matches!(net.addr(), IpAddr::V4(v4) if v4.is_broadcast());
    if net.addr().is_multicast() || single && (net.addr().is_unspecified() || broadcast) {
        return Err(GatewayError::NotASource {
            gateway: gateway.to_owned(),
            text: text.to_owned(),
        });
    }
    Ok(net)
}

/// An IPv6 prefix of IPv4-mapped addresses as the IPv4 prefix that it stands for: packets carry the latter.
fn unmap(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Ok(net) = Ipv4Net::new(v4, length)
    {
        return IpNet::V4(net);
    }
    net
}
