//! Who is challenged with settings that are not his own: what a source is offered follows its address, what is accepted follows the username.

use std::collections::HashSet;

use super::Agent;
use crate::{
    auth::{DigestRules, Qop},
    compile::{Snapshot, place},
    gateway::{Gateway, Mode, Warning},
};

/// What a challenge says.
struct Offer<'a> {
    rules: DigestRules,
    realm: &'a str,
}

impl Offer<'_> {
    /// Which of its settings keeps one who accepts that from answering.
    fn lacks(&self, accepted: &Offer<'_>) -> Option<&'static str> {
        let (offered, rules) = (&self.rules, &accepted.rules);
        let qop = [false, true]
            .into_iter()
            .any(|integrity| offered.qop.accepts(integrity) && rules.qop.accepts(integrity));
        if accepted.realm != self.realm {
            Some("realm")
        } else if !rules.algorithms.iter().any(|one| offered.algorithms.contains(one)) {
            Some("algorithms")
        } else if !qop && offered.qop != Qop::None && !rules.accept_without_qop {
            Some("qop")
        } else {
            None
        }
    }
}

impl Agent {
    /// Whether a gateway's challenge may differ from the agent's own.
    pub(super) fn has_own_challenge(&self, gateway: &Gateway) -> bool {
        !gateway.digest.is_empty() || gateway.realm.as_ref().is_some_and(|realm| *realm != self.settings().realm)
    }

    /// What the challenges that a gateway gets lack for it, and what its own lack for gateways that it shares an address with.
    pub(in crate::agent) fn challenged_otherwise(&self, present: &Snapshot, gateway: &Gateway) -> Vec<Warning> {
        let settings = self.settings();
        let general = Offer {
            rules: (*settings.digest).clone(),
            realm: &settings.realm,
        };
        let own = |gateway: &Gateway| {
            let rules = gateway.digest.rules(&settings.digest).ok()?;
            let realm = gateway.realm.clone().unwrap_or_else(|| settings.realm.clone());
            Some((rules, realm))
        };
        let lacks = |leader: Option<&Gateway>, other: &Gateway| {
            let (rules, realm) = own(other)?;
            let accepted = Offer { rules, realm: &realm };
            match leader {
                None => general.lacks(&accepted),
                Some(leader) => {
                    let (rules, realm) = own(leader)?;
                    Offer { rules, realm: &realm }.lacks(&accepted)
                }
            }
        };
        if gateway.is_anywhere() {
            let what = lacks(None, gateway);
            return what
                .map(|what| Warning::ChallengedOtherwise {
                    gateway: gateway.name.clone(),
                    what,
                })
                .into_iter()
                .collect();
        }
        let (mut warnings, mut named) = (Vec::new(), HashSet::new());
        for network in gateway.addresses.iter().filter(|_| gateway.mode == Mode::Password) {
            let there: Vec<&Gateway> = present.at(place(network)).filter(|other| other.name != gateway.name).collect();
            // Where the address is enough nobody is challenged.
            if there.iter().any(|other| other.mode == Mode::Ip) {
                continue;
            }
            let others: Vec<&Gateway> = there.into_iter().filter(|other| other.mode == Mode::Password).collect();
            // As the maps are compiled: of equals the lower id. One that is new has none yet.
            let rank = |one: &Gateway| {
                let id = present.by_name(&one.name).map_or(u32::MAX, |(id, _)| id);
                (std::cmp::Reverse(one.priority), id)
            };
            let Some(first) = others.iter().copied().min_by_key(|one| rank(one)) else {
                continue;
            };
            let pairs: Vec<(&Gateway, &Gateway)> = if rank(first) <= rank(gateway) {
                vec![(first, gateway)]
            } else {
                others.into_iter().map(|other| (gateway, other)).collect()
            };
            for (leader, other) in pairs {
                let Some(what) = lacks(Some(leader), other) else { continue };
                if named.insert((leader.name.as_str(), other.name.as_str())) {
                    warnings.push(Warning::ChallengedForAnother {
                        gateway: other.name.clone(),
                        network: *network,
                        leader: leader.name.clone(),
                        what,
                    });
                }
            }
        }
        warnings
    }
}
