//! What `top` and the console look at again and again: all counters and the agent's health at one time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{InterfaceStatus, StatsReport};

/// Counters and health at one time. Rates are made of two of these, see [`crate::rates`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `CLOCK_MONOTONIC` of the agent's machine, ns, when the counters were read.
    pub at_ns: u64,
    /// All counters.
    pub stats: StatsReport,
    /// How the agent is set up.
    pub setup: Setup,
    /// How it fares.
    pub health: Health,
    /// What is handed to the agent, in the order of the lanes.
    pub lanes: Vec<LaneReport>,
}

/// How the agent is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Version of the agent.
    pub version: String,
    /// Seconds since the agent began to enforce.
    pub uptime: u64,
    /// Each protected interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// `deny`, `challenge` or `allow`: the one in force.
    pub default_policy: String,
    /// Why it does not enforce, as in `status`; empty where it does.
    pub obstacles: Vec<String>,
}

/// How the agent fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Worker threads.
    pub workers: usize,
    /// Bans in force.
    pub bans: u64,
    /// Live flows.
    pub flows: u64,
    /// Refusals and registrations that the kernel programs could not tell of, since the ring buffer was full.
    pub events_lost: u64,
    /// What the workers met, by label of the fault; every fault is there.
    pub faults: BTreeMap<String, u64>,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// Its name.
    pub lane: String,
    /// Packets a second that the agent takes from each CPU.
    pub budget: u32,
    /// Packets that were handed over.
    pub admitted: u64,
    /// Packets that were dropped, beyond the budget of their source or of the lane.
    pub over_budget: u64,
    /// How much of its reserve is left, from 0 to 1, at the CPU where that is least. It is 1 unless more comes than the budget.
    pub left: f64,
}
