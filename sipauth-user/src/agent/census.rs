//! How many entries the maps have, counted now and then: the kernel does not say, so one has to go through them, which for full maps
//! takes too long for a scrape.

use std::{sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use sipauth_common::decide::TCP;
use tokio_util::sync::CancellationToken;

use super::{bans, state::Agent};
use crate::{
    datapath::{DatapathError, Occupancy, monotonic_ns},
    metrics::Census,
};

/// How old the figures may be.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause is at least so many times as long as the count took: a hundredth of one core, however full the maps.
const REST: u32 = 100;

/// Counts until the end.
pub(super) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    loop {
        let counting = Arc::clone(&agent);
        let counted = tokio::task::spawn_blocking(move || {
            let begun = cpu_time();
            (count(&counting), cpu_time().saturating_sub(begun))
        });
        let took = match counted.await {
            Ok((Ok(census), took)) => {
                agent.set_census(census);
                took
            }
            Ok((Err(error), took)) => {
                tracing::warn!(%error, "the entries of the maps cannot be counted; metrics show the last count");
                took
            }
            Err(error) => {
                tracing::error!(%error, "counting the entries of the maps ended");
                return;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE.max(took * REST)) => {}
        }
    }
}

/// Of this thread. Not what a clock on the wall says: on a busy machine that would put off the next count for long.
pub(super) fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Goes through all maps that can fill.
pub(super) fn count(agent: &Agent) -> Result<Census, DatapathError> {
    let (maps, now) = (agent.maps(), monotonic_ns());
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (idle_ns, ttl_ns) = (nanoseconds(agent.settings().flow_idle), nanoseconds(agent.settings().peer_ttl));
    let (mut udp, mut tcp, mut peers, mut manual, mut failures) = (0, 0, 0, 0, 0);
    let flows = maps.visit_flows(|key, flow| {
        if flow.is_live(now, idle_ns) {
            *if key.protocol == TCP { &mut tcp } else { &mut udp } += 1;
        }
    })?;
    let learned = maps.visit_peers(|_, seen| peers += u64::from(now.saturating_sub(*seen) < ttl_ns))?;
    let banned = maps.visit_bans(|_, ban| {
        if ban.expires > now {
            *if ban.cause == bans::MANUAL { &mut manual } else { &mut failures } += 1;
        }
    })?;
    let mut occupancy: Vec<Occupancy> = maps.occupancy()?.into();
    occupancy.extend([flows, learned, banned]);
    Ok(Census {
        occupancy,
        footprints: maps.footprints()?,
        prefilter: maps.prefilter_fill(),
        flows: vec![("udp", udp), ("tcp", tcp)],
        peers,
        bans: vec![(bans::label(bans::MANUAL), manual), (bans::label(bans::FAILURES), failures)],
    })
}
