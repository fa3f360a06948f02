//! Looks after the maps that sources fill (flows, peers, bans): they begin small, and get room before what they have is pushed out.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{place, state::Agent};
use crate::datapath::{DatapathError, Demand, LEARNED};

/// A map has room for three times what it has; sources would have to come faster than that to be forgotten.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure: to make maps costs loading the programs.
const REST: Duration = Duration::from_secs(60);

/// Until the end.
pub(super) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let looker = Arc::clone(&agent);
        let wanted = match tokio::task::spawn_blocking(move || wanted(&looker)).await {
            Ok(wanted) => wanted,
            Err(error) => {
                error!(%error, "nobody looks after the maps that sources fill any more");
                return;
            }
        };
        pause = match grow(&agent, wanted).await {
            Ok(()) => LOOK,
            Err(error) => {
                warn!(%error, "maps that sources fill cannot grow; those not seen for longest will be forgotten");
                REST
            }
        };
    }
}

/// The sizes that they should have; 0 for one that is large enough.
fn wanted(agent: &Agent) -> Result<[u32; LEARNED.len()], DatapathError> {
    let (maps, mut wanted) = (agent.maps(), [0; LEARNED.len()]);
    let bounds = place::bounds(&agent.settings()).learned();
    for ((map, bound), wanted) in LEARNED.into_iter().zip(bounds).zip(&mut wanted) {
        let size = maps.capacity(map);
        // One that cannot grow need not be counted.
        if size < bound {
            *wanted = Demand::learned(maps.entries_of(map)?, size, bound).unwrap_or(0);
        }
    }
    Ok(wanted)
}

async fn grow(agent: &Agent, wanted: Result<[u32; LEARNED.len()], DatapathError>) -> Result<(), DatapathError> {
    let learned = wanted?;
    if learned == [0; LEARNED.len()] {
        return Ok(());
    }
    // Gateways do not change meanwhile. Where the store is damaged maps stay as they are.
    let Ok(_store) = agent.store().await else { return Ok(()) };
    let demand = Demand {
        learned,
        ..agent.accounts().snapshot.demand()
    };
    tokio::task::block_in_place(|| agent.make_room(&demand))
}
