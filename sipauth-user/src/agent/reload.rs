//! Settings that change while the agent runs: read again, and applied as far as they can be, or not at all.

use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    change::{once, shorten},
    state::Agent,
};
use crate::{
    audit::{Attempt, Author},
    control::{ReloadReport, Request, Response},
};

impl Agent {
    /// Reads the settings again. What is in force then is in the answer; where anything is wrong, nothing changes.
    pub(super) async fn reload(&self) -> Response {
        // Gateways are not changed meanwhile, under settings that are on their way out.
        let _store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let read = match self.origin().read() {
            Ok(read) => read,
            Err(error) => return Response::failed(&format!("{error}; nothing was applied")),
        };
        let reloaded = self.settings().reloaded(read.settings);
        if !reloaded.applied.is_empty()
            && let Err(error) = self.take_over(reloaded.settings)
        {
            return Response::failed(&format!("{error}; nothing was applied"));
        }
        let mut warnings = Vec::new();
        if reloaded.applied.iter().any(|key| *key == "realm" || key.starts_with("digest.")) {
            let accounts = self.accounts();
            for (_, gateway) in accounts.snapshot.sorted() {
                let otherwise = self.challenged_otherwise(&accounts.snapshot, gateway);
                warnings.extend(otherwise.iter().map(ToString::to_string));
            }
            once(&mut warnings);
            shorten(&mut warnings, "warnings");
        }
        let owned = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        Response::Reloaded(ReloadReport {
            applied: owned(reloaded.applied),
            restart: owned(reloaded.restart),
            overruled: read.overruled,
            warnings,
        })
    }
}

/// Says in the log what a reload leaves to do; what it did, or why not, is in the audit.
pub(super) fn log(outcome: &Response) {
    let Response::Reloaded(report) = outcome else { return };
    if !report.restart.is_empty() {
        warn!(
            settings = report.restart.join(", "),
            "changed in the file, and in force only after a restart"
        );
    }
    if !report.overruled.is_empty() {
        warn!(settings = report.overruled.join(", "), "in the file, and overruled by a flag");
    }
    report.warnings.iter().for_each(|warning| warn!("{warning}"));
}

/// Reloads at each SIGHUP.
pub(super) async fn at_hangup(agent: Arc<Agent>, mut hangup: Signal, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            received = hangup.recv() => if received.is_none() { return },
        }
        let response = agent.reload().await;
        log(&response);
        let attempt = Attempt::of(&Request::Reload);
        agent.audited(attempt, response.into(), || Author::unnamed("SIGHUP")).await;
    }
}
