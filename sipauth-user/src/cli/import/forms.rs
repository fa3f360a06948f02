//! Addresses as other products write them: VOS3000, GoIP, Kamailio's `address` table.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpSubnets, Ipv4Subnets, Ipv6Subnets};

use crate::gateway::host_name;

/// More prefixes than this for one range is a slip.
const MOST: usize = 256;

/// Single addresses, prefixes, host names, `1.2.3.x` and `1.2.3.*`, ranges `a-b` and `1.2.3.4-20`, several of them between commas, semicolons or
/// white space; each as [`crate::gateway::RawGateway`] takes it.
///
/// # Errors
/// Names the part that is none of these.
pub(super) fn addresses(text: &str) -> Result<Vec<String>, String> {
    let parts = text.split(|c: char| c == ',' || c == ';' || c.is_whitespace());
    let mut all = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        if let Some(prefix) = wildcard(part) {
            all.push(prefix);
        } else if let Some(name) = host_name(part) {
            all.push(name);
        } else if let Some((first, last)) = part.split_once('-') {
            all.extend(range(first, last).ok_or_else(|| {
                format!("{part:?} is not a range of addresses; write it like 203.0.113.8-203.0.113.15, the lower one first, or as a prefix")
            })?);
        } else if part.parse::<IpAddr>().is_ok() || part.parse::<ipnet::IpNet>().is_ok() {
            all.push(part.to_owned());
        } else {
            return Err(format!(
                "{part:?} is not an address; write it like 203.0.113.5, 203.0.113.0/24, 203.0.113.x, 203.0.113.8-203.0.113.15 or sip.carrier.example"
            ));
        }
    }
    Ok(all)
}

/// `1.2.3.x`, `1.2.x.x`, `1.*.*.*`: only the last parts may be open.
fn wildcard(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('.').collect();
    let open = |part: &&str| matches!(*part, "x" | "X" | "*");
    let fixed = parts.iter().position(open)?;
    if parts.len() != 4 || fixed == 0 || !parts[fixed..].iter().all(open) {
        return None;
    }
    let mut octets = [0; 4];
    for (octet, part) in octets.iter_mut().zip(&parts[..fixed]) {
        *octet = part.parse().ok()?;
    }
    Some(format!("{}/{}", Ipv4Addr::from(octets), fixed * 8))
}

fn range(first: &str, last: &str) -> Option<Vec<String>> {
    let subnets = match (first.parse().ok()?, last) {
        (IpAddr::V4(first), last) => {
            let last = match last.parse() {
                Ok(last) => last,
                Err(_) => {
                    let [a, b, c, _] = first.octets();
                    Ipv4Addr::new(a, b, c, last.parse().ok()?)
                }
            };
            (first <= last).then(|| IpSubnets::V4(Ipv4Subnets::new(first, last, 0)))?
        }
        (IpAddr::V6(first), last) => {
            let last = last.parse().ok()?;
            (first <= last).then(|| IpSubnets::V6(Ipv6Subnets::new(first, last, 0)))?
        }
    };
    let prefixes: Vec<String> = subnets.take(MOST + 1).map(|net| net.to_string()).collect();
    (prefixes.len() <= MOST).then_some(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_other_products_are_read() {
        for (text, expected) in [
            ("203.0.113.5", &["203.0.113.5"][..]),
            (
                "203.0.113.5; 198.51.100.0/24,2001:db8::/32",
                &["203.0.113.5", "198.51.100.0/24", "2001:db8::/32"],
            ),
            ("203.0.113.x", &["203.0.113.0/24"]),
            ("203.0.*.*", &["203.0.0.0/16"]),
            ("203.0.113.8-203.0.113.15", &["203.0.113.8/29"]),
            ("203.0.113.7-9", &["203.0.113.7/32", "203.0.113.8/31"]),
            ("2001:db8::-2001:db8::1", &["2001:db8::/127"]),
            ("sip-1.Carrier.example; 203.0.113.5", &["sip-1.carrier.example", "203.0.113.5"]),
            ("  ", &[]),
        ] {
            assert_eq!(addresses(text), Ok(expected.iter().map(ToString::to_string).collect()), "{text}");
        }
        for wrong in [
            "203.0.113",
            "x.0.0.1",
            "203.x.113.x",
            "203.0.113.9-7",
            "203.0.113.9-2001:db8::1",
            "host",
            "host.example:5060",
        ] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }
}
