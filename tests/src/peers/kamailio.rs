//! Kamailio on both sides: the softswitch ([`Switch`]), and a border controller that has credentials ([`Controller`]).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::program::{self, Account, PATIENCE, Program};
use super::{Call, SIP_PORT, Via, listens};
use crate::lab::{Host, Lab};

/// The softswitch: registers who asks, answers every call but those of [`Host::CarrierIp`], which it passes on to the telephone of
/// [`Host::NatPassword`], and notes every request that reaches it.
#[derive(Debug)]
pub struct Switch(Program);

impl Switch {
    /// Starts it on port 5060, UDP and TCP over IPv4.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        let host = Host::Softswitch;
        let dir = program::directory(lab, host, "kamailio")?;
        let values = [
            ("ADDRESS", &*host.v4().to_string()),
            ("CALLER", &*Host::CarrierIp.v4().to_string()),
            ("CALLEE", Host::NatPassword.name()),
        ];
        program::fill("softswitch.cfg", &dir.join("kamailio.cfg"), &values)?;
        start(lab, host, &dir).map(Self)
    }

    /// Where its notes end now: what comes later is counted from here.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.0.output().len()
    }

    /// How many requests with this method have reached it since `mark`, sent again or not.
    #[must_use]
    pub fn seen_since(&self, mark: usize, via: Via, method: &str) -> usize {
        let transport = if via.tcp() { "tcp" } else { "udp" };
        let notes = self.0.output();
        notes[mark..].matches(&format!("seen:{transport}:{method}:")).count()
    }

    /// Waits until there are `count` of these.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_for(&self, mark: usize, via: Via, method: &str, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.seen_since(mark, via, method) < count {
            let what = format!("{count} {method} over {}", via.label());
            ensure!(
                Instant::now() < deadline,
                "the softswitch has not seen {what}:\n{}",
                self.0.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// A border controller: its registration is its own, its calls come from a SIPp behind it.
#[derive(Debug)]
pub struct Controller {
    _program: Program,
    host: Host,
}

impl Controller {
    /// Starts it on `host`; it registers within a second or two.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn start(lab: &Lab, host: Host, via: Via, account: Account<'_>) -> anyhow::Result<Self> {
        let dir = program::directory(lab, host, "kamailio")?;
        let values = [
            ("ADDRESS", &*host.v4().to_string()),
            ("SOFTSWITCH", &*Host::Softswitch.v4().to_string()),
            ("DIRECTORY", dir.to_str().context("a state directory in UTF-8")?),
            ("TRANSPORT", if via.tcp() { "tcp" } else { "udp" }),
            ("USER", account.user),
            ("PASSWORD", account.password),
        ];
        program::fill("client.cfg", &dir.join("kamailio.cfg"), &values)?;
        for table in ["uacreg", "version"] {
            program::fill(table, &dir.join(table), &values)?;
        }
        let _program = start(lab, host, &dir)?;
        Ok(Self { _program, host })
    }

    /// A call that comes to it without credentials, over UDP.
    #[must_use]
    pub fn call(&self) -> Call {
        Call::from(self.host).to(self.host).port(5099)
    }
}

/// Debian's unit file and defaults play no part: the configuration is ours, and it stays in the foreground.
fn start(lab: &Lab, host: Host, dir: &Path) -> anyhow::Result<Program> {
    let mut command = lab.command(host, "kamailio");
    command.args(["-f", "kamailio.cfg", "-DD", "-E", "-m", "32", "-M", "4"]);
    command.arg("-Y").arg(dir).arg("-P").arg(dir.join("pid"));
    let program = Program::start(&mut command, dir).context("kamailio")?;
    let deadline = Instant::now() + PATIENCE;
    while !(listens(program.id(), SIP_PORT, Via::Udp4)? && listens(program.id(), SIP_PORT, Via::Tcp4)?) {
        ensure!(Instant::now() < deadline, "Kamailio does not listen:\n{}", program.output());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(program)
}
