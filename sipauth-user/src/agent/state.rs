//! What the agent knows.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use sipauth_common::{config::Config, reason::Reason, stats::Count};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    challenger::Challenger, damage::Contents, directory::Accounts, events::EventLog, fill, flows::Terms, history::History, names::Names,
    pardons::Pardons, room::Room, trace::Tracing,
};
use crate::{
    audit::Audit,
    auth::{NonceKeys, Outcome},
    config::{Origin, Settings},
    control::Response,
    datapath::{DatapathError, Maps, Pins, Programs, monotonic_ns},
    metrics::Census,
    privilege::Privileged,
    records::Records,
    store::Store,
    worker::Counts,
};

/// Shared by the control side, the workers and the metrics. Gateways change one change at a time: who changes them holds the store.
pub(super) struct Agent {
    settings: ArcSwap<Settings>,
    origin: Origin,
    pins: Pins,
    /// `None` where it is damaged.
    store: tokio::sync::Mutex<Option<Store>>,
    /// What is wrong with the store.
    pub(super) damage: OnceLock<String>,
    maps: ArcSwap<Maps>,
    config: std::sync::Mutex<Config>,
    accounts: ArcSwap<Accounts>,
    keys: ArcSwap<NonceKeys>,
    counts: OnceLock<Counts>,
    census: ArcSwap<Census>,
    pardons: Pardons,
    names: Names,
    ready: AtomicBool,
    /// The programs; held while they are put on interfaces or taken off.
    pub(super) programs: std::sync::Mutex<Option<Programs>>,
    began: Instant,
    pub(super) privileged: Privileged,
    pub(super) audit: Arc<Audit>,
    pub(super) records: Records,
    pub(super) events: EventLog,
    pub(super) tracing: Tracing,
    challenger: Challenger,
    /// What the kernel program had done in place of the workers when the agent began: its counters outlive agents.
    before: [Count; Reason::COUNT],
    pub(super) history: History,
    changed: std::sync::Mutex<Option<Instant>>,
    pub(super) terms: Terms,
    pub(super) room: Room,
    pub(super) shutdown: CancellationToken,
}

impl Agent {
    pub(super) fn new(
        (settings, origin): (Settings, Origin),
        (pins, programs): (Pins, Programs),
        records: Records,
        contents: Contents,
        privileged: Privileged,
        shutdown: CancellationToken,
    ) -> Result<Self, DatapathError> {
        let audit = Arc::new(Audit::new(settings.log_dir.clone()));
        let mut config = fill::config(&settings, contents.snapshot.anywhere(), contents.keys.mark());
        let mut accounts = Accounts::new(contents.snapshot, &settings);
        config.generation = accounts.generation;
        let (store, damage) = match contents.store {
            Ok(store) => (Some(store), None),
            Err((damage, kept)) => {
                accounts.default_policy = kept;
                config.default_policy = kept as u32;
                (None, Some(damage))
            }
        };
        let agent = Self {
            names: Names::new(&settings),
            challenger: Challenger::new(&settings),
            before: programs.maps.stats()?,
            settings: ArcSwap::from_pointee(settings),
            origin,
            pins,
            store: tokio::sync::Mutex::new(store),
            damage: OnceLock::new(),
            maps: ArcSwap::new(Arc::clone(&programs.maps)),
            config: std::sync::Mutex::new(config),
            accounts: ArcSwap::from_pointee(accounts),
            keys: ArcSwap::from_pointee(contents.keys),
            counts: OnceLock::new(),
            census: ArcSwap::default(),
            pardons: Pardons::default(),
            ready: AtomicBool::new(false),
            programs: std::sync::Mutex::new(Some(programs)),
            began: Instant::now(),
            privileged,
            audit,
            records,
            events: EventLog::new(),
            tracing: Tracing::default(),
            history: History::default(),
            changed: std::sync::Mutex::default(),
            terms: Terms::default(),
            room: Room::default(),
            shutdown,
        };
        if let Some(damage) = damage {
            agent.set_damage(&damage);
        }
        Ok(agent)
    }

    /// What is in force now.
    pub(super) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Where settings are read again.
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Other settings, for workers and kernel program from the next packet on; where it fails all is as before. The caller holds the store.
    pub(super) fn take_over(&self, settings: Settings) -> Result<(), DatapathError> {
        let (old, before) = (self.settings.load_full(), self.accounts_owned());
        let snapshot = before.snapshot.clone();
        let anywhere = snapshot.anywhere();
        // What gateways have of their own lies over the general rules.
        let accounts = if settings.digest == old.digest {
            before.edited(snapshot, &[], &settings)
        } else {
            Accounts::new(snapshot, &settings)
        };
        let config = fill::config(&settings, anywhere, self.keys().mark());
        let generation = accounts.generation;
        // The workers know what the kernel program hands over before it does.
        self.set_accounts(Arc::new(accounts));
        self.settings.store(Arc::new(settings));
        let written = self.write_config(|present| {
            let before = *present;
            *present = config;
            present.generation = generation;
            present.heartbeat_ns = before.heartbeat_ns;
            present.own_mark = before.own_mark;
        });
        if written.is_err() {
            self.settings.store(old);
            self.set_accounts(before);
        }
        written.and_then(|()| self.refresh_challenge())
    }

    /// The maps in force. Others may be a moment later: not to be kept.
    pub(super) fn maps(&self) -> Guard<Arc<Maps>> {
        self.maps.load()
    }

    /// From now on.
    pub(super) fn set_maps(&self, maps: Arc<Maps>) {
        self.maps.store(maps);
    }

    pub(super) const fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(super) fn accounts(&self) -> Guard<Arc<Accounts>> {
        self.accounts.load()
    }

    /// What nonces are made with now.
    pub(super) fn keys(&self) -> Guard<Arc<NonceKeys>> {
        self.keys.load()
    }

    /// From the next datagram on, each worker makes nonces and tags with these. The kernel program knows the mark of the tags first; ACKs to
    /// earlier ones come to the agent.
    pub(super) fn set_keys(&self, keys: NonceKeys) -> Result<(), DatapathError> {
        self.write_config(|config| config.own_mark = keys.mark())?;
        self.keys.store(Arc::new(keys));
        self.refresh_challenge()
    }

    pub(super) fn set_counts(&self, counts: Counts) {
        // Set once, at the start.
        let _ = self.counts.set(counts);
    }

    pub(super) fn counts(&self) -> Option<&Counts> {
        self.counts.get()
    }

    /// What came of requests and responses, with those that the kernel program challenged or found right in place of the workers; each is counted on
    /// one side only. Since the agent began, as what the workers count: a sum that fell at a restart would look like a rise.
    pub(super) fn outcomes(&self, of_workers: Vec<(Outcome, u64)>, reasons: &[Count; Reason::COUNT]) -> Vec<(Outcome, u64)> {
        let of_kernel = |reason: Reason| {
            let slot = reason.slot() as usize;
            reasons[slot].packets.saturating_sub(self.before[slot].packets)
        };
        let all = of_workers.into_iter().map(|(outcome, count)| match outcome {
            Outcome::Challenged => (outcome, count + of_kernel(Reason::Challenged)),
            Outcome::Authenticated => (outcome, count + of_kernel(Reason::Authenticated)),
            _ => (outcome, count),
        });
        all.collect()
    }

    /// The last count of what is in the maps.
    pub(super) fn census(&self) -> Census {
        Census::clone(&self.census.load())
    }

    pub(super) fn set_census(&self, census: Census) {
        self.census.store(Arc::new(census));
    }

    pub(super) const fn challenger(&self) -> &Challenger {
        &self.challenger
    }

    /// Whether the kernel program has this one of [`sipauth_common::config::flags`] set.
    pub(super) fn has_flag(&self, flag: u32) -> bool {
        self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner).has(flag)
    }

    pub(super) fn set_flag(&self, flag: u32, on: bool) -> Result<(), DatapathError> {
        self.write_config(|config| config.flags = if on { config.flags | flag } else { config.flags & !flag })
    }

    pub(super) const fn pardons(&self) -> &Pardons {
        &self.pardons
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// The store, for the caller alone; the answer to give where it is damaged.
    pub(super) async fn store(&self) -> Result<tokio::sync::MappedMutexGuard<'_, Store>, Response> {
        let store = self.store.lock().await;
        if let Some(damaged) = self.damaged() {
            return Err(damaged);
        }
        tokio::sync::MutexGuard::try_map(store, Option::as_mut).map_err(|_| Response::failed(&"the store is closed: the agent ends"))
    }

    /// The store, unless a change has it, or it is damaged.
    pub(super) fn store_now(&self) -> Option<tokio::sync::MappedMutexGuard<'_, Store>> {
        let store = self.store.try_lock().ok()?;
        tokio::sync::MutexGuard::try_map(store, Option::as_mut).ok()
    }

    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.damage().is_none()
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Name of a gateway by its id.
    pub(super) fn name_of(&self, gateway: u32) -> Option<String> {
        self.accounts().snapshot.gateway(gateway).map(|gateway| gateway.name.clone())
    }

    /// Tells the kernel program that the agent is alive; nothing any more once it ends, so that no late beat takes back the goodbye.
    pub(super) fn beat(&self) -> Result<(), DatapathError> {
        self.write_config(|config| {
            if !self.shutdown.is_cancelled() {
                config.heartbeat_ns = monotonic_ns();
            }
        })
    }

    /// Tells the kernel program that the agent ends.
    pub(super) fn say_goodbye(&self) {
        if let Err(error) = self.write_config(|config| config.heartbeat_ns = 0) {
            warn!(%error, "cannot tell the kernel program that the agent ends; it will notice within seconds");
        }
    }

    fn write_config(&self, change: impl FnOnce(&mut Config)) -> Result<(), DatapathError> {
        let mut config = self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut wanted = *config;
        change(&mut wanted);
        self.maps().set_config(&wanted)?;
        *config = wanted;
        Ok(())
    }

    pub(super) async fn close(&self) {
        if let Some(store) = &*self.store.lock().await {
            if self.damage().is_none()
                && let Err(error) = store.back_up().await
            {
                warn!(%error, "the copy of the store cannot be renewed");
            }
            store.close().await;
        }
    }

    /// The gateways now, for a change of them.
    pub(super) fn accounts_owned(&self) -> Arc<Accounts> {
        self.accounts.load_full()
    }

    /// From the next datagram on.
    pub(super) fn set_accounts(&self, accounts: Arc<Accounts>) {
        self.accounts.store(accounts);
    }

    /// A change of gateways was made and stored.
    pub(super) fn note_change(&self) {
        *self.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }

    /// When gateways were last changed, since the start.
    pub(super) fn changed(&self) -> Option<Instant> {
        *self.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells the kernel program what strangers get, and that what it knows of callers is over, unless it is of these gateways.
    pub(super) fn announce(&self, accounts: &Accounts) -> Result<(), DatapathError> {
        self.write_config(|config| {
            config.default_policy = accounts.default_policy as u32;
            config.generation = accounts.generation;
        })
    }
}
