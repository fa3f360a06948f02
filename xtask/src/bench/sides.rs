//! What is measured side by side, and one run of it.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sipauth_tests::{
    agent::Agent,
    lab::{Host, Lab},
    peers::{Call, Uas, Via},
};

use super::cpu;

pub(super) const USER: &str = "bench";
pub(super) const PASSWORD: &str = "of the lab only";
/// The default realm of sipauth.
const REALM: &str = "sipauth";
/// MD5 of `bench:sipauth:of the lab only`.
const HA1: &str = "d0047a970c64caeaa94aa4e2cdff5f92";
/// Where SIPp answers behind Kamailio, which has port 5060.
pub(super) const SINK: u16 = 5070;
/// Time between ACK and BYE: an ACK that a busy proxy holds for a moment must not be overtaken.
pub(super) const HOLD: Duration = Duration::from_millis(100);

/// Who stands between the caller and SIPp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Nobody, and calls without digest: what a call costs the softswitch's SIPp.
    Plain,
    /// Nobody, and SIPp challenges: what a call with digest costs the caller's SIPp.
    Digest,
    /// sipauth.
    Sipauth,
    /// Kamailio without transactions (`forward`).
    Stateless,
    /// Kamailio with transactions (`t_relay`), as it is usually run.
    Stateful,
}

impl Side {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Plain => "SIPp alone",
            Self::Digest => "SIPp alone, digest",
            Self::Sipauth => "sipauth",
            Self::Stateless => "Kamailio, forward()",
            Self::Stateful => "Kamailio, t_relay()",
        }
    }

    pub(super) const fn is_floor(self) -> bool {
        matches!(self, Self::Plain | Self::Digest)
    }
}

/// Microseconds of CPU for each call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) middle: f64,
    /// In the programs on the interface: a part of what the others take more.
    pub(super) programs: f64,
    pub(super) caller: f64,
    pub(super) switch: f64,
    pub(super) machine: f64,
}

/// Makes so many calls through one side.
pub(super) fn measure(lab: &Lab, binary: &Path, side: Side, calls: u32, rate: u32) -> Result<Cost> {
    let switch = match side {
        Side::Plain | Side::Sipauth => Uas::softswitch(lab, Via::Udp4)?,
        Side::Digest => Uas::challenges(lab)?,
        Side::Stateless | Side::Stateful => Uas::softswitch_at(lab, SINK)?,
    };
    let kamailio = match side {
        Side::Stateless => Some(Kamailio::start(lab, "forward();", None)?),
        Side::Stateful => Some(Kamailio::start(lab, "t_relay();", None)?),
        Side::Plain | Side::Digest | Side::Sipauth => None,
    };
    let agent = if side == Side::Sipauth { Some(sipauth(lab, binary)?) } else { None };
    let middle = agent
        .as_ref()
        .and_then(Agent::pid)
        .or(kamailio.as_ref().map(|kamailio| kamailio.main.id()));
    let call = Call::from(Host::PbxPassword).times(calls, rate).hold(HOLD);
    let call = if side == Side::Plain { call } else { call.digest(USER, PASSWORD) };
    let read = || -> Result<[i64; 5]> {
        let of_middle = middle.map_or(Ok(0), cpu::of_group)?;
        Ok([
            of_middle,
            cpu::of_children()?,
            cpu::of_group(switch.pid())?,
            cpu::of_machine()?,
            cpu::of_programs()?,
        ])
    };
    let before = read()?;
    let outcome = call.run(lab)?;
    let after = read()?;
    ensure!(
        outcome.failed * 100 <= calls,
        "{}: {} of {calls} calls were answered: the rate is too high for this machine, or it is busy, see --rate",
        side.label(),
        outcome.answered
    );
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 µs")]
    let each = |at: usize| (after[at] - before[at]) as f64 / f64::from(calls);
    Ok(Cost {
        middle: each(0),
        caller: each(1),
        switch: each(2),
        machine: each(3),
        programs: each(4),
    })
}

/// Attached until it is dropped.
fn sipauth<'a>(lab: &'a Lab, binary: &Path) -> Result<Agent<'a>> {
    let mut agent = Agent::prepare(lab, &["--challenger", "kernel"])?.with_binary(binary.to_owned());
    agent.restart()?;
    agent.add_password("bench", USER, PASSWORD, &[&Host::PbxPassword.v4().to_string()])?;
    Ok(agent)
}

/// A Kamailio of two workers, as sipauth has on two processors.
pub(super) struct Kamailio<'a> {
    main: Child,
    lab: &'a Lab,
}

impl<'a> Kamailio<'a> {
    /// Relays by this statement, and challenges everybody, or this host alone.
    pub(super) fn start(lab: &'a Lab, relay: &str, challenged: Option<Host>) -> Result<Self> {
        let whom = challenged.map_or_else(String::new, |host| format!(" && src_ip == {}", host.v4()));
        let state = lab.state();
        let config = include_str!("kamailio.cfg")
            .replace("@ADDRESS@", &Host::Softswitch.v4().to_string())
            .replace("@SINK@", &SINK.to_string())
            .replace("@USER@", USER)
            .replace("@REALM@", REALM)
            .replace("@HA1@", HA1)
            .replace("@WHOM@", &whom)
            .replace("@RELAY@", relay);
        let path = state.join("kamailio.cfg");
        fs::write(&path, config)?;
        let log = fs::File::create(state.join("kamailio.log"))?;
        let mut command = lab.command(Host::Softswitch, "kamailio");
        command.arg("-f").arg(&path).args(["-DD", "-E", "-m", "256"]).arg("-Y").arg(state);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let mut started = Self {
            main: child.context("kamailio (Debian: kamailio)")?,
            lab,
        };
        let begin = Instant::now();
        while !started.listens()? {
            let text = || fs::read_to_string(state.join("kamailio.log")).unwrap_or_default();
            ensure!(started.main.try_wait()?.is_none(), "Kamailio ended at once:\n{}", text());
            ensure!(
                begin.elapsed() < Duration::from_secs(10),
                "Kamailio does not listen after ten seconds:\n{}",
                text()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(started)
    }

    fn listens(&self) -> Result<bool> {
        Ok(self.lab.run(Host::Softswitch, &["ss", "-lun"])?.contains(":5060 "))
    }
}

impl Drop for Kamailio<'_> {
    fn drop(&mut self) {
        use nix::{
            sys::signal::{Signal, killpg},
            unistd::Pid,
        };
        // The group is ours alone: the lab made it for this command.
        if let Ok(group) = i32::try_from(self.main.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.main.wait();
        // Its workers are not our children, and hold the port until they are gone.
        let begin = Instant::now();
        while self.listens().unwrap_or(false) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
