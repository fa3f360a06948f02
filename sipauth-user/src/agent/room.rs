//! Room in the map of flows. The kernel would forget those that were not seen for longest, whosever they are, so that one gateway could push out the
//! calls of all others by authenticating from many ports. So the agent keeps the map from being full: where there are more flows than the
//! settings say, those of the gateways go that have the most ([`fair::surplus`]), down to seven eighths, so that one in many grants costs a look through the
//! map. The head room of the map ([`crate::datapath::entries_for_flows`]) is for what comes meanwhile; where half of it is used up, grants wait.
//!
//! What the map has is what counts: after a restart, and with the connections that the kernel program enters by itself. In between the agent
//! counts what it enters.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use sipauth_common::{decide::Lookup as _, flow::FlowKey};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{census::cpu_time, state::Agent};
use crate::{
    datapath::{DatapathError, monotonic_ns},
    fair,
};

/// Between looks while there is room. What the kernel program enters by itself is not known for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause is at least so many times as long as the look took.
const REST: u32 = 100;
/// What was pushed out is told in the log so often, at most.
const SAYING: Duration = Duration::from_secs(60);
/// Gateways that are named there.
const NAMED: usize = 5;

/// What the agent knows of the room for flows.
#[derive(Default)]
pub(super) struct Room {
    /// Entries of the map.
    held: AtomicU64,
    /// One look at a time.
    looking: Mutex<()>,
    /// What a look is removing at this moment, where it was not used since the look began.
    doomed: ArcSwapOption<HashSet<FlowKey>>,
    /// A look is due.
    due: Notify,
    evicted: Mutex<Evicted>,
}

/// Flows that were pushed out.
#[derive(Default)]
struct Evicted {
    /// Since the start.
    all: u64,
    /// Those that the log has not told yet, by gateway.
    untold: HashMap<u32, u64>,
    told: Option<Instant>,
    /// The gateway that lost the most when room was last made.
    most: Option<u32>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// Whether a look is removing a flow that has just been entered, or found to be there. If so, waits for the end of the look, behind which
    /// it is to be entered anew. If not, a look that is to begin sees what was entered, and leaves it alone.
    pub(super) fn took(&self, key: &FlowKey) -> bool {
        // What was entered is seen by a look, or what that removes is seen here.
        fence(SeqCst);
        let taken = self.doomed.load().as_ref().is_some_and(|doomed| doomed.contains(key));
        if taken {
            drop(locked(&self.looking));
        }
        taken
    }

    /// A flow is entered that the map does not have.
    pub(super) fn enter(&self, room: u32) {
        if self.held.fetch_add(1, Relaxed) >= u64::from(room) {
            self.due.notify_one();
        }
    }

    /// How many flows were pushed out since the start.
    pub(super) fn evicted(&self) -> u64 {
        locked(&self.evicted).all
    }

    /// The gateway that lost the most when room was last made.
    pub(super) fn gave_way(&self) -> Option<u32> {
        locked(&self.evicted).most
    }
}

/// Before a grant: waits while the head room is being used up, or makes room itself.
pub(super) fn wait(agent: &Agent) {
    let brim = u64::from(agent.maps().flow_room()) / 8 * 9;
    if agent.room.held.load(Relaxed) > brim {
        let turn = locked(&agent.room.looking);
        // Whoever had the turn may have made room.
        if agent.room.held.load(Relaxed) > brim {
            // Where it fails the kernel chooses which to forget; `keep` says so.
            let _ = look(agent, &turn);
        }
    }
}

/// Makes room where that is due, until the end.
pub(super) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut failing = false;
    loop {
        let looker = Arc::clone(&agent);
        let looked = tokio::task::spawn_blocking(move || {
            let begun = cpu_time();
            let looked = make(&looker);
            looker.tell_evicted();
            (looked, cpu_time().saturating_sub(begun))
        });
        let pause = match looked.await {
            Ok((Ok(()), took)) => {
                failing = false;
                PAUSE.max(took * REST)
            }
            Ok((Err(error), _)) => {
                if !failing {
                    warn!(%error, "no room is made for flows: where their map gets full, the kernel forgets those that were quiet for longest");
                }
                failing = true;
                PAUSE
            }
            Err(error) => {
                error!(%error, "making room for flows ended");
                return;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = due(&agent), if !failing => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Until there are more flows than there is room for. Whoever said so may have been served by the last look.
async fn due(agent: &Agent) {
    loop {
        agent.room.due.notified().await;
        if agent.room.held.load(Relaxed) > u64::from(agent.maps().flow_room()) {
            return;
        }
    }
}

/// Looks through the flows once.
pub(super) fn make(agent: &Agent) -> Result<(), DatapathError> {
    look(agent, &locked(&agent.room.looking))
}

/// Forgets the flows that are over, and pushes out what there is no room for.
fn look(agent: &Agent, _turn: &MutexGuard<'_, ()>) -> Result<(), DatapathError> {
    let looked = sweep(agent);
    agent.room.doomed.store(None);
    looked
}

fn sweep(agent: &Agent) -> Result<(), DatapathError> {
    let (maps, now, before) = (agent.maps(), monotonic_ns(), agent.room.held.load(Relaxed));
    let idle_ns = u64::try_from(agent.settings().flow_idle.as_nanos()).unwrap_or(u64::MAX);
    // As `Room::took` wants it: first it is said what goes, then looked whether it was used.
    let doom = |keys: HashSet<FlowKey>| {
        agent.room.doomed.store(Some(Arc::new(keys)));
        fence(SeqCst);
    };
    let remove = |key: &FlowKey| {
        let unused = maps.flow(key).is_some_and(|flow| flow.seen < now);
        if unused { maps.delete_flow(key) } else { Ok(false) }
    };
    let mut over = Vec::new();
    let found = maps.visit_flows(|key, flow| {
        if !flow.is_live(now, idle_ns) {
            over.push(*key);
        }
    })?;
    doom(over.iter().copied().collect());
    let mut left = found.entries;
    for key in &over {
        left = left.saturating_sub(u64::from(remove(key)?));
    }
    let room = maps.flow_room();
    if left > u64::from(room) {
        let mut lost: HashMap<u32, u64> = HashMap::new();
        let surplus = fair::surplus(maps.flows()?, (room - room / 8) as usize);
        doom(surplus.iter().map(|(key, _)| *key).collect());
        for (key, gateway) in surplus {
            if remove(&key)? {
                left = left.saturating_sub(1);
                *lost.entry(gateway).or_default() += 1;
            }
        }
        agent.room.note(&lost);
    }
    // What was entered meanwhile may be counted twice, until the next look.
    agent.room.held.fetch_add(left.wrapping_sub(before), Relaxed);
    Ok(())
}

impl Room {
    fn note(&self, lost: &HashMap<u32, u64>) {
        let mut evicted = locked(&self.evicted);
        for (gateway, flows) in lost {
            evicted.all += flows;
            *evicted.untold.entry(*gateway).or_default() += flows;
        }
        evicted.most = lost.iter().max_by_key(|(_, flows)| **flows).map(|(gateway, _)| *gateway);
    }

    /// What the log is to tell now, the most first.
    fn due_to_tell(&self) -> Vec<(u32, u64)> {
        let mut evicted = locked(&self.evicted);
        if evicted.untold.is_empty() || evicted.told.is_some_and(|told| told.elapsed() < SAYING) {
            return Vec::new();
        }
        evicted.told = Some(Instant::now());
        let mut lost: Vec<_> = std::mem::take(&mut evicted.untold).into_iter().collect();
        lost.sort_unstable_by_key(|(_, flows)| std::cmp::Reverse(*flows));
        lost
    }
}

impl Agent {
    fn tell_evicted(&self) {
        let lost = self.room.due_to_tell();
        if lost.is_empty() {
            return;
        }
        let flows: u64 = lost.iter().map(|(_, flows)| flows).sum();
        let named = lost
            .iter()
            .take(NAMED)
            .map(|(gateway, flows)| format!("{} ({flows})", self.holder(*gateway)));
        warn!(
            flows,
            room = self.maps().flow_room(),
            most = named.collect::<Vec<_>>().join(", "),
            "flows were pushed out, of the gateways that have the most: they have to authenticate again; `max-flows` makes more room"
        );
    }

    /// Whose flows these are, to be read.
    pub(super) fn holder(&self, gateway: u32) -> String {
        match gateway {
            0 => "the softswitch".to_owned(),
            id => self.name_of(id).unwrap_or_else(|| "a gateway that is gone".to_owned()),
        }
    }
}
