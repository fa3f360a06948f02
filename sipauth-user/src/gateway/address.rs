//! Addresses of gateways: from text to their canonical form, and back.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::{GatewayError, MAX_ENTRIES};

/// A network as operators write it: a single address without its prefix length.
#[must_use]
pub fn address_text(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// The addresses of a gateway in canonical form, sorted, without repetitions.
pub(super) fn parse_all(gateway: &str, texts: &[String]) -> Result<Vec<IpNet>, GatewayError> {
    if texts.len() > MAX_ENTRIES {
        return Err(GatewayError::TooMany {
            gateway: gateway.to_owned(),
            what: "addresses",
        });
    }
    let mut addresses = texts
        .iter()
        .map(|text| parse(gateway, text.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
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
