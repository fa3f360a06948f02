//! What the agent does when its store is damaged: the maps that an earlier agent filled go on enforcing as they are, nothing can be changed,
//! and everything that is asked for what only the store knows says so, with the remedy.
//!
//! Credentials are in the store alone. So what needs the agent is treated as while it is down: refused, or admitted where failing open was
//! asked for. That is why there are neither workers nor heartbeats then.

use sipauth_common::config::DefaultPolicy;
use tracing::error;

use super::{bans, fill, state::Agent, unix_now};
use crate::{
    auth::NonceKeys,
    compile::Snapshot,
    config::Settings,
    control::Response,
    datapath::{self, DatapathError, Maps, Pins},
    store::{self, Store, StoreError, StoredBan},
};

/// What the store has; nothing, where it is damaged.
pub(super) struct Contents {
    /// The store, or the error that names what is wrong and the remedy, and the default policy that stays in force.
    pub(super) store: Result<Store, (StoreError, DefaultPolicy)>,
    pub(super) snapshot: Snapshot,
    pub(super) keys: NonceKeys,
    pub(super) bans: Vec<StoredBan>,
}

impl Contents {
    /// Opens and reads the store. A damaged one is an error here where no maps are pinned: an agent would have to refuse everybody, or to
    /// let everybody in, without the operator having said so.
    pub(super) async fn load(settings: &Settings, pins: &Pins) -> anyhow::Result<Self> {
        let kept = datapath::pinned_config(pins)?;
        match (Self::read(settings, kept.is_some()).await, kept) {
            (Ok(contents), _) => Ok(contents),
            (Err(damage @ StoreError::Corrupt { .. }), Some(kept)) => Ok(Self {
                store: Err((damage, policy(kept.default_policy))),
                snapshot: Snapshot::default(),
                keys: store::passing_keys()?,
                bans: Vec::new(),
            }),
            (Err(damage @ StoreError::Corrupt { .. }), None) => {
                Err(anyhow::Error::new(damage).context("not started, nothing is enforced and every call reaches the softswitch"))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    async fn read(settings: &Settings, enforcing: bool) -> Result<Self, StoreError> {
        // Maps that are in force were filled from a database: one that is gone is not a new one.
        let store = Store::open_used(&settings.state_dir, enforcing).await?;
        Ok(Self {
            snapshot: Snapshot::for_realm(&settings.realm, store.load_all().await?),
            bans: store.bans().await?,
            keys: store.nonce_keys(unix_now()).await?,
            store: Ok(store),
        })
    }

    /// Brings the maps to the state of store and settings; where the store is damaged, leaves them as they are, but for the ports.
    pub(super) fn fill(&self, maps: &Maps, settings: &Settings) -> Result<(), DatapathError> {
        if self.store.is_err() {
            return fill::ports(maps, settings);
        }
        fill::sources(maps, &self.snapshot.tables())?;
        fill::ports(maps, settings)?;
        fill::flows(maps, &self.snapshot)?;
        bans::fill(maps, &self.bans)
    }
}

/// As the kernel program reads it: what it does not know refuses.
fn policy(number: u32) -> DefaultPolicy {
    let known = [DefaultPolicy::Challenge, DefaultPolicy::Allow];
    known
        .into_iter()
        .find(|policy| *policy as u32 == number)
        .unwrap_or(DefaultPolicy::Deny)
}

impl Agent {
    /// Notes what is wrong with the store, says it once, and takes no change from now on.
    pub(super) fn set_damage(&self, damage: &StoreError) {
        if self.damage.set(damage.to_string()).is_ok() {
            error!("not ready, no change is taken: {damage}");
        }
    }

    /// What is wrong with the store, and the remedy.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// The answer to what asks for gateways that are enforced, and known to nobody since the store was damaged at the start. An empty list would be none.
    pub(super) fn unlisted(&self) -> Option<Response> {
        self.damaged().filter(|_| self.accounts().snapshot.is_empty())
    }

    /// The answer to what needs a whole store.
    pub(super) fn damaged(&self) -> Option<Response> {
        self.damage().map(|damage| Response::failed(&damage))
    }
}
