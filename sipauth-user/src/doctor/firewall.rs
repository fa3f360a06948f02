//! The host's own firewall. It sees what is handed to the agent with the agent's ports as destination, and what the agent admits on its way over lo.

mod rules;

use std::process::{Command, Stdio};

use self::rules::{Fate, Packet, Ruleset};
use super::{Finding, Site, ranges, ranges_text, read};

const CHECK: &str = "firewall";

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let mut findings = Vec::new();
    if legacy_in_use() {
        findings.push(legacy(site));
    }
    findings.push(match ruleset() {
        Ok(rules) => judge(&rules, site),
        Err(why) => Finding::unknown(
            CHECK,
            format!("the rules of nftables cannot be read: {why}"),
            format!("see that the firewall lets in the ports {}, UDP and TCP", ranges_text(&site.punt)),
        ),
    });
    findings
}

/// The rules in force in this network namespace, iptables-nft's among them.
fn ruleset() -> Result<Ruleset, String> {
    let output = Command::new("nft")
        .args(["-j", "list", "ruleset"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "nft is not installed (package nftables)".to_owned(),
            _ => error.to_string(),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().next().unwrap_or("nft failed").to_owned());
    }
    Ruleset::parse(&output.stdout).ok_or_else(|| "nft answers in a form that is not known here".to_owned())
}

/// What the rules do to the three kinds of packets that have to get through.
fn judge(rules: &Ruleset, site: &Site) -> Finding {
    if rules.is_empty() {
        return Finding::ok(CHECK, "no rule drops anything on its way in (nftables)");
    }
    let mut doubts = None;
    let arriving = site
        .interfaces
        .iter()
        .flat_map(|name| site.punt.iter().map(move |port| (name.as_str(), *port)));
    let direct = site
        .interfaces
        .iter()
        .flat_map(|name| site.ports.iter().map(move |port| (name.as_str(), *port)));
    let released = site.ports.iter().map(|port| ("lo", *port));
    for (what, ports, packets) in [
        ("hands to the agent", &site.punt, arriving.collect::<Vec<_>>()),
        ("passes to the softswitch", &site.ports, direct.collect()),
        ("admits by password (it goes on over lo)", &site.ports, released.collect()),
    ] {
        // Which gateways may send to the softswitch's port was the operator's choice before sipauth was there.
        let doubtful = what != "passes to the softswitch";
        let Some((fate, transports)) = worst(rules, &packets) else {
            continue;
        };
        match fate {
            Fate::Accepted => {}
            Fate::Dropped(by) => {
                return Finding::problem(
                    CHECK,
                    format!("{by} drops what sipauth {what}: {transports} to {}", ranges_text(ports)),
                    remedy(rules, ports, packets.first().map_or("", |(name, _)| name)),
                );
            }
            Fate::Depends(by) if doubtful && doubts.is_none() => {
                doubts = Some(Finding::unknown(
                    CHECK,
                    format!(
                        "whether what sipauth {what} gets through ({transports} to {}) depends on {by}",
                        ranges_text(ports)
                    ),
                    remedy(rules, ports, packets.first().map_or("", |(name, _)| name)),
                ));
            }
            Fate::Depends(_) => {}
        }
    }
    doubts.unwrap_or_else(|| {
        Finding::ok(
            CHECK,
            format!(
                "lets in the agent's ports ({}) and the softswitch's (nftables)",
                ranges_text(&site.punt)
            ),
        )
    })
}

/// The worst fate of any of these, and of which transports.
fn worst(rules: &Ruleset, packets: &[(&str, u16)]) -> Option<(Fate, String)> {
    let mut found: Option<(Fate, Vec<&str>)> = None;
    for (transport, tcp) in [("UDP", false), ("TCP", true)] {
        let fates = packets.iter().flat_map(|(interface, port)| {
            [false, true].map(|ipv6| {
                rules.fate(&Packet {
                    interface,
                    ipv6,
                    tcp,
                    port: *port,
                })
            })
        });
        let Some(fate) = fates.max_by_key(Fate::severity) else { continue };
        match &mut found {
            Some((worst, transports)) if worst.severity() == fate.severity() => transports.push(transport),
            Some((worst, _)) if worst.severity() > fate.severity() => {}
            _ => found = Some((fate, vec![transport])),
        }
    }
    found.map(|(fate, transports)| (fate, transports.join(" and ")))
}

/// A rule in front of the others.
fn remedy(rules: &Ruleset, ports: &[u16], interface: &str) -> String {
    let chain = rules.input_chain().unwrap_or_else(|| "inet filter input".to_owned());
    if interface == "lo" {
        return format!("nft insert rule {chain} iifname lo accept, and put it into /etc/nftables.conf or your firewall's own files");
    }
    let list = ranges(ports)
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect::<Vec<_>>();
    let set = if list.len() == 1 {
        list.join("")
    } else {
        format!("{{ {} }}", list.join(", "))
    };
    format!(
        "nft insert rule {chain} meta l4proto {{ tcp, udp }} th dport {set} accept, and put it into /etc/nftables.conf or your firewall's own files"
    )
}

/// iptables of old keeps its rules where nft does not see them.
fn legacy_in_use() -> bool {
    ["ip_tables_names", "ip6_tables_names"]
        .iter()
        .any(|file| read(format!("/proc/thread-self/net/{file}")).is_some_and(|text| text.lines().any(|table| table == "filter")))
}

fn legacy(site: &Site) -> Finding {
    let remedy = format!(
        "iptables -I INPUT -p udp -m multiport --dports {0} -j ACCEPT, the same with -p tcp, and with ip6tables",
        ranges(&site.punt)
            .iter()
            .map(|(first, last)| format!("{first}:{last}"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let saved = ["iptables-legacy-save", "iptables-save"].iter().find_map(|program| {
        let output = Command::new(program).args(["-t", "filter"]).stdin(Stdio::null()).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let Some(saved) = saved else {
        return Finding::unknown(CHECK, "rules of iptables are in force, which cannot be read", remedy);
    };
    read_legacy(&saved, site, remedy)
}

fn read_legacy(saved: &str, site: &Site, remedy: String) -> Finding {
    let drops = saved.lines().any(|line| line.starts_with(":INPUT DROP"));
    let rules: Vec<&str> = saved.lines().filter(|line| line.starts_with("-A INPUT")).collect();
    let named = site.punt.iter().all(|port| rules.iter().any(|rule| names(rule, *port)));
    match (drops, rules.is_empty()) {
        (false, true) => Finding::ok(CHECK, "no rule of iptables drops anything on its way in"),
        (true, _) if !named => Finding::problem(
            CHECK,
            format!(
                "iptables drops what no rule of INPUT admits, and none names the agent's ports {}",
                ranges_text(&site.punt)
            ),
            remedy,
        ),
        _ if named => Finding::ok(CHECK, "a rule of iptables names the agent's ports"),
        _ => Finding::unknown(
            CHECK,
            format!(
                "rules of iptables in INPUT: whether they admit {} was not looked into",
                ranges_text(&site.punt)
            ),
            remedy,
        ),
    }
}

/// Whether a rule has the port among its destination ports.
fn names(rule: &str, port: u16) -> bool {
    let mut words = rule.split_whitespace();
    let Some(list) = words
        .find(|word| *word == "--dport" || *word == "--dports")
        .and_then(|_| words.next())
    else {
        return false;
    };
    list.split(',').any(|one| {
        let (first, last) = one.split_once(':').unwrap_or((one, one));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

#[cfg(test)]
mod tests;
