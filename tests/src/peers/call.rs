//! Calls of a gateway, and how they ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{SIP_PORT, Sipp, Via, common};
use crate::lab::{Host, Lab};

/// What a gateway does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    Digest,
    Register,
    Options,
    Outgoing,
}

/// Calls to be made.
#[derive(Clone, Debug)]
pub struct Call {
    from: Host,
    to: Host,
    via: Via,
    kind: Kind,
    port: u16,
    calls: u32,
    rate: u32,
    hold: Duration,
    padding: usize,
    user: Option<(String, String)>,
}

impl Call {
    /// One call without credentials from port 5060 of `from` to the softswitch, over UDP and IPv4.
    #[must_use]
    pub const fn from(from: Host) -> Self {
        Self {
            from,
            to: Host::Softswitch,
            via: Via::Udp4,
            kind: Kind::Plain,
            port: SIP_PORT,
            calls: 1,
            rate: 10,
            hold: Duration::ZERO,
            padding: 0,
            user: None,
        }
    }

    /// A call of the softswitch to `to`, which hangs up ([`Uas::hangs_up`]). The softswitch's port must be free.
    #[must_use]
    pub fn outgoing(to: Host) -> Self {
        Self {
            to,
            kind: Kind::Outgoing,
            ..Self::from(Host::Softswitch)
        }
    }

    /// To another host.
    #[must_use]
    pub const fn to(mut self, to: Host) -> Self {
        self.to = to;
        self
    }

    /// Over another transport or family.
    #[must_use]
    pub const fn via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }

    /// From another port.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// How many, and how many new ones a second.
    #[must_use]
    pub const fn times(mut self, calls: u32, rate: u32) -> Self {
        self.calls = calls;
        self.rate = rate;
        self
    }

    /// Time between ACK and BYE.
    #[must_use]
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// So many more bytes in the INVITE: from 1,500 on it travels in IP fragments.
    #[must_use]
    pub const fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// Answers one challenge with these credentials.
    #[must_use]
    pub fn digest(mut self, user: &str, password: &str) -> Self {
        self.user = Some((user.into(), password.into()));
        self.kind = if self.kind == Kind::Register {
            Kind::Register
        } else {
            Kind::Digest
        };
        self
    }

    /// A registration with credentials instead of a call.
    #[must_use]
    pub fn register(self, user: &str, password: &str) -> Self {
        Self {
            kind: Kind::Register,
            ..self.digest(user, password)
        }
    }

    /// An OPTIONS instead of a call.
    #[must_use]
    pub const fn options(mut self) -> Self {
        self.kind = Kind::Options;
        self
    }

    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> Host {
        self.from
    }

    /// Over what.
    #[must_use]
    pub const fn transport(&self) -> Via {
        self.via
    }

    /// Makes the calls and waits for their end.
    ///
    /// # Errors
    /// When SIPp cannot run. A refused call is not an error.
    pub fn run(&self, lab: &Lab) -> anyhow::Result<Outcome> {
        self.start(lab)?.finish()
    }

    /// Starts the calls.
    ///
    /// # Errors
    /// When SIPp cannot be started, or the host has no IPv6.
    pub fn start(&self, lab: &Lab) -> anyhow::Result<Calls> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let no_v6 = |h: Host| format!("{} has no IPv6", h.name());
        let local = self.from.address(self.via.v6()).with_context(|| no_v6(self.from))?;
        let remote = self.to.address(self.via.v6()).with_context(|| no_v6(self.to))?;
        let scenario = match self.kind {
            Kind::Plain => "uac.xml",
            Kind::Digest => "uac_digest.xml",
            Kind::Register => "register_digest.xml",
            Kind::Options => "options.xml",
            Kind::Outgoing => "uac_callee_ends.xml",
        };
        let stats = lab.state().join(format!("calls-{}.csv", COUNT.fetch_add(1, Ordering::Relaxed)));
        // Long enough for all calls and for the retransmissions of the last one (0.2 + 0.4 + 0.8 s).
        let bound = Duration::from_secs(u64::from(self.calls / self.rate.max(1)) + 6) + self.hold;
        let mut args = common(local, self.port, self.via);
        if self.padding > 0 {
            let at = args.len() - 1;
            args[at] = "x".repeat(self.padding);
        }
        let number = |v: u32| v.to_string();
        args.extend([
            "-m".into(),
            number(self.calls),
            "-r".into(),
            number(self.rate),
            "-l".into(),
            number(self.calls),
        ]);
        args.extend(["-d".into(), self.hold.as_millis().to_string()]);
        args.extend(["-max_invite_retrans", "2", "-max_non_invite_retrans", "3", "-recv_timeout", "10000"].map(Into::into));
        args.extend(["-timeout".into(), format!("{}s", bound.as_secs()), "-timeout_error".into()]);
        args.extend([
            "-trace_stat".into(),
            "-fd".into(),
            "1".into(),
            "-stf".into(),
            stats.display().to_string(),
        ]);
        if let Some((user, password)) = &self.user {
            args.extend(["-au".into(), user.clone(), "-ap".into(), password.clone()]);
            // SIPp's default is the address without the user, which is not the URI of the request.
            args.extend(["-auth_uri".into(), format!("100@{}", SocketAddr::new(remote, SIP_PORT))]);
        }
        args.push(SocketAddr::new(remote, SIP_PORT).to_string());
        if self.kind == Kind::Outgoing || self.hold > Duration::from_secs(5) {
            let hold = self.hold.as_millis() + 10_000;
            args.extend(["-recv_timeout".into(), hold.to_string()]);
        }
        let sipp = Sipp::start(lab, self.from, scenario, &args)?;
        Ok(Calls {
            sipp,
            stats,
            calls: self.calls,
            deadline: Instant::now() + bound + Duration::from_secs(5),
        })
    }
}

/// Calls in progress.
#[derive(Debug)]
pub struct Calls {
    sipp: Sipp,
    stats: PathBuf,
    calls: u32,
    deadline: Instant,
}

impl Calls {
    /// Waits for the end of all calls.
    ///
    /// # Errors
    /// When SIPp broke down or hangs.
    pub fn finish(mut self) -> anyhow::Result<Outcome> {
        while self.sipp.child.try_wait()?.is_none() {
            ensure!(Instant::now() < self.deadline, "SIPp hangs\n{}", self.sipp.tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        let csv = std::fs::read_to_string(&self.stats).with_context(|| format!("no counters of SIPp:\n{}", self.sipp.tail()))?;
        Outcome::from_csv(&csv, self.calls).with_context(|| self.sipp.tail())
    }
}

/// How the calls ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Calls begun.
    pub tried: u32,
    /// Calls that went through to the end, BYE answered.
    pub answered: u32,
    /// All others.
    pub failed: u32,
    /// Of those: nothing came back (retransmissions exhausted, or no TCP connection).
    pub silent: u32,
    /// Of those: an answer that the scenario did not hope for, such as 403 or a second 401.
    pub rejected: u32,
    /// Messages sent again, all calls together.
    pub retransmissions: u32,
}

impl Outcome {
    /// Every call was answered, and there was at least one.
    #[must_use]
    pub const fn all_answered(&self) -> bool {
        self.tried > 0 && self.answered == self.tried
    }

    /// No call was answered, and there was at least one.
    #[must_use]
    pub const fn all_refused(&self) -> bool {
        self.tried > 0 && self.answered == 0
    }

    /// Reads SIPp's statistics: names in the first line, totals in the columns `(C)` of the last.
    fn from_csv(csv: &str, calls: u32) -> anyhow::Result<Self> {
        let mut lines = csv.lines().filter(|l| !l.is_empty());
        let names: Vec<&str> = lines.next().context("empty statistics")?.split(';').collect();
        let last: Vec<&str> = lines.next_back().context("statistics without totals")?.split(';').collect();
        let get = |name: &str| -> anyhow::Result<u32> {
            let at = names.iter().position(|n| *n == name).with_context(|| format!("no column {name}"))?;
            Ok(last.get(at).context("short line")?.parse()?)
        };
        let (tried, answered) = (get("TotalCallCreated")?, get("SuccessfulCall(C)")?);
        let rejected = get("FailedUnexpectedMessage(C)")?;
        let tried = tried.max(calls);
        let failed = tried.saturating_sub(answered);
        Ok(Self {
            tried,
            answered,
            failed,
            rejected,
            silent: failed.saturating_sub(rejected),
            retransmissions: get("Retransmissions(C)")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_statistics_counts() -> anyhow::Result<()> {
        let csv = "TotalCallCreated;SuccessfulCall(C);FailedUnexpectedMessage(C);Retransmissions(C);\n1;0;0;0;\n5;3;1;2;\n";
        let outcome = Outcome::from_csv(csv, 5)?;
        assert_eq!(
            outcome,
            Outcome {
                tried: 5,
                answered: 3,
                failed: 2,
                silent: 1,
                rejected: 1,
                retransmissions: 2,
            }
        );
        Ok(())
    }
}
