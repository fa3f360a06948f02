//! `cargo xtask setup`: finds what is missing to build, run and test sipauth, and installs it. Every other task calls
//! [`ensure`], so a look round that finds nothing missing must take no time and say nothing.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::shell::{find_program, is_root, note};

mod apt;
pub(crate) mod compiler;

/// What the caller is about to do; each purpose includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Compile the kernel program and the agent.
    Build,
    /// Check formatting and lints, fuzz.
    Lint,
    /// Make a Debian package.
    Dist,
    /// Run agent and SIP peers in network namespaces.
    Lab,
    /// Run the other SIP programs there as well, which bring many libraries along.
    Peers,
    /// Install the package in a root of its own.
    Package,
    /// Boot another kernel in a virtual machine.
    Vm,
}

/// A program of the distribution: it is there when `program` is.
struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
    purpose: Purpose,
}

const fn tool(program: &'static str, package: &'static str, purpose: Purpose, why: &'static str) -> Tool {
    Tool {
        program,
        package,
        why,
        purpose,
    }
}

const TOOLS: &[Tool] = &[
    tool("gcc", "gcc libc6-dev", Purpose::Build, "compiles SQLite and links"),
    tool("c++", "g++", Purpose::Lint, "compiles the fuzzer's engine"),
    tool("dpkg-shlibdeps", "dpkg-dev", Purpose::Dist, "finds out what the package depends on"),
    tool("ip", "iproute2", Purpose::Lab, "network namespaces of the lab"),
    tool(
        "sipp",
        "sip-tester",
        Purpose::Lab,
        "SIPp, the softswitch and the gateways of the lab",
    ),
    tool(
        "kamailio",
        "kamailio",
        Purpose::Peers,
        "softswitch and border controller of the lab, and what calls are measured against",
    ),
    tool("baresip", "baresip-core", Purpose::Peers, "a softphone of the lab"),
    tool("linphonec", "linphone-cli", Purpose::Peers, "another softphone of the lab"),
    tool("sipsak", "sipsak", Purpose::Peers, "single requests in the lab"),
    tool("chromium", "chromium", Purpose::Peers, "looks at the console in the lab"),
    tool(
        "promtool",
        "prometheus",
        Purpose::Peers,
        "scrapes the agent in the lab, and checks the alert rules",
    ),
    tool("ethtool", "ethtool", Purpose::Peers, "sets up the links of measurements"),
    tool(
        "xdp-filter",
        "xdp-tools",
        Purpose::Peers,
        "what refusing packets is measured against",
    ),
    tool("ipset", "ipset", Purpose::Peers, "likewise"),
    tool("iptables", "iptables", Purpose::Peers, "likewise"),
    // The package of the program alone: that of the service is `dnsmasq`.
    tool("dnsmasq", "dnsmasq-base", Purpose::Lab, "the name server of the lab"),
    tool("nft", "nftables", Purpose::Lab, "the NAT of the lab"),
    tool("tcpdump", "tcpdump", Purpose::Lab, "captures of lab traffic"),
    tool("bpftool", "bpftool", Purpose::Lab, "shows programs and maps"),
    tool("curl", "curl", Purpose::Lab, "asks the agent for its metrics"),
    tool(
        "systemd-nspawn",
        "systemd-container",
        Purpose::Package,
        "boots that Debian in the lab",
    ),
    tool(
        "debootstrap",
        "debootstrap",
        Purpose::Package,
        "makes a clean Debian to install the package in",
    ),
    tool("qemu-system-x86_64", "qemu-system-x86", Purpose::Vm, "runs another kernel"),
    tool("busybox", "busybox-static", Purpose::Vm, "the shell inside the VM"),
    tool("cpio", "cpio", Purpose::Vm, "packs the VM's file system"),
    tool("strip", "binutils", Purpose::Dist, "makes binaries smaller"),
    tool("xz", "xz-utils", Purpose::Vm, "unpacks kernel modules"),
];

/// Packages that start a service when they are installed, and at every boot, of which only the program is wanted.
/// On a system without systemd, Debian's script starts Kamailio only where /etc/default says so.
const SERVICES: &[(&str, &str)] = &[("kamailio", "kamailio.service"), ("prometheus", "prometheus.service")];

/// `cargo xtask setup`: everything, and a line when nothing was missing.
pub(crate) fn run() -> Result<()> {
    ensure(Purpose::Vm)?;
    println!("Ready: {}, bpf-linker, and all test peers and tools.", compiler::describe()?);
    Ok(())
}

/// Installs what `purpose` lacks; silent when nothing is missing.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS
        .iter()
        .filter(|tool| tool.purpose <= purpose && find_program(tool.program).is_none())
        .collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.package.split(' ')).collect();
        note("Missing programs:");
        for tool in &missing {
            note(&format!("  {:<20} {} (package {})", tool.program, tool.why, tool.package));
        }
        for (_, unit) in SERVICES.iter().filter(|(package, _)| packages.contains(package) && is_root()) {
            if mask(unit, Path::new("/etc/systemd/system"))? {
                note(&format!(
                    "Masked {unit}: only the program is wanted (to undo: systemctl unmask {unit})"
                ));
            }
        }
        apt::install(&packages)?;
        for (package, _) in SERVICES.iter().filter(|(package, _)| packages.contains(package)) {
            apt::disable(package);
        }
    }
    compiler::ensure()?;
    if purpose == Purpose::Lint {
        compiler::ensure_lint_tools()?;
    }
    if purpose >= Purpose::Lab && is_root() {
        ensure_bpffs()?;
    }
    Ok(())
}

/// Keeps a service from being started, now and later: it would take ports of this machine. What the operator has put there stays.
/// Says whether it was necessary.
fn mask(unit: &str, units: &Path) -> Result<bool> {
    let file = units.join(unit);
    if !units.is_dir() || file.symlink_metadata().is_ok() {
        return Ok(false);
    }
    symlink("/dev/null", &file).with_context(|| format!("cannot mask {unit} by {}", file.display()))?;
    Ok(true)
}

/// Refreshes the distribution's package lists.
pub(crate) fn update_packages() -> Result<()> {
    apt::update()
}

/// What a user without root rights can do: build, and run the tests that need no privileges.
pub(crate) fn ensure_unprivileged(purpose: Purpose) -> Result<()> {
    ensure(if is_root() { purpose } else { Purpose::Build })
}

/// Pinned maps and links live in bpffs, which systemd mounts; containers and small systems often have none.
fn ensure_bpffs() -> Result<()> {
    let path = Path::new("/sys/fs/bpf");
    if statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    note("Mounting bpffs at /sys/fs/bpf: pinned maps live there");
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
        .context("cannot mount bpffs at /sys/fs/bpf; a container must be privileged for this")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_service_is_masked_unless_the_operator_has_a_unit_of_that_name() -> Result<()> {
        let units = std::env::temp_dir().join(format!("sipauth-xtask-units-{}", std::process::id()));
        assert!(!mask("a.service", &units)? && !units.exists(), "no systemd, no mask");
        fs::create_dir_all(&units)?;
        fs::write(units.join("own.service"), "[Unit]")?;
        assert!(mask("a.service", &units)?);
        assert!(!mask("own.service", &units)?);
        let (masked, own) = (
            fs::read_link(units.join("a.service")),
            fs::read_to_string(units.join("own.service")),
        );
        fs::remove_dir_all(&units)?;
        assert_eq!(masked?, Path::new("/dev/null"));
        assert_eq!(own?, "[Unit]");
        Ok(())
    }
}
