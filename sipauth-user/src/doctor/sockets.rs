//! Who listens: the softswitch on the protected ports, and nobody but the agent on the agent's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Finding, Site, ranges, read};

const CHECK: &str = "softswitch";

/// A socket that takes what nobody else has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
}

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let (udp, tcp) = (listeners("udp"), listeners("tcp"));
    let (Some(udp), Some(tcp)) = (udp, tcp) else {
        return vec![Finding::unknown(
            CHECK,
            "/proc/net cannot be read, so it is not known who listens",
            "run it as root, where /proc is mounted",
        )];
    };
    let mut findings: Vec<Finding> = site.ports.iter().map(|port| softswitch(*port, &udp, &tcp)).collect();
    findings.push(own_ports(site, &udp, &tcp));
    findings.push(reserved(site));
    findings
}

fn softswitch(port: u16, udp: &[Listener], tcp: &[Listener]) -> Finding {
    let at = |all: &[Listener]| -> Vec<IpAddr> { all.iter().filter(|one| one.port == port).map(|one| one.address).collect() };
    let (udp, tcp) = (at(udp), at(tcp));
    let (transports, all) = match (udp.is_empty(), tcp.is_empty()) {
        (true, true) => {
            return Finding::problem(
                CHECK,
                format!("nobody listens on port {port}, neither UDP nor TCP"),
                "start the softswitch, or protect the port that it listens on (`port`)",
            );
        }
        (false, true) => ("UDP", udp),
        (true, false) => ("TCP", tcp),
        (false, false) => ("UDP and TCP", [udp, tcp].concat()),
    };
    if all.iter().all(IpAddr::is_loopback) {
        return Finding::problem(
            CHECK,
            format!("port {port} is listened on at {} only, where no gateway can reach it", all[0]),
            "have the softswitch listen on the address that the gateways call",
        );
    }
    let only = if transports == "UDP" {
        "; calls over TCP will find nobody"
    } else {
        ""
    };
    Finding::ok(CHECK, format!("listens on port {port}, {transports}{only}"))
}

/// The punt ports: free before the first run, the agent's afterwards.
fn own_ports(site: &Site, udp: &[Listener], tcp: &[Listener]) -> Finding {
    let taken: Vec<u16> = site
        .punt
        .iter()
        .filter(|port| udp.iter().chain(tcp).any(|one| one.port == **port))
        .copied()
        .collect();
    let text = super::ranges_text(&site.punt);
    match (&site.agent, taken.is_empty()) {
        (None, true) => Finding::ok("agent-ports", format!("{text} are free for the agent")),
        (None, false) => Finding::problem(
            "agent-ports",
            format!("{} of the agent's ports are taken by another program", super::ranges_text(&taken)),
            "end that program (`ss -lunpt` names it), or choose other ports with `punt-port`",
        ),
        (Some(_), false) => Finding::ok("agent-ports", format!("the agent listens on {text}")),
        (Some(_), true) => Finding::problem(
            "agent-ports",
            format!("the agent answers, but nobody listens on {text}"),
            "restart the agent; where it runs in another network namespace, run doctor there",
        ),
    }
}

/// Ports that the kernel gives to outgoing connections must not be the agent's: after a restart they might be taken.
fn reserved(site: &Site) -> Finding {
    const CHECK: &str = "agent-ports";
    let Some(range) = read("/proc/sys/net/ipv4/ip_local_port_range") else {
        return Finding::unknown(
            CHECK,
            "ip_local_port_range cannot be read",
            "see `sysctl net.ipv4.ip_local_port_range`",
        );
    };
    let mut bounds = range.split_whitespace().filter_map(|text| text.parse::<u16>().ok());
    let (Some(first), Some(last)) = (bounds.next(), bounds.next()) else {
        return Finding::unknown(
            CHECK,
            "ip_local_port_range cannot be read",
            "see `sysctl net.ipv4.ip_local_port_range`",
        );
    };
    let reserved = read("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let exposed: Vec<u16> = site
        .punt
        .iter()
        .chain(&site.ports)
        .filter(|port| (first..=last).contains(port) && !is_reserved(&reserved, **port))
        .copied()
        .collect();
    if exposed.is_empty() {
        return Finding::ok(CHECK, format!("outside the range of outgoing connections, {first}-{last}"));
    }
    let text: Vec<String> = ranges(&exposed)
        .into_iter()
        .map(|(first, last)| format!("{first}-{last}"))
        .collect();
    Finding::problem(
        CHECK,
        format!(
            "{} may be taken by an outgoing connection before the agent or the softswitch starts",
            super::ranges_text(&exposed)
        ),
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", text.join(",")),
    )
}

/// Whether the kernel's list (`1,5-9`) has the port.
fn is_reserved(list: &str, port: u16) -> bool {
    list.split(',').any(|one| {
        let (first, last) = one.split_once('-').unwrap_or((one, one));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

/// All of a protocol, of both families.
fn listeners(protocol: &str) -> Option<Vec<Listener>> {
    let file = |suffix: &str| read(format!("/proc/thread-self/net/{protocol}{suffix}"));
    let mut found = parse(&file("")?);
    // Absent where IPv6 is switched off.
    found.extend(file("6").map(|text| parse(&text)).unwrap_or_default());
    Some(found)
}

/// Of /proc/net/udp or tcp: unconnected sockets (UDP: state 07, TCP: 0A).
fn parse(text: &str) -> Vec<Listener> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            matches!(state, "07" | "0A").then_some(())?;
            let (address, port) = local.split_once(':')?;
            Some(Listener {
                address: parse_address(address)?,
                port: u16::from_str_radix(port, 16).ok()?,
            })
        })
        .collect()
}

/// Words as the machine holds them in memory.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, bytes) in octets.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    const UDP: &str = "  sl  local_address rem_address   st tx_queue\n  10: 0100007F:13C4 00000000:0000 07 0:0\n  \
        11: 0A7100CB:13C4 00000000:0000 07 0:0\n 12: 0A7100CB:13D8 1571 00CB:13C4 01 0:0\n";

    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let found = parse(UDP);
        assert_eq!(found.len(), 2, "the connected one takes from its peer only: {found:?}");
        assert_eq!(found[1].address.to_string(), "203.0.113.10");
        assert_eq!(found[1].port, 5060);
        let six = parse("x\n 0: 00000000000000000000000000000000:13C4 0:0 0A 0\n");
        assert!(six[0].address.is_unspecified(), "{six:?}");
    }

    #[test]
    fn a_softswitch_that_nobody_can_reach_is_a_problem() {
        let loopback = Listener {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 5060,
        };
        let real = Listener {
            address: Ipv4Addr::UNSPECIFIED.into(),
            ..loopback
        };
        assert_eq!(softswitch(5060, &[], &[]).state, State::Problem);
        assert_eq!(softswitch(5060, &[loopback], &[]).state, State::Problem);
        assert_eq!(softswitch(5061, &[real], &[]).state, State::Problem);
        let found = softswitch(5060, &[loopback, real], &[]);
        assert!(found.state == State::Ok && found.text.contains("TCP will find nobody"), "{found:?}");
    }

    #[test]
    fn reserved_ports_are_a_list_of_ranges() {
        assert!(is_reserved("8080,61060-61063", 61_062) && is_reserved("61060", 61_060));
        assert!(!is_reserved("", 5060) && !is_reserved("61060-61063", 61_064));
    }
}
