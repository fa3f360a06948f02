//! What `explain` tells. It is also what `--json` prints, so its names are a contract.

use serde::{Deserialize, Serialize};

use super::{BanInfo, EventRecord, FlowInfo};
use crate::gateway::Mode;

/// What would happen to a packet, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// `pass`, `drop` or `punt`.
    pub verdict: String,
    /// Label of the reason, as in the counters.
    pub reason: String,
    /// What the reason means.
    pub text: String,
    /// The gateway that it counts for.
    pub gateway: Option<String>,
    /// That gateway's mode.
    pub mode: Option<Mode>,
    /// Where a punted packet queues.
    pub lane: Option<String>,
    /// In monitor mode the packet passes whatever the verdict.
    pub monitor: bool,
    /// What the decision asked and was answered, in order; the last is its verdict.
    pub steps: Vec<ExplainStep>,
    /// What to do for another verdict, or what comes next.
    pub remedy: String,
    /// What else bears on the source.
    pub source: SourceReport,
}

/// A question of the decision, with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// `port`, `settings`, `address`, `source-port`, `ban`, `flow`, `peer`, `agent`, or `verdict` for the last.
    pub asked: String,
    /// The answer in a sentence.
    pub text: String,
}

/// What is known of a source address, whether the decision asked for it or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// A ban in force.
    pub ban: Option<BanInfo>,
    /// Its live flows.
    pub flows: Vec<FlowInfo>,
    /// Seconds since the softswitch last called it, while that is remembered.
    pub peer: Option<u64>,
    /// What it has used of its rate, by lane; only lanes that it was in lately.
    pub rates: Vec<RateInfo>,
    /// How the agent would challenge it; `None` where it does not.
    pub challenge: Option<ChallengeInfo>,
    /// The last refusals of this address, the oldest first.
    pub refusals: Vec<EventRecord>,
}

/// The rate of a source in a lane, at the CPU where least is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateInfo {
    /// The lane.
    pub lane: String,
    /// Packets for the agent that it may send now.
    pub left: u64,
    /// Packets that come to it in a second; it can save up two seconds' worth.
    pub per_second: u32,
}

/// A challenge of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeInfo {
    /// 401 or 407.
    pub status: u16,
    /// Its realm.
    pub realm: String,
    /// Algorithms, the first offered first.
    pub algorithms: Vec<String>,
    /// `auth`, `auth-int`, `both` or `none`.
    pub qop: String,
    /// Seconds for which it may be answered.
    pub nonce_lifetime: u64,
}
