//! An interface: whether it can carry the program, and whether it does.

use std::path::Path;

use super::{Finding, Site, read_number};
use crate::{
    config::XdpMode,
    datapath,
    netlink::{self, Link, XdpFeatures},
};

const CHECK: &str = "interface";
/// A page of 4,096 bytes less the room before the packet, the kernel's own data behind it, and an Ethernet header with a VLAN tag.
const ONE_BUFFER: u32 = 3_498;

pub(super) fn check(name: &str, site: &Site) -> Vec<Finding> {
    let found = netlink::links().map(|links| (links.iter().find(|link| link.name == name).cloned(), links));
    let (link, links) = match found {
        Ok((Some(link), links)) => (link, links),
        Ok((None, links)) => {
            let names: Vec<String> = links.into_iter().map(|link| link.name).collect();
            return vec![Finding::problem(
                CHECK,
                format!("there is no {name} in this network namespace"),
                format!("name one of: {}", names.join(", ")),
            )];
        }
        Err(error) => {
            return vec![Finding::unknown(
                CHECK,
                format!("{name}: the kernel does not answer ({error})"),
                "run as root",
            )];
        }
    };
    let features = netlink::xdp_features(link.index).ok();
    let offloads = netlink::offloads(link.index).ok();
    let vlans: Vec<&str> = links
        .iter()
        .filter(|other| other.kind.as_deref() == Some("vlan") && other.below == Some(link.index))
        .map(|other| other.name.as_str())
        .collect();
    let mut findings = vec![state(&link), program(&link, site)];
    findings.push(driver(&link, site.xdp_mode, features));
    findings.push(mtu(&link, site.xdp_mode, features));
    findings.push(offload(&link, site.xdp_mode, offloads.as_deref(), &vlans));
    findings
}

fn state(link: &Link) -> Finding {
    let name = &link.name;
    if !link.up {
        return Finding::problem(CHECK, format!("{name} is switched off"), format!("ip link set dev {name} up"));
    }
    if !link.carrier {
        return Finding::problem(CHECK, format!("{name} has no link"), "look at the cable and at the other end");
    }
    Finding::ok(CHECK, format!("{name} is up ({})", driver_name(link)))
}

/// Of a card from sysfs, if that shows the same interface.
fn driver_name(link: &Link) -> String {
    if let Some(kind) = &link.kind {
        return kind.clone();
    }
    let sys = Path::new("/sys/class/net").join(&link.name);
    if read_number(sys.join("ifindex")) != Some(u64::from(link.index)) {
        return "driver not known".to_owned();
    }
    std::fs::read_link(sys.join("device/driver"))
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .map_or_else(|| "no driver of a card".to_owned(), |driver| format!("driver {driver}"))
}

/// The program that is on it: of a running agent, as it says itself.
fn program(link: &Link, site: &Site) -> Finding {
    const CHECK: &str = "xdp";
    let name = &link.name;
    let Some(agent) = &site.agent else {
        return match datapath::preflight(name, &site.bpffs) {
            Ok(()) if link.xdp.is_some() => Finding::ok(CHECK, format!("{name}: our program of an earlier run, which goes on enforcing")),
            Ok(()) => Finding::ok(CHECK, format!("{name} has no other XDP program")),
            Err(error) => {
                let text = error.to_string();
                let (what, remedy) = text.split_once(';').unwrap_or((&text, "detach the other program"));
                Finding::problem(CHECK, what.to_owned(), remedy.trim().to_owned())
            }
        };
    };
    let attached = agent
        .interfaces
        .iter()
        .find(|one| one.name == *name)
        .map(|one| one.xdp_mode.as_str());
    match (attached, site.xdp_mode.label()) {
        (Some(found), wanted) if found == wanted => Finding::ok(CHECK, format!("{name}: our program, in {found} mode")),
        (Some("none") | None, _) => Finding::problem(
            CHECK,
            format!("{name} has no program of ours: nothing is enforced there"),
            "the agent's log says why it cannot attach; it tries again every second",
        ),
        (Some(found), wanted) => Finding::problem(
            CHECK,
            format!("{name}: our program is attached in {found} mode, the settings say {wanted}"),
            "restart the agent",
        ),
    }
}

/// Whether the driver runs programs itself.
fn driver(link: &Link, mode: XdpMode, features: Option<XdpFeatures>) -> Finding {
    let (name, running) = (&link.name, link.xdp.is_some());
    match (mode, features) {
        (XdpMode::Generic, Some(XdpFeatures { native: true, .. })) => Finding::ok(
            "driver",
            format!("{name} is to be used in generic mode; its driver could do native, which is faster"),
        ),
        (XdpMode::Generic, _) => Finding::ok("driver", format!("{name} is to be used in generic mode, which every driver can do")),
        (XdpMode::Native, Some(XdpFeatures { native: true, .. })) => {
            Finding::ok("driver", format!("{name} runs XDP programs in the driver (native)"))
        }
        (XdpMode::Native, Some(_)) => Finding::problem(
            "driver",
            format!("{name} ({}) cannot run XDP programs in the driver", driver_name(link)),
            "use --xdp-mode generic (slower), or the interface below it",
        ),
        (XdpMode::Native, None) if running => Finding::ok("driver", format!("{name} runs our program in the driver")),
        (XdpMode::Native, None) => Finding::unknown(
            "driver",
            format!(
                "{name} ({}): this kernel does not say what the driver can (6.3 does)",
                driver_name(link)
            ),
            "start the agent, which says so; where it cannot attach, use --xdp-mode generic",
        ),
    }
}

fn mtu(link: &Link, mode: XdpMode, features: Option<XdpFeatures>) -> Finding {
    let (name, mtu) = (&link.name, link.mtu);
    if mtu <= ONE_BUFFER || mode == XdpMode::Generic {
        return Finding::ok("mtu", format!("{name}: {mtu}"));
    }
    match features {
        Some(XdpFeatures { multi_buffer: true, .. }) => {
            Finding::ok("mtu", format!("{name}: {mtu}, and the driver takes frames of several buffers"))
        }
        Some(_) => Finding::problem(
            "mtu",
            format!("{name}: {mtu} does not fit into one buffer ({ONE_BUFFER}), and the driver has no frames of several for XDP"),
            format!("ip link set dev {name} mtu 1500 (at most {ONE_BUFFER}), or --xdp-mode generic"),
        ),
        None => Finding::unknown(
            "mtu",
            format!(
                "{name}: {mtu} does not fit into one buffer ({ONE_BUFFER}); this kernel does not say whether the driver can do with several"
            ),
            format!("if the agent cannot attach, ip link set dev {name} mtu 1500"),
        ),
    }
}

/// Offloads that hide packets from the program, or keep it from being attached.
fn offload(link: &Link, mode: XdpMode, on: Option<&[String]>, vlans: &[&str]) -> Finding {
    let name = &link.name;
    let Some(on) = on else {
        return Finding::unknown(
            "offloads",
            format!("{name}: they cannot be read"),
            format!("see `ethtool -k {name}`: large-receive-offload and rx-gro-hw should be off"),
        );
    };
    let is_on = |wanted: &str| on.iter().any(|name| name == wanted);
    let mut wrong = Vec::new();
    if mode == XdpMode::Native {
        if is_on("rx-lro") {
            wrong.push(("LRO joins packets, which XDP excludes", "lro"));
        }
        if is_on("rx-gro-hw") {
            wrong.push(("GRO in the card joins packets, which XDP excludes", "rx-gro-hw"));
        }
    }
    if is_on("rx-vlan-hw-parse") && !vlans.is_empty() {
        wrong.push(("the card takes VLAN tags off before the program sees them", "rxvlan"));
    }
    if wrong.is_empty() {
        return Finding::ok("offloads", format!("{name}: none that is in the way"));
    }
    let (what, switches): (Vec<&str>, Vec<&str>) = wrong.into_iter().unzip();
    let on_top = if switches.contains(&"rxvlan") {
        format!(" (there are {} on top)", vlans.join(", "))
    } else {
        String::new()
    };
    let switches: Vec<String> = switches.iter().map(|switch| format!("{switch} off")).collect();
    Finding::problem(
        "offloads",
        format!("{name}: {}{on_top}", what.join("; ")),
        format!("ethtool -K {name} {}, and after each boot", switches.join(" ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn link() -> Link {
        Link {
            index: 2,
            name: "eth0".to_owned(),
            up: true,
            carrier: true,
            mtu: 1500,
            kind: Some("veth".to_owned()),
            below: None,
            xdp: None,
        }
    }

    const PLAIN: XdpFeatures = XdpFeatures {
        native: true,
        multi_buffer: false,
    };

    #[test]
    fn a_jumbo_mtu_needs_a_driver_with_several_buffers() {
        let jumbo = Link { mtu: 9000, ..link() };
        let several = XdpFeatures {
            multi_buffer: true,
            ..PLAIN
        };
        for (link, mode, features, expected) in [
            (&link(), XdpMode::Native, Some(PLAIN), State::Ok),
            (&jumbo, XdpMode::Native, Some(PLAIN), State::Problem),
            (&jumbo, XdpMode::Native, Some(several), State::Ok),
            (&jumbo, XdpMode::Native, None, State::Unknown),
            (&jumbo, XdpMode::Generic, Some(PLAIN), State::Ok),
        ] {
            assert_eq!(mtu(link, mode, features).state, expected, "{} {mode:?} {features:?}", link.mtu);
        }
    }

    #[test]
    fn an_offload_that_is_in_the_way_is_named_with_its_switch() {
        let on = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = |names: &[&str], mode, vlans: &[&str]| offload(&link(), mode, Some(&on(names)), vlans);
        assert_eq!(found(&["rx-gro", "rx-checksum"], XdpMode::Native, &[]).state, State::Ok);
        let lro = found(&["rx-lro"], XdpMode::Native, &[]);
        assert!(lro.remedy.is_some_and(|remedy| remedy.contains("ethtool -K eth0 lro off")));
        assert_eq!(found(&["rx-lro"], XdpMode::Generic, &[]).state, State::Ok, "the stack undoes it");
        assert_eq!(
            found(&["rx-vlan-hw-parse"], XdpMode::Native, &[]).state,
            State::Ok,
            "no tags, nothing to lose"
        );
        let vlan = found(&["rx-vlan-hw-parse"], XdpMode::Native, &["eth0.100"]);
        assert!(vlan.state == State::Problem && vlan.text.contains("eth0.100"), "{vlan:?}");
        assert_eq!(offload(&link(), XdpMode::Native, None, &[]).state, State::Unknown);
    }

    #[test]
    fn a_driver_without_xdp_is_a_problem_in_native_mode_only() {
        let none = XdpFeatures {
            native: false,
            multi_buffer: false,
        };
        assert_eq!(driver(&link(), XdpMode::Native, Some(none)).state, State::Problem);
        assert_eq!(driver(&link(), XdpMode::Generic, Some(none)).state, State::Ok);
        assert_eq!(driver(&link(), XdpMode::Native, Some(PLAIN)).state, State::Ok);
        assert_eq!(state(&Link { carrier: false, ..link() }).state, State::Problem);
    }
}
