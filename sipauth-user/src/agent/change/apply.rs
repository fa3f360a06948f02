//! A whole list of gateways at once: the difference to what is there, shown or carried out, all or nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::RandomState;
use tokio::task::{block_in_place, spawn_blocking};

use super::{Agent, Edited, derive, once, shorten};
use crate::{
    agent::names::Answers,
    compile::{Edit, Snapshot},
    control::{ApplyReport, ChangedGateway, GatewayInfo, MoreGateways, Response},
    gateway::{Gateway, GatewayError, Mode, RawGateway},
};

/// The difference, by what happens to a gateway.
#[derive(Default)]
struct Plan {
    add: Vec<Arc<Gateway>>,
    change: Vec<(u32, Arc<Gateway>)>,
    remove: Vec<u32>,
    unchanged: usize,
}

impl Plan {
    const fn is_empty(&self) -> bool {
        self.add.is_empty() && self.change.is_empty() && self.remove.is_empty()
    }
}

impl Agent {
    /// Brings the gateways to this list; those that are not in it go only with `prune`. `dry_run` says what would be done.
    pub(in crate::agent) async fn apply(&self, raws: Vec<RawGateway>, prune: bool, dry_run: bool) -> Response {
        let answers = self.answers(raws.iter().flat_map(|raw| &raw.addresses)).await;
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let old = self.accounts_owned();
        let planned = block_in_place(|| plan(raws, prune, &old.snapshot, &self.settings().realm, &answers));
        let plan = match planned {
            Ok(plan) => plan,
            Err(errors) => return Response::failed(&errors),
        };
        let report = block_in_place(|| {
            let mut report = report(&plan, &old.snapshot, dry_run);
            // The new ones have no ids yet, so they are not compared with each other here, but for those that could be challenged for each other.
            let free = u32::try_from(old.snapshot.demand().gateways).unwrap_or(u32::MAX);
            let alike = !plan.add.iter().any(|gateway| self.has_own_challenge(gateway));
            let new = plan.add.iter().filter(|gateway| !alike && gateway.mode == Mode::Password);
            let (listed, _) = old.snapshot.edited(Edit {
                remove: plan.remove.clone(),
                put: plan.change.iter().cloned().chain((free..).zip(new.cloned())).collect(),
            });
            for gateway in plan.add.iter().chain(plan.change.iter().map(|(_, gateway)| gateway)) {
                report.warnings.extend(self.warnings(&listed, gateway));
            }
            once(&mut report.warnings);
            shorten(&mut report.warnings, "warnings");
            report
        });
        if dry_run || plan.is_empty() {
            return Response::Applied(report);
        }
        let mut change = match store.begin().await {
            Ok(change) => change,
            Err(error) => return error.into(),
        };
        // Not an id of one that goes: its flows and counters are forgotten only after the change.
        let ids = match change.free_ids(plan.add.len(), &plan.remove).await {
            Ok(ids) => ids,
            Err(error) => return error.into(),
        };
        let add: Vec<_> = ids.into_iter().zip(plan.add).collect();
        let edit = Edit {
            remove: plan.remove.clone(),
            put: add.iter().chain(&plan.change).cloned().collect(),
        };
        // Beside the writing: of a million gateways either takes seconds.
        let before = Arc::clone(&old);
        let edited = spawn_blocking(move || Edited::new(&before.snapshot, edit));
        // Removed first: names and usernames are free then.
        for id in &plan.remove {
            let Some(gateway) = old.snapshot.gateway(*id) else { continue };
            if let Err(error) = change.remove(&gateway.name).await {
                return error.into();
            }
        }
        if let Err(error) = change.replace_many(&plan.change).await {
            return error.into();
        }
        if let Err(error) = change.add_as(&add).await {
            return error.into();
        }
        let edited = match edited.await {
            Ok(edited) => edited,
            Err(error) => return Response::failed(&error),
        };
        if let Err(refusal) = self.carry_out(change, &old, edited).await {
            return refusal;
        }
        Response::Applied(report)
    }
}

/// The difference; else every error, as far as there is room.
fn plan(raws: Vec<RawGateway>, prune: bool, present: &Snapshot, realm: &str, answers: &Answers) -> Result<Plan, String> {
    let (mut plan, mut errors) = (Plan::default(), Vec::new());
    let mut listed = Vec::with_capacity(raws.len());
    for raw in raws {
        let old = present.by_name(&raw.name);
        let validated = raw.validate(realm, old.map(|(_, gateway)| gateway), derive);
        match validated.and_then(|mut gateway| answers.give(&mut gateway, present).map(|()| gateway)) {
            Ok(gateway) => listed.push((old, Arc::new(gateway))),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let mut names = HashSet::with_capacity_and_hasher(listed.len(), RandomState::default());
    let mut usernames: HashMap<&str, &str> = HashMap::new();
    for (old, gateway) in &listed {
        if !names.insert(gateway.name.as_str()) {
            errors.push(format!("gateway {}: it is there twice; leave one out", gateway.name));
            continue;
        }
        if let Some(username) = &gateway.username
            && let Some(other) = usernames.insert(username, &gateway.name)
        {
            errors.push(taken(&gateway.name, username, other));
            continue;
        }
        match old {
            Some((_, old)) if **old == **gateway => plan.unchanged += 1,
            Some((id, _)) => plan.change.push((*id, Arc::clone(gateway))),
            None => plan.add.push(Arc::clone(gateway)),
        }
    }
    for (id, gateway) in present.iter().filter(|(_, gateway)| !names.contains(gateway.name.as_str())) {
        if prune {
            plan.remove.push(id);
        } else if let Some(username) = &gateway.username
            && let Some(new) = usernames.get(username.as_str())
        {
            errors.push(taken(new, username, &gateway.name));
        }
    }
    if errors.is_empty() {
        return Ok(plan);
    }
    shorten(&mut errors, "errors");
    errors.push("nothing was applied".to_owned());
    Err(errors.join("\n"))
}

fn taken(gateway: &str, username: &str, other: &str) -> String {
    let (gateway, username, other) = (gateway.to_owned(), username.to_owned(), other.to_owned());
    GatewayError::UsernameTaken { gateway, username, other }.to_string()
}

fn report(plan: &Plan, present: &Snapshot, dry_run: bool) -> ApplyReport {
    // A first list of gateways may have a million, and whoever reads that has it.
    let (named, others) = plan.add.split_at(plan.add.len().min(ApplyReport::NAMED));
    let removed = plan.remove.iter();
    let mut removed: Vec<_> = removed
        .filter_map(|id| Some(GatewayInfo::new(*id, present.gateway(*id)?)))
        .collect();
    removed.sort_by(|a, b| a.name.cmp(&b.name));
    let changed = plan.change.iter().filter_map(|(id, new)| {
        let old = present.gateway(*id)?;
        Some(ChangedGateway {
            before: GatewayInfo::new(*id, old),
            after: GatewayInfo::new(*id, new),
            password: old.credentials != new.credentials,
        })
    });
    ApplyReport {
        dry_run,
        added: named.iter().map(|gateway| GatewayInfo::new(0, gateway)).collect(),
        changed: changed.collect(),
        removed,
        unchanged: plan.unchanged,
        more: MoreGateways {
            added: others.len(),
            added_names: others.iter().map(|gateway| gateway.name.clone()).collect(),
            ..MoreGateways::default()
        },
        warnings: Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        config::RawDigest,
        gateway::{Mode, Secret},
    };

    fn raw(name: &str, mode: Mode, addresses: &[&str], username: Option<&str>) -> RawGateway {
        RawGateway {
            name: name.to_owned(),
            mode,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ports: Vec::new(),
            username: username.map(str::to_owned),
            realm: None,
            password: username.map(|_| Secret::new("secret of the test".to_owned())),
            allow_weak_password: true,
            credentials: None,
            digest: RawDigest::default(),
            priority: 0,
        }
    }

    fn present(raws: &[RawGateway]) -> Snapshot {
        let gateways = raws.iter().map(|raw| raw.clone().validate("r", None, derive).unwrap());
        Snapshot::new((1..).zip(gateways).collect())
    }

    #[test]
    fn the_difference_has_what_comes_what_changes_and_with_prune_what_goes() {
        let (ip, pw) = (raw("ip", Mode::Ip, &["10.0.0.1"], None), raw("pw", Mode::Password, &[], Some("u")));
        let old = present(&[ip.clone(), pw.clone(), raw("gone", Mode::Ip, &["10.0.0.9"], None)]);
        let moved = RawGateway {
            addresses: vec!["10.0.0.2".to_owned()],
            ..ip
        };
        // Without its password, which is known.
        let silent = RawGateway { password: None, ..pw };
        let new = raw("new", Mode::Ip, &["10.0.0.3"], None);
        for prune in [false, true] {
            let plan = plan(
                vec![moved.clone(), silent.clone(), new.clone()],
                prune,
                &old,
                "r",
                &Answers::default(),
            )
            .unwrap();
            assert_eq!(plan.add.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["new"]);
            assert_eq!(plan.change.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1]);
            assert_eq!((plan.unchanged, plan.remove), (1, if prune { vec![3] } else { Vec::new() }));
        }
    }

    #[test]
    fn every_error_is_named_and_nothing_is_planned() {
        let old = present(&[raw("pw", Mode::Password, &[], Some("u"))]);
        let error = plan(
            vec![
                raw("a", Mode::Ip, &["nowhere"], None),
                raw("b", Mode::Ip, &["10.0.0.1"], None),
                raw("b", Mode::Ip, &["10.0.0.1"], None),
                raw("c", Mode::Password, &[], Some("u")),
                raw("d", Mode::Password, &[], Some("v")),
                raw("e", Mode::Password, &[], Some("v")),
            ],
            false,
            &old,
            "r",
            &Answers::default(),
        )
        .err()
        .unwrap();
        for words in [
            "nowhere",
            "gateway b: it is there twice",
            "gateway c",
            "belongs to gateway pw",
            "gateway e",
            "nothing was applied",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
        // With the other gateway gone, or renamed, the username is free.
        assert!(plan(vec![raw("c", Mode::Password, &[], Some("u"))], true, &old, "r", &Answers::default()).is_ok());
    }
}
