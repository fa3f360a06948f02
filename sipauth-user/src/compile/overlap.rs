//! What a new gateway changes for those that are there: operators hear of it when they add one.

use std::collections::HashSet;

use super::{Snapshot, place};
use crate::gateway::{Gateway, Mode, Warning};

/// How much a mode asks of a caller. A gateway that asks for less weakens one that asks for more at the same source.
const fn strength(mode: Mode) -> u8 {
    match mode {
        Mode::Ip => 0,
        // Either is enough where both are present: to know a port is less than to know a password.
        Mode::IpPort => 1,
        Mode::Password => 2,
        // May not call in at all.
        Mode::Peer => 3,
    }
}

/// What `after` changes for another gateway of `snapshot` that `before`, which is the same gateway, did not.
pub fn interferes(snapshot: &Snapshot, before: &Gateway, after: &Gateway) -> Option<Warning> {
    let known = weakened(snapshot, before);
    weakened(snapshot, after)
        .into_iter()
        .find(|warning| !known.iter().any(|known| known.between() == warning.between()))
}

/// What `new` changes for the gateways of `snapshot`: those at the same address or prefix of which one asks for less, and wider
/// prefixes that a longer one of `new` takes a part from. Names both, and each other gateway once.
pub fn weakened(snapshot: &Snapshot, new: &Gateway) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut named = HashSet::new();
    for network in &new.addresses {
        for other in snapshot.at(place(network)) {
            if other.name == new.name || !named.insert(other.name.as_str()) {
                continue;
            }
            let (weaker, stronger) = if strength(new.mode) < strength(other.mode) {
                (new, other)
            } else {
                (other, new)
            };
            if strength(weaker.mode) < strength(stronger.mode) {
                warnings.push(Warning::Weakened {
                    stronger: stronger.name.clone(),
                    stronger_mode: stronger.mode,
                    weaker: weaker.name.clone(),
                    weaker_mode: weaker.mode,
                    network: *network,
                });
            }
        }
    }
    for network in &new.addresses {
        for outer in snapshot.around(place(network)) {
            for other in snapshot.at(outer) {
                if other.name == new.name || !named.insert(other.name.as_str()) {
                    continue;
                }
                let Some(hidden_network) = other.addresses.iter().find(|net| place(net) == outer) else {
                    continue;
                };
                warnings.push(Warning::Hidden {
                    gateway: new.name.clone(),
                    network: *network,
                    hidden: other.name.clone(),
                    hidden_network: *hidden_network,
                });
            }
        }
    }
    warnings
}
