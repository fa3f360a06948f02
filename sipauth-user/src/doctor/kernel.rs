//! The kernel, and what it lets us do.

use std::path::Path;

use nix::sys::{
    resource::{Resource, getrlimit},
    statfs::{BPF_FS_MAGIC, statfs},
};

use super::{Finding, Site, read, read_number};
use crate::datapath;

/// Each with its number (`linux/capability.h`).
const CAPABILITIES: [(&str, u32); 5] = [
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];
/// Two descriptors for each TCP connection that the agent serves at most, and some for itself.
const DESCRIPTORS: u64 = 2 * 4_096 + 256;

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let mut findings = vec![version()];
    let missing = missing();
    match &site.agent {
        Some(agent) => findings.push(Finding::ok(
            "agent",
            match agent.pid {
                Some(pid) => format!("runs, pid {pid}"),
                None => "runs, in a process that cannot be seen from here".to_owned(),
            },
        )),
        None => findings.push(no_agent(site)),
    }
    if site.agent.is_none() {
        findings.push(privileges(missing.as_deref()));
        if missing.as_deref() == Some(&[]) {
            findings.push(program());
        }
    }
    // A running agent has its pins.
    if site.agent.is_none() {
        findings.push(bpffs(&site.bpffs));
    }
    findings.push(descriptors(site));
    findings
}

fn version() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|text| text.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return Finding::unknown(
            "kernel",
            "its version cannot be read",
            "Linux 6.1 or later is needed; see `uname -r`",
        );
    };
    if (major, minor) < (6, 1) {
        return Finding::problem(
            "kernel",
            format!("Linux {release}"),
            "Linux 6.1 or later is needed: install a newer kernel and boot it",
        );
    }
    let hook = if (major, minor) < (6, 6) {
        "a clsact filter on the way out"
    } else {
        "a TCX link on the way out"
    };
    match read_number("/proc/sys/net/core/bpf_jit_enable") {
        Some(0) => Finding::problem(
            "kernel",
            format!("Linux {release}, which interprets BPF programs instead of compiling them: many times slower"),
            "sysctl -w net.core.bpf_jit_enable=1, and put it into /etc/sysctl.d",
        ),
        // Without the setting the kernel is built to compile always.
        _ => Finding::ok("kernel", format!("Linux {release}: {hook}, compiled BPF programs")),
    }
}

/// Programs that are attached while no agent runs refuse what needs one.
fn no_agent(site: &Site) -> Finding {
    let attached = datapath::interfaces(&datapath::Pins::at(&site.bpffs));
    if attached.is_empty() {
        return Finding::ok(
            "agent",
            "does not run, and nothing is attached: this is a look before the first run",
        );
    }
    Finding::problem(
        "agent",
        format!(
            "does not answer, but its programs are on {}: new calls of password gateways are refused (or admitted, with `fail-open`)",
            attached.join(", ")
        ),
        "start it (`sipauth run`), or take the programs off (`sipauth detach`); where it runs, give its --socket",
    )
}

/// The capabilities that this process lacks; `None` if that cannot be read.
fn missing() -> Option<Vec<&'static str>> {
    let status = read("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let bits = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(
        CAPABILITIES
            .iter()
            .filter(|(_, bit)| bits >> bit & 1 == 0)
            .map(|(name, _)| *name)
            .collect(),
    )
}

fn privileges(missing: Option<&[&str]>) -> Finding {
    match missing {
        Some([]) => Finding::ok("privileges", "all that the agent needs"),
        Some(missing) => Finding::problem(
            "privileges",
            format!("this user lacks {}", missing.join(", ")),
            "run as root, or give these capabilities to the service",
        ),
        None => Finding::unknown("privileges", "they cannot be read", "run as root"),
    }
}

/// The surest test of a kernel: it is given the programs, and nothing is attached.
fn program() -> Finding {
    match datapath::load(None, &datapath::Sizes::least()) {
        Ok(programs) => Finding::ok("programs", format!("the kernel takes them ({})", programs.ingress_name())),
        Err(error) => Finding::problem(
            "programs",
            format!("the kernel refuses them: {error}"),
            "use a kernel of a distribution, 6.1 or later, with CONFIG_BPF_SYSCALL and BTF",
        ),
    }
}

fn bpffs(path: &Path) -> Finding {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if statfs(existing).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Finding::ok("bpffs", "mounted; what is pinned there goes on enforcing without the agent");
    }
    match datapath::mountable(path) {
        true => Finding::ok("bpffs", "not mounted yet; the agent will mount it at /sys/fs/bpf"),
        false => Finding::problem(
            "bpffs",
            format!("{} is not on a bpf file system", path.display()),
            "mount -t bpf bpf /sys/fs/bpf; enter a network namespace with `nsenter --net=`, since `ip netns exec` hides the mount",
        ),
    }
}

fn descriptors(site: &Site) -> Finding {
    // The agent raises its limit as far as it may.
    let limit = match site.pid() {
        Some(pid) => read(format!("/proc/{pid}/limits")).and_then(|text| open_files(&text)),
        None => getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
    };
    match limit {
        None => Finding::unknown("limits", "how many files the agent may open cannot be read", "run as root"),
        Some(limit) if limit < DESCRIPTORS => Finding::problem(
            "limits",
            format!("{limit} open files, {DESCRIPTORS} are needed for as many TCP connections as the agent serves"),
            format!("LimitNOFILE={DESCRIPTORS} in the service's unit, or `ulimit -n {DESCRIPTORS}` before the start"),
        ),
        Some(limit) => Finding::ok(
            "limits",
            format!("{limit} open files; memory of maps is not limited by memlock (since 5.11)"),
        ),
    }
}

/// The soft limit in /proc/PID/limits.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 1048576              files\n";
        assert_eq!(open_files(text), Some(1_024));
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn a_capability_that_lacks_is_named() {
        let finding = privileges(Some(&["CAP_BPF"]));
        assert!(finding.state == State::Problem && finding.text.contains("CAP_BPF"), "{finding:?}");
        assert_eq!(privileges(Some(&[])).state, State::Ok);
        assert_eq!(privileges(None).state, State::Unknown);
    }

    #[test]
    fn this_kernel_is_new_enough_to_test_on() {
        assert_ne!(version().state, State::Unknown);
    }
}
