//! What a service manager hears of the agent (`sd_notify(3)`). Nothing where there is none.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::state::Agent;
use crate::{
    control::{Client, Request},
    worker::Counts,
};

/// A command that is not answered by then is not going to be.
const PATIENCE: Duration = Duration::from_secs(5);

/// The start is over.
pub(super) fn started(agent: &Agent) {
    tell(&[NotifyState::Ready, NotifyState::Status(&state(agent))]);
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("ending; what is attached goes on enforcing"),
    ]);
}

fn state(agent: &Agent) -> String {
    match agent.damage() {
        None if agent.settings().monitor => format!("counting on {}, everything passes", agent.settings().interfaces.join(", ")),
        None => format!("enforcing on {}", agent.settings().interfaces.join(", ")),
        Some(damage) => format!("no change is taken: {damage}"),
    }
}

/// Says that the agent is alive, where the service manager wants to hear it, and only while that is so: each worker has run its
/// loop lately, and a command is answered.
pub(super) async fn watchdog(agent: Arc<Agent>, shutdown: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    info!(seconds = limit.as_secs(), "the service manager's watchdog is on");
    let mut looks = tokio::time::interval(limit / 4);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => {}
        }
        if !agent.counts().is_none_or(Counts::alive) {
            warn!("a worker is stuck; the service manager will restart the agent");
        } else if !answers(&agent).await {
            warn!("commands are not answered; the service manager will restart the agent");
        } else {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&state(&agent))]);
        }
    }
}

/// Asks over the socket, as a command does. That all seats are taken is an answer, too.
async fn answers(agent: &Agent) -> bool {
    let socket = agent.settings().socket.clone();
    let asked = tokio::task::spawn_blocking(move || Client::connect(&socket).is_ok_and(|mut client| client.call(&Request::Status).is_ok()));
    tokio::time::timeout(PATIENCE, asked)
        .await
        .is_ok_and(|answered| answered.unwrap_or(false))
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        warn!(%error, "the service manager cannot be told");
    }
}
