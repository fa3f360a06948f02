//! SIPp as softswitch ([`Uas`]) and as gateways ([`Call`]), and the other programs that are known to work with sipauth. Every run is
//! bounded: a number of calls, few retransmissions, a deadline.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::lab::{Host, Lab};

mod baresip;
mod call;
mod kamailio;
mod linphone;
mod program;
mod prometheus;
mod sipsak;
pub use baresip::Baresip;
pub use call::{Call, Calls, Outcome};
pub use kamailio::{Controller, Switch};
pub use linphone::Linphone;
pub use program::{Account, Softphone};
pub use prometheus::{Job, Prometheus, fetch, forgetful_proxy};
pub use sipsak::Sipsak;

/// Directory of the SIPp scenarios.
pub const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
/// Port of every SIP peer unless told otherwise.
pub const SIP_PORT: u16 = 5060;

/// Transport and family of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

impl Via {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Udp4, Self::Udp6, Self::Tcp4, Self::Tcp6];

    /// IPv6?
    #[must_use]
    pub const fn v6(self) -> bool {
        matches!(self, Self::Udp6 | Self::Tcp6)
    }

    /// TCP?
    #[must_use]
    pub const fn tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }

    /// For people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp4 => "UDP IPv4",
            Self::Udp6 => "UDP IPv6",
            Self::Tcp4 => "TCP IPv4",
            Self::Tcp6 => "TCP IPv6",
        }
    }
}

/// A SIPp process with its output kept in the lab's state directory; killed when dropped.
#[derive(Debug)]
struct Sipp {
    child: Child,
    log: PathBuf,
}

impl Sipp {
    fn start(lab: &Lab, host: Host, scenario: &str, args: &[String]) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let log = lab
            .state()
            .join(format!("sipp-{}-{}.log", COUNT.fetch_add(1, Ordering::Relaxed), host.name()));
        let out = File::create(&log)?;
        let child = lab
            .command(host, "sipp")
            // SIPp writes its files where it stands.
            .current_dir(lab.state())
            .args(["-sf", &format!("{SCENARIOS}/{scenario}"), "-nostdin", "-skip_rlimit"])
            .args(args)
            .stdout(out.try_clone()?)
            .stderr(out)
            .stdin(Stdio::null())
            .spawn()
            .context("sipp (Debian: sip-tester)")?;
        Ok(Self { child, log })
    }

    /// The end of what it printed.
    fn tail(&self) -> String {
        tail(&self.log)
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

impl Drop for Sipp {
    fn drop(&mut self) {
        // nsenter without --fork becomes the command, so this is SIPp itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answering SIPp.
#[derive(Debug)]
pub struct Uas(Sipp);

impl Uas {
    /// The softswitch on port 5060 of one transport and family.
    ///
    /// # Errors
    /// When SIPp does not listen within five seconds.
    pub fn softswitch(lab: &Lab, via: Via) -> anyhow::Result<Self> {
        Self::start(lab, Host::Softswitch, via, "uas.xml", SIP_PORT, Duration::ZERO)
    }

    /// The softswitch on all four.
    ///
    /// # Errors
    /// As [`Uas::softswitch`].
    pub fn softswitch_everywhere(lab: &Lab) -> anyhow::Result<Vec<Self>> {
        Via::ALL.into_iter().map(|via| Self::softswitch(lab, via)).collect()
    }

    /// A routing gateway that answers a call of the softswitch and sends the BYE itself after `hold`.
    ///
    /// # Errors
    /// As [`Uas::softswitch`].
    pub fn hangs_up(lab: &Lab, host: Host, via: Via, hold: Duration) -> anyhow::Result<Self> {
        Self::start(lab, host, via, "uas_hangs_up.xml", SIP_PORT, hold)
    }

    /// The softswitch on another port: behind a proxy that has its own.
    ///
    /// # Errors
    /// As [`Uas::softswitch`].
    pub fn softswitch_at(lab: &Lab, port: u16) -> anyhow::Result<Self> {
        Self::start(lab, Host::Softswitch, Via::Udp4, "uas.xml", port, Duration::ZERO)
    }

    /// A softswitch that challenges each call itself, and takes any answer for right.
    ///
    /// # Errors
    /// As [`Uas::softswitch`].
    pub fn challenges(lab: &Lab) -> anyhow::Result<Self> {
        Self::start(lab, Host::Softswitch, Via::Udp4, "uas_challenges.xml", SIP_PORT, Duration::ZERO)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// Leaves it up: for a lab that is kept.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    fn start(lab: &Lab, host: Host, via: Via, scenario: &str, port: u16, hold: Duration) -> anyhow::Result<Self> {
        let local = host.address(via.v6()).with_context(|| format!("{} has no IPv6", host.name()))?;
        let mut args = common(local, port, via);
        args.extend([
            "-d".into(),
            hold.as_millis().to_string(),
            "-max_non_invite_retrans".into(),
            "4".into(),
        ]);
        let mut sipp = Sipp::start(lab, host, scenario, &args)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(status) = sipp.child.try_wait()? {
                bail!("SIPp on {} ended at once: {status}\n{}", host.name(), sipp.tail());
            }
            if listens(sipp.child.id(), port, via)? {
                return Ok(Self(sipp));
            }
            ensure!(
                Instant::now() < deadline,
                "SIPp on {} does not listen\n{}",
                host.name(),
                sipp.tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether something in the namespace of `pid` listens on `port`: /proc/PID/net shows that process's own namespace.
fn listens(pid: u32, port: u16, via: Via) -> anyhow::Result<bool> {
    // Before nsenter has switched, the process still shows our namespace: then there is a host socket table, which must not count.
    let ours = std::fs::read_link("/proc/self/ns/net")?;
    if std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns == ours) {
        return Ok(false);
    }
    let (file, state) = match via {
        Via::Udp4 => ("udp", " 07 "),
        Via::Udp6 => ("udp6", " 07 "),
        Via::Tcp4 => ("tcp", " 0A "),
        Via::Tcp6 => ("tcp6", " 0A "),
    };
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let wanted = format!(":{port:04X} ");
    Ok(table.lines().any(|l| {
        l.split_once(": ")
            .is_some_and(|(_, rest)| rest.contains(state) && rest.find(&wanted).is_some_and(|at| at < 45))
    }))
}

fn common(local: IpAddr, port: u16, via: Via) -> Vec<String> {
    let mut args: Vec<String> = [
        "-i",
        &local.to_string(),
        "-p",
        &port.to_string(),
        "-t",
        if via.tcp() { "t1" } else { "u1" },
    ]
    .map(Into::into)
    .into();
    args.extend(["-default_behaviors", "all,-bye", "-key", "padding", "none"].map(Into::into));
    args
}
