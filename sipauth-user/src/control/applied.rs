//! What bringing the gateways to a list does: also what `--json` prints, so the names are a contract.

use serde::{Deserialize, Serialize};

use super::GatewayInfo;

/// What bringing the gateways to a list does, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// It was asked for only what would be done.
    pub dry_run: bool,
    /// In the list only; their ids are 0 here.
    pub added: Vec<GatewayInfo>,
    /// In both, and different.
    pub changed: Vec<ChangedGateway>,
    /// Not in the list.
    pub removed: Vec<GatewayInfo>,
    /// In both, and the same.
    pub unchanged: usize,
    /// How many more there are than are named here.
    #[serde(default)]
    pub more: MoreGateways,
    /// What may surprise.
    pub warnings: Vec<String>,
}

/// Gateways that [`ApplyReport`] does not name, since they are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoreGateways {
    /// In the list only.
    pub added: usize,
    /// In both, and different.
    pub changed: usize,
    /// Not in the list.
    pub removed: usize,
    /// The names of those that were added, for the agent's own audit.
    #[serde(skip)]
    pub added_names: Vec<String>,
}

impl ApplyReport {
    /// So many of each kind are named in an answer.
    pub const NAMED: usize = 10_000;

    /// Names no more than go into an answer.
    pub fn shorten(&mut self) {
        fn cut<T>(all: &mut Vec<T>, more: &mut usize) {
            *more += all.len().saturating_sub(ApplyReport::NAMED);
            all.truncate(ApplyReport::NAMED);
        }
        cut(&mut self.added, &mut self.more.added);
        cut(&mut self.changed, &mut self.more.changed);
        cut(&mut self.removed, &mut self.more.removed);
    }
}

/// A gateway before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedGateway {
    /// As it was.
    pub before: GatewayInfo,
    /// As it is.
    pub after: GatewayInfo,
    /// The password is another one.
    pub password: bool,
}
