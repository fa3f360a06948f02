//! What a scrape shows: plain numbers, filled in by the agent.

use sipauth_common::{
    config::{LANES, Lane},
    reason::{Reason, Verdict},
    stats::{Count, EventStats, LaneStats},
};

use crate::{
    config::XdpMode,
    datapath::{Fill, Footprint, Occupancy},
    gateway::Mode,
    worker::Work,
};

/// All numbers at one time. Lists of a closed set (reasons, outcomes, faults) are complete, so that zeros show.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Packets by reason, as the kernel program counted them.
    pub reasons: Vec<(Reason, Count)>,
    /// Of each gateway.
    pub gateways: Vec<GatewayCount>,
    /// What became of what was for the agent, by [`Lane`] as a number.
    pub lanes: [LaneStats; LANES],
    /// What became of events.
    pub events: EventStats,
    /// What the workers did.
    pub work: Work,
    /// Lines of a log: its name, what became of them (`written`, `lost`), and how many.
    pub logs: Vec<(&'static str, &'static str, u64)>,
    /// What was found in the maps at the last count.
    pub census: Census,
    /// Flows that were pushed out since there were more than there is room for.
    pub flows_evicted: u64,
    /// Host names of gateways: how many there are, and of how many there is no good answer any more.
    pub host_names: (u64, u64),
    /// Seconds since the agent last told the kernel program that it is alive.
    pub heartbeat_age: f64,
    /// Verdicts are computed and counted, and everything passes.
    pub monitor: bool,
    /// What needs the agent passes while it is down.
    pub fail_open: bool,
    /// Where the program should be attached.
    pub interfaces: Vec<Interface>,
}

/// Traffic of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayCount {
    /// Its name.
    pub name: String,
    /// What is verified.
    pub mode: Mode,
    /// Indexed by [`Verdict`] as a number.
    pub verdict: [Count; Verdict::ALL.len()],
}

/// What was found in the maps.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// How full they are, each that can fill.
    pub occupancy: Vec<Occupancy>,
    /// What each map takes.
    pub footprints: Vec<Footprint>,
    /// How full the prefilter is.
    pub prefilter: Fill,
    /// Live flows, by transport.
    pub flows: Vec<(&'static str, u64)>,
    /// Learned peers that are remembered.
    pub peers: u64,
    /// Bans in force, by cause.
    pub bans: Vec<(&'static str, u64)>,
}

/// An interface that is to be protected.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How the kernel runs the program there now; `None` if it does not.
    pub mode: Option<XdpMode>,
}

/// Label of a lane's position.
pub(super) fn lanes() -> impl Iterator<Item = (usize, &'static str)> {
    Lane::ALL.into_iter().map(|lane| (lane as usize, lane.label()))
}
