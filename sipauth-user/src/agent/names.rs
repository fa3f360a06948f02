//! Host names of gateways: asked for when a gateway comes, and again when an answer has served its time.
//!
//! What a name stands for is in the store and in the snapshot, so the last good answer stays in force whatever becomes of the name server and of
//! the agent. An answer that differs is a change like any other: store, maps and snapshot together, no other gateway touched.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{change::Edited, state::Agent, unix_now};
use crate::{
    audit::{Attempt, Author},
    compile::{Edit, Snapshot, interferes},
    config::Settings,
    control::{GatewayInfo, NameInfo},
    gateway::{Gateway, GatewayError, address_text, host_name},
    resolve::{self, Answer, SHORTEST},
};

/// How often to see whether a name is due.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of the names beyond their addresses.
pub(super) struct Names {
    known: Mutex<HashMap<String, Known>>,
    /// Ports of this host that are the kernel program's business.
    avoid: Arc<HashSet<u16>>,
}

#[derive(Clone)]
struct Known {
    due: Instant,
    failing: Option<Failing>,
}

/// A name that stands for nothing any more: its last good answer is in force.
#[derive(Clone)]
struct Failing {
    /// Seconds since 1970.
    since: u64,
    detail: String,
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Self {
        let ports = settings
            .punt_ports()
            .flat_map(|(protected, punt)| punt.into_iter().chain([protected]));
        Self {
            known: Mutex::default(),
            avoid: Arc::new(ports.collect()),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers about names that no gateway has yet.
#[derive(Default)]
pub(super) struct Answers(HashMap<String, Answer>);

impl Answers {
    /// Gives the host names of a gateway what they stand for. Names that another gateway has already, or this one, stand for the same.
    pub(super) fn give(&self, gateway: &mut Gateway, present: &Snapshot) -> Result<(), GatewayError> {
        gateway.resolve(|name| match (present.host(name), self.0.get(name)) {
            (Some(known), _) => Ok(known.to_vec()),
            (None, Some(answer)) => answer.over(&[]),
            (None, None) => Err("it was not asked for in time; try again".to_owned()),
        })
    }
}

impl Agent {
    /// Asks about the host names among these addresses, but for those that a gateway has already.
    pub(super) async fn answers<'a>(&self, addresses: impl IntoIterator<Item = &'a String>) -> Answers {
        let accounts = self.accounts_owned();
        let names = addresses.into_iter().filter_map(|text| host_name(text.trim()));
        let new: HashSet<String> = names.filter(|name| accounts.snapshot.host(name).is_none()).collect();
        if new.is_empty() {
            return Answers::default();
        }
        let answers = resolve::resolve(new.into_iter().collect(), &self.names().avoid).await;
        let now = Instant::now();
        for (name, answer) in &answers {
            let known = Known {
                due: now + answer.holds(),
                failing: None,
            };
            self.names().known().insert(name.clone(), known);
        }
        Answers(answers)
    }

    /// A gateway as operators see it.
    pub(super) fn info(&self, id: u32, gateway: &Gateway) -> GatewayInfo {
        GatewayInfo {
            names: gateway
                .names
                .hosts()
                .iter()
                .map(|host| self.name_info(&host.name, &host.addresses))
                .collect(),
            ..GatewayInfo::new(id, gateway)
        }
    }

    fn name_info(&self, name: &str, addresses: &[IpNet]) -> NameInfo {
        let failing = self.names().known().get(name).and_then(|known| known.failing.clone());
        NameInfo {
            name: name.to_owned(),
            addresses: addresses.iter().map(address_text).collect(),
            failing_since: failing.as_ref().map(|failing| failing.since),
            failure: failing.map(|failing| failing.detail),
        }
    }

    /// All host names, by name.
    pub(super) fn host_names(&self) -> Vec<NameInfo> {
        let accounts = self.accounts();
        let snapshot = &accounts.snapshot;
        let mut names: Vec<NameInfo> = snapshot
            .hosts()
            .map(|name| self.name_info(name, snapshot.host(name).unwrap_or_default()))
            .collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names
    }

    /// Those of which there is no good answer any more, by name.
    pub(super) fn failing_names(&self) -> Vec<NameInfo> {
        let failing: Vec<String> = {
            let known = self.names().known();
            let failing = known.iter().filter(|(_, known)| known.failing.is_some());
            failing.map(|(name, _)| name.clone()).collect()
        };
        let accounts = self.accounts();
        let present = failing.iter().filter_map(|name| Some((name, accounts.snapshot.host(name)?)));
        let mut names: Vec<NameInfo> = present.map(|(name, addresses)| self.name_info(name, addresses)).collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names
    }

    /// How many host names there are, and of how many there is no good answer any more.
    pub(super) fn host_name_counts(&self) -> (u64, u64) {
        (self.accounts().snapshot.host_count() as u64, self.failing_names().len() as u64)
    }

    /// Asks about the names that are due; answers those that stand for other addresses now.
    async fn refresh(&self) -> HashMap<String, Vec<IpNet>> {
        let accounts = self.accounts_owned();
        let snapshot = &accounts.snapshot;
        let mut changed = HashMap::new();
        let due = self.due(snapshot);
        if due.is_empty() {
            return changed;
        }
        for (name, answer) in resolve::resolve(due, &self.names().avoid).await {
            let Some(present) = snapshot.host(&name) else { continue };
            match answer.over(present).and_then(|addresses| harmless(snapshot, &name, addresses)) {
                Ok(addresses) => {
                    self.succeeded(&name, answer.holds());
                    if addresses != present {
                        changed.insert(name, addresses);
                    }
                }
                Err(detail) => self.failed(&name, detail),
            }
        }
        changed
    }

    fn due(&self, snapshot: &Snapshot) -> Vec<String> {
        let now = Instant::now();
        let mut known = self.names().known();
        if snapshot.host_count() == 0 && known.is_empty() {
            return Vec::new();
        }
        // One that is being added may go here; it is asked for again then.
        known.retain(|name, _| snapshot.host(name).is_some());
        for name in snapshot.hosts() {
            if !known.contains_key(name) {
                known.insert(name.to_owned(), Known { due: now, failing: None });
            }
        }
        let due = known.iter().filter(|(_, known)| known.due <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    fn succeeded(&self, name: &str, holds: Duration) {
        self.again(name, holds);
        let failing = self.names().known().get_mut(name).and_then(|known| known.failing.take());
        if failing.is_some() {
            info!(name, "host name is resolved again");
        }
    }

    fn failed(&self, name: &str, detail: String) {
        self.again(name, SHORTEST);
        let mut known = self.names().known();
        let Some(known) = known.get_mut(name) else { return };
        match &mut known.failing {
            Some(failing) => failing.detail = detail,
            None => {
                warn!(name, detail, "host name is not resolved any more; its last addresses stay");
                let since = unix_now().0 / 1000;
                known.failing = Some(Failing { since, detail });
            }
        }
    }

    fn again(&self, name: &str, after: Duration) {
        if let Some(known) = self.names().known().get_mut(name) {
            known.due = Instant::now() + after;
        }
    }

    /// Enforces what these names stand for now, in one change.
    async fn move_gateways(&self, changed: &HashMap<String, Vec<IpNet>>) -> Result<(), String> {
        let Ok(store) = self.store().await else {
            return Err(self.damage().unwrap_or("the store is closed: the agent ends").to_owned());
        };
        let old = self.accounts_owned();
        let ids: HashSet<u32> = changed.keys().flat_map(|name| old.snapshot.with_host(name)).copied().collect();
        let mut put = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(mut gateway) = old.snapshot.gateway(id).cloned() else {
                continue;
            };
            let find = |name: &str| {
                let new = changed.get(name).map(Vec::as_slice).or_else(|| old.snapshot.host(name));
                new.map(<[IpNet]>::to_vec).ok_or_else(|| "it is gone".to_owned())
            };
            gateway.resolve(find).map_err(|error| error.to_string())?;
            put.push((id, Arc::new(gateway)));
        }
        if put.is_empty() {
            return Ok(());
        }
        let mut change = store.begin().await.map_err(|error| error.to_string())?;
        change.replace_many(&put).await.map_err(|error| error.to_string())?;
        let warnings: Vec<String> = put.iter().flat_map(|(_, gateway)| self.warnings(&old.snapshot, gateway)).collect();
        let mut gateways: Vec<String> = put.iter().map(|(_, gateway)| gateway.name.clone()).collect();
        gateways.sort();
        let edited = Edited::new(&old.snapshot, Edit { remove: Vec::new(), put });
        self.carry_out(change, &old, edited).await.map_err(|refusal| match refusal {
            crate::control::Response::Error { message, .. } => message,
            _ => "refused".to_owned(),
        })?;
        warnings.iter().for_each(|text| warn!("{text}"));
        let texts = |addresses: &[IpNet]| addresses.iter().map(address_text).collect();
        let mut names: Vec<(String, Vec<String>, Vec<String>)> = changed
            .iter()
            .map(|(name, addresses)| (name.clone(), texts(old.snapshot.host(name).unwrap_or_default()), texts(addresses)))
            .collect();
        names.sort();
        let (audit, attempt) = (Arc::clone(&self.audit), Attempt::of_names(&names, &gateways));
        let written = tokio::task::spawn_blocking(move || audit.record_made(&Author::unnamed("dns"), &attempt));
        if let Err(error) = written.await {
            warn!(%error, "the change is made, but the audit failed");
        }
        Ok(())
    }
}

/// Whoever answers for a name says where its own gateway is, and must not change what others may do: an operator has seen the warnings
/// of the addresses that are in force, and nobody would see those of new ones.
fn harmless(snapshot: &Snapshot, name: &str, addresses: Vec<IpNet>) -> Result<Vec<IpNet>, String> {
    for before in snapshot.with_host(name).iter().filter_map(|id| snapshot.gateway(*id)) {
        let mut after = before.clone();
        let find = |other: &str| {
            let present = snapshot.host(other).unwrap_or_default();
            Ok(if other == name { addresses.clone() } else { present.to_vec() })
        };
        after.resolve(find).map_err(|error| error.to_string())?;
        if let Some(warning) = interferes(snapshot, before, &after) {
            return Err(format!("the answer is not taken: {warning}"));
        }
    }
    Ok(addresses)
}

/// Until the agent ends.
pub(super) async fn refresh(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = looks.tick() => {}
        }
        // A question takes its time, and the end does not wait for it; a change is made to its end.
        let changed = tokio::select! {
            () = shutdown.cancelled() => return,
            changed = agent.refresh() => changed,
        };
        if changed.is_empty() {
            continue;
        }
        if let Err(error) = agent.move_gateways(&changed).await {
            warn!(
                error,
                "host names stand for other addresses now, which cannot be enforced; it is tried again"
            );
            changed.keys().for_each(|name| agent.again(name, SHORTEST));
        }
    }
}
