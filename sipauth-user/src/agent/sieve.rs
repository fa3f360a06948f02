//! Looks after the prefilter: it is filled anew when it is too small for what the maps have, or has too many bits of what is gone.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::state::Agent;

/// After many gateways have come, strangers cost a look-up for so long.
const LOOK: Duration = Duration::from_secs(1);

/// Until the end.
pub(super) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => {}
        }
        let keeper = Arc::clone(&agent);
        match tokio::task::spawn_blocking(move || keeper.maps().keep_prefilter()).await {
            Ok(Ok(renewed)) => {
                failing = false;
                if renewed {
                    debug!("the prefilter was filled anew");
                }
            }
            Ok(Err(error)) if !failing => {
                failing = true;
                warn!(%error, "the prefilter is as it was: strangers may cost more than they need to");
            }
            Ok(Err(_)) => {}
            Err(error) => {
                error!(%error, "nobody looks after the prefilter any more");
                return;
            }
        }
    }
}
