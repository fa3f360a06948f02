//! What the network stack does to packets on their way: the check of source addresses, and connection tracking.

use std::{fs::File, net::IpAddr};

use nix::sched::{CloneFlags, setns};

use super::{Finding, Site, one_of, read, read_number};
use crate::netlink;

/// Addresses of gateways for which the way back is looked up.
const MOST: usize = 1_000;
/// Used only to ask for the way to the world at large (RFC 5737).
const ANYWHERE: [u8; 4] = [192, 0, 2, 1];

/// Goes to where the agent is. What it cannot see from there it would take for missing.
pub(super) fn enter(site: &Site) -> Option<Finding> {
    let pid = site.pid()?;
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let Some(theirs) = namespace(&pid.to_string()) else {
        return Some(Finding::unknown(
            "namespace",
            "whether the agent is in this network namespace cannot be seen: what follows is about this one",
            "run it as root",
        ));
    };
    if namespace("thread-self") == Some(theirs) {
        return None;
    }
    let entered = File::open(format!("/proc/{pid}/ns/net")).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
    Some(match entered {
        Ok(()) => Finding::ok(
            "namespace",
            "the agent is in another network namespace, which was entered for what follows",
        ),
        Err(error) => Finding::unknown(
            "namespace",
            format!("the agent is in another network namespace, which cannot be entered ({error}): what follows is about this one"),
            format!("nsenter --net=/proc/{pid}/ns/net sipauth doctor, as root"),
        ),
    })
}

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let mut findings: Vec<Finding> = site.interfaces.iter().map(|name| reverse_path(name, site)).collect();
    findings.push(conntrack());
    findings.extend(helper());
    findings
}

/// `rp_filter` 1 drops what comes in by another interface than answers would go out by.
fn reverse_path(name: &str, site: &Site) -> Finding {
    const CHECK: &str = "rp_filter";
    let setting = |name: &str| read_number(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    let (Some(all), Some(own)) = (setting("all"), setting(name)) else {
        return Finding::unknown(
            CHECK,
            format!("{name}: it cannot be read"),
            format!("see `sysctl net.ipv4.conf.{name}.rp_filter`"),
        );
    };
    // The kernel takes the larger of the two.
    let value = all.max(own);
    if value != 1 {
        let text = if value == 0 { "off" } else { "loose" };
        return Finding::ok(CHECK, format!("{name}: {text}"));
    }
    let remedy = format!(
        "route them by the interface that they arrive on, or sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{name}.rp_filter=2"
    );
    match elsewhere(site) {
        Err(error) => Finding::unknown(CHECK, format!("{name}: strict, and the routes cannot be read ({error})"), remedy),
        Ok(lost) if !lost.is_empty() => Finding::problem(
            CHECK,
            format!(
                "{name}: strict, and answers to {} leave by another interface: what these gateways send here is dropped",
                shortened(&lost)
            ),
            remedy,
        ),
        Ok(_) if way(ANYWHERE.into(), site).is_ok_and(|here| here) => {
            Finding::ok(CHECK, format!("{name}: strict, and answers leave by where requests arrive"))
        }
        Ok(_) => Finding::unknown(
            CHECK,
            format!("{name}: strict, and the default route leads elsewhere: gateways that have no other route are dropped"),
            remedy,
        ),
    }
}

/// Gateways to which answers leave by an interface that is not among the protected ones.
fn elsewhere(site: &Site) -> std::io::Result<Vec<String>> {
    let mut lost = Vec::new();
    let addresses = site.agent.iter().flat_map(|agent| &agent.addresses);
    for net in addresses.filter(|net| net.addr().is_ipv4()).take(MOST) {
        if !way(one_of(net), site)? {
            lost.push(net.to_string());
        }
    }
    Ok(lost)
}

/// Whether answers to an address leave by a protected interface.
fn way(address: IpAddr, site: &Site) -> std::io::Result<bool> {
    let Some(index) = netlink::way_to(address)? else { return Ok(false) };
    netlink::link(index).map(|link| site.interfaces.contains(&link.name))
}

fn shortened(all: &[String]) -> String {
    match all.split_at_checked(3) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => all.join(", "),
    }
}

fn conntrack() -> Finding {
    const CHECK: &str = "conntrack";
    let at = |name: &str| read_number(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
    let (Some(count), Some(max)) = (at("count"), at("max")) else {
        return Finding::ok(CHECK, "not in use");
    };
    let dropped = read("/proc/thread-self/net/stat/nf_conntrack").map_or(0, |text| dropped(&text));
    let sip = read("/proc/thread-self/net/nf_conntrack").map(|text| entries(&text));
    table(count, max, dropped, sip)
}

fn table(count: u64, max: u64, dropped: u64, sip: Option<usize>) -> Finding {
    const CHECK: &str = "conntrack";
    let remedy = format!(
        "sysctl -w net.netfilter.nf_conntrack_max={}, or leave SIP out of it: `udp dport 5060 notrack` in a raw chain",
        max.saturating_mul(4)
    );
    if max > 0 && count >= max / 10 * 9 {
        return Finding::problem(
            CHECK,
            format!("{count} of {max} entries are in use: new calls are dropped when it is full"),
            remedy,
        );
    }
    if dropped > 0 {
        return Finding::unknown(
            CHECK,
            format!("it has dropped {dropped} packets since the boot; {count} of {max} entries are in use"),
            remedy,
        );
    }
    let sip = sip.map(|count| format!(", {count} of SIP")).unwrap_or_default();
    Finding::ok(CHECK, format!("{count} of {max} entries are in use{sip}"))
}

/// Packets that found no room, of /proc/net/stat/nf_conntrack: a row a CPU, in hex.
fn dropped(text: &str) -> u64 {
    let mut lines = text.lines();
    let Some(column) = lines
        .next()
        .and_then(|names| names.split_whitespace().position(|name| name == "drop"))
    else {
        return 0;
    };
    let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    lines.filter_map(value).sum()
}

fn entries(text: &str) -> usize {
    text.lines()
        .filter(|line| line.contains("dport=5060 ") || line.contains("sport=5060 "))
        .count()
}

/// The kernel's SIP helper rewrites addresses in messages, and with them what a digest was made of.
fn helper() -> Option<Finding> {
    let modules = read("/proc/modules")?;
    let loaded = modules.lines().any(|line| line.starts_with("nf_nat_sip "));
    loaded.then(|| {
        Finding::unknown(
            "conntrack",
            "the SIP helper of the kernel (nf_nat_sip) is loaded: where a rule uses it, it rewrites messages, and digests fail",
            "modprobe -r nf_nat_sip nf_conntrack_sip, unless you need it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_table_that_is_nearly_full_is_a_problem() {
        assert_eq!(table(10, 1_000, 0, Some(3)).state, State::Ok);
        assert_eq!(table(950, 1_000, 0, None).state, State::Problem);
        assert_eq!(table(10, 1_000, 4, None).state, State::Unknown);
        assert_eq!(table(0, 0, 0, None).state, State::Ok);
    }

    #[test]
    fn drops_are_added_over_all_cpus() {
        let text = "entries  clashres found drop early_drop\n00000001  00000000 00000000 0000000a 00000000\n00000001 0 0 00000010 0\n";
        assert_eq!(dropped(text), 26);
        assert_eq!(dropped(""), 0);
    }
}
