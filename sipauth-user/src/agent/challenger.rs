//! Who challenges requests without credentials: the kernel program, wherever it can give the same answer as the agent, or the agent.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use sipauth_common::{challenge::Challenge, config::flags};
use tracing::{debug, info};

use super::{state::Agent, unix_now};
use crate::{
    auth::{Authenticator, Timestamp},
    config::{self, Settings, XdpMode},
    datapath::{DatapathError, monotonic_ns},
    netlink,
};

/// What the kernel program challenges with.
pub(super) struct Challenger {
    /// When this run began: part of every nonce.
    pub(super) started: Timestamp,
    /// The realm that the policies in the maps were compiled for.
    realm: String,
    /// Interfaces send what the kernel program gives them, as far as is known.
    sends: bool,
    /// What the map has; `None` while the agent challenges.
    written: Mutex<Option<Challenge>>,
    /// Whether it is not `None`.
    kernel: AtomicBool,
}

impl Challenger {
    pub(super) fn new(settings: &Settings) -> Self {
        let sends = settings.xdp_mode == XdpMode::Generic || !settings.interfaces.iter().any(|name| is_veth(name));
        Self {
            started: unix_now(),
            realm: settings.realm.clone(),
            sends,
            written: Mutex::new(None),
            kernel: AtomicBool::new(false),
        }
    }

    /// Whether the kernel program challenges.
    pub(super) fn is_kernel(&self) -> bool {
        self.kernel.load(Relaxed)
    }

    /// What the map should have.
    fn wanted(&self, agent: &Agent, written: Option<&Challenge>) -> Option<Challenge> {
        let settings = agent.settings();
        let may = match settings.challenger {
            config::Challenger::Auto => self.sends,
            config::Challenger::Kernel => true,
            config::Challenger::Agent => false,
        };
        // Who traces wants to see the first request, too; and the policies know the realm of the start only.
        if !may || settings.monitor || agent.tracing.is_active() || settings.realm != self.realm {
            return None;
        }
        // The two clocks are not read at once: a second more or less is none.
        let boot = boot_s();
        let boot = written
            .map(|one| one.boot_s)
            .filter(|known| known.abs_diff(boot) <= 1)
            .unwrap_or(boot);
        Authenticator::of_kernel(
            &super::directory::authentication(&settings),
            &settings.realm,
            &agent.keys(),
            self.started,
            boot,
        )
    }
}

/// A veth pair loses what is sent from XDP, unless the other end has a program of its own, which cannot be seen from here.
fn is_veth(name: &str) -> bool {
    let links = netlink::links().unwrap_or_default();
    links.iter().any(|link| link.name == name && link.kind.as_deref() == Some("veth"))
}

/// Unix time at which the kernel's clock was 0, s.
fn boot_s() -> u32 {
    let uptime_ms = monotonic_ns() / 1_000_000;
    u32::try_from(unix_now().0.saturating_sub(uptime_ms) / 1_000).unwrap_or(0)
}

impl Agent {
    /// Brings the kernel program's challenge up to date with settings, keys, clock and traces. Cheap where it is.
    pub(super) fn refresh_challenge(&self) -> Result<(), DatapathError> {
        let challenger = self.challenger();
        let mut written = challenger.written.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = challenger.wanted(self, written.as_ref());
        let flagged = self.has_flag(flags::CHALLENGE);
        if wanted == *written && flagged == wanted.is_some() {
            return Ok(());
        }
        // Off while the entry is written: half of it would be no challenge.
        if flagged {
            self.set_flag(flags::CHALLENGE, false)?;
        }
        let before = written.take();
        if let Some(challenge) = wanted {
            self.maps().set_challenge(&challenge)?;
            self.set_flag(flags::CHALLENGE, true)?;
        }
        match (before.is_some(), wanted.is_some()) {
            (false, true) => info!("plain requests are challenged by the kernel program"),
            (true, false) => info!("all requests are challenged by the agent"),
            _ => debug!("the kernel program's challenge was renewed"),
        }
        challenger.kernel.store(wanted.is_some(), Relaxed);
        *written = wanted;
        Ok(())
    }
}
