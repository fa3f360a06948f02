//! Changes of gateways: store, maps and snapshot together or not at all.

mod apply;
mod offers;

use std::{collections::HashMap, sync::Arc};

use tokio::task::block_in_place;

use super::{directory::Accounts, fill, flows, state::Agent};
use crate::{
    auth::Ha1,
    compile::{Edit, MapChange, Snapshot, weakened},
    control::{GatewayInfo, Response},
    datapath::DatapathError,
    gateway::{Gateway, GatewayError, RawGateway, Secret, SetGateway},
    store::Change,
};

/// Credentials to store, from a username, realm and password.
fn derive(username: &str, realm: &str, password: &Secret) -> Secret {
    Secret::new(Ha1::derive(username, realm, password.expose()).to_text())
}

/// An edit, and what comes of it; nothing is changed yet.
pub(super) struct Edited {
    touched: Vec<u32>,
    /// Those of `touched` that nobody has now.
    fresh: Vec<u32>,
    only_removes: bool,
    snapshot: Snapshot,
    steps: MapChange,
}

impl Edited {
    pub(super) fn new(old: &Snapshot, edit: Edit) -> Self {
        let put = edit.put.iter().map(|(id, _)| *id);
        let touched = edit.remove.iter().copied().chain(put.clone()).collect();
        let fresh = put.filter(|id| old.gateway(*id).is_none()).collect();
        let only_removes = edit.put.is_empty();
        let (snapshot, steps) = old.edited(edit);
        Self {
            touched,
            fresh,
            only_removes,
            snapshot,
            steps,
        }
    }
}

impl Agent {
    /// Adds a gateway: enforced and stored when this returns, or neither.
    pub(super) async fn add(&self, raw: RawGateway) -> Response {
        let mut gateway = match raw.validate(&self.settings().realm, None, derive) {
            Ok(gateway) => gateway,
            Err(error) => return error.into(),
        };
        let names: Vec<String> = gateway.names.hosts().iter().map(|host| host.name.clone()).collect();
        let answers = self.answers(&names).await;
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let old = self.accounts_owned();
        if old.snapshot.by_name(&gateway.name).is_some() {
            return GatewayError::Exists { gateway: gateway.name }.into();
        }
        if let Err(error) = answers
            .give(&mut gateway, &old.snapshot)
            .and_then(|()| check_username(&old.snapshot, &gateway))
        {
            return error.into();
        }
        let warnings = self.warnings(&old.snapshot, &gateway);
        let mut change = match store.begin().await {
            Ok(change) => change,
            Err(error) => return error.into(),
        };
        let id = match change.add(&gateway).await {
            Ok(id) => id,
            Err(error) => return error.into(),
        };
        let info = GatewayInfo::new(id, &gateway);
        let edit = Edit {
            remove: Vec::new(),
            put: vec![(id, Arc::new(gateway))],
        };
        if let Err(refusal) = self.carry_out(change, &old, Edited::new(&old.snapshot, edit)).await {
            return refusal;
        }
        Response::Added { gateway: info, warnings }
    }

    /// Changes fields of a gateway: enforced and stored when this returns, or neither.
    pub(super) async fn set(&self, name: &str, fields: SetGateway) -> Response {
        let answers = self.answers(fields.addresses.iter().flatten()).await;
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let old = self.accounts_owned();
        let Some((id, present)) = old.snapshot.by_name(name) else {
            return GatewayError::Unknown { gateway: name.to_owned() }.into();
        };
        let mut gateway = match fields.over(present).validate(&self.settings().realm, Some(present), derive) {
            Ok(gateway) => gateway,
            Err(error) => return error.into(),
        };
        if let Err(error) = answers
            .give(&mut gateway, &old.snapshot)
            .and_then(|()| check_username(&old.snapshot, &gateway))
        {
            return error.into();
        }
        let warnings = self.warnings(&old.snapshot, &gateway);
        let info = GatewayInfo::new(id, &gateway);
        if gateway == *present {
            return Response::Changed { gateway: info, warnings };
        }
        let mut change = match store.begin().await {
            Ok(change) => change,
            Err(error) => return error.into(),
        };
        if let Err(error) = change.replace(id, &gateway).await {
            return error.into();
        }
        let edit = Edit {
            remove: Vec::new(),
            put: vec![(id, Arc::new(gateway))],
        };
        if let Err(refusal) = self.carry_out(change, &old, Edited::new(&old.snapshot, edit)).await {
            return refusal;
        }
        Response::Changed { gateway: info, warnings }
    }

    /// Removes a gateway: refused and forgotten when this returns, or neither.
    pub(super) async fn remove(&self, name: &str) -> Response {
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let old = self.accounts_owned();
        let mut change = match store.begin().await {
            Ok(change) => change,
            Err(error) => return error.into(),
        };
        let id = match change.remove(name).await {
            Ok(id) => id,
            Err(error) => return error.into(),
        };
        let Some(gateway) = old.snapshot.gateway(id) else {
            return Response::failed(&"the store has a gateway that is not enforced; restart the agent");
        };
        let info = GatewayInfo::new(id, gateway);
        let edit = Edit {
            remove: vec![id],
            put: Vec::new(),
        };
        if let Err(refusal) = self.carry_out(change, &old, Edited::new(&old.snapshot, edit)).await {
            return refusal;
        }
        Response::Removed { gateway: info }
    }

    /// Brings maps and snapshot to the state after an edit, and commits; where a step fails all is as before.
    pub(in crate::agent) async fn carry_out(&self, change: Change, old: &Arc<Accounts>, edited: Edited) -> Result<(), Response> {
        let Edited {
            touched,
            fresh,
            only_removes,
            snapshot,
            steps,
        } = edited;
        // Of a million it takes seconds, in which others are answered.
        let new = block_in_place(|| {
            self.make_room(&steps.demand)?;
            self.maps().reset_gateway_stats(&fresh)?;
            Ok(Arc::new(old.edited(snapshot, &touched, &self.settings())))
        })
        .map_err(|error: DatapathError| Response::failed(&error))?;
        // What the maps send calls to is there before they do, and until they no longer do.
        if !only_removes {
            self.set_accounts(Arc::clone(&new));
        }
        if let Err(error) = block_in_place(|| self.enforce(&steps, &new)) {
            self.set_accounts(Arc::clone(old));
            return Err(Response::failed(&error));
        }
        self.set_accounts(Arc::clone(&new));
        if let Err(error) = change.commit().await {
            self.retreat(&steps, old);
            return Err(error.into());
        }
        self.note_change();
        let gone: HashMap<u32, &Gateway> = touched
            .iter()
            .filter_map(|id| Some((*id, old.snapshot.gateway(*id)?)))
            .filter(|(id, gateway)| new.snapshot.gateway(*id) != Some(*gateway))
            .collect();
        for id in gone.keys().filter(|id| new.snapshot.gateway(**id).is_none()) {
            self.events.forget(*id);
        }
        // Last: a flow cannot be given back. Until here the gateway's calls under way had it.
        flows::forget(self, &gone, &new.snapshot).map_err(|error| {
            Response::failed(&format!(
                "the change is made, but not all flows of what is gone are forgotten ({error}); restart the agent to forget them"
            ))
        })
    }

    /// Brings the maps to the new state, or leaves them as they were.
    fn enforce(&self, change: &MapChange, new: &Accounts) -> Result<(), DatapathError> {
        fill::apply(&self.maps(), &change.before, &change.steps)?;
        self.announce(new)
            .inspect_err(|_| fill::undo(&self.maps(), &change.before, &change.steps))
    }

    /// Back to the state before a change that could not be stored.
    fn retreat(&self, change: &MapChange, old: &Arc<Accounts>) {
        fill::undo(&self.maps(), &change.before, &change.steps);
        if let Err(error) = self.announce(old) {
            tracing::error!(%error, "the maps could not be put back; restart the agent to compile them anew");
        }
        self.set_accounts(Arc::clone(old));
    }

    /// What the operator should hear of a gateway that comes or changes.
    pub(in crate::agent) fn warnings(&self, present: &Snapshot, gateway: &Gateway) -> Vec<String> {
        let all = gateway.warnings().into_iter().chain(self.challenged_otherwise(present, gateway));
        all.chain(weakened(present, gateway)).map(|warning| warning.to_string()).collect()
    }
}

/// Leaves each line once: what is between two gateways is found of either.
pub(super) fn once(lines: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    lines.retain(|line| seen.insert(line.clone()));
}

/// Leaves the first lines, and how many more there are.
pub(super) fn shorten(lines: &mut Vec<String>, what: &str) {
    /// Errors and warnings that are named one by one.
    const NAMED: usize = 20;
    let more = lines.len().saturating_sub(NAMED);
    if more > 0 {
        lines.truncate(NAMED);
        lines.push(format!("and {more} more {what}"));
    }
}

/// Refuses a gateway whose username another one has.
fn check_username(present: &Snapshot, gateway: &Gateway) -> Result<(), GatewayError> {
    let owner = gateway.username.as_ref().and_then(|username| present.account(username.as_bytes()));
    match (owner, &gateway.username) {
        (Some((_, other)), Some(username)) if other.name != gateway.name => Err(GatewayError::UsernameTaken {
            gateway: gateway.name.clone(),
            username: username.clone(),
            other: other.name.clone(),
        }),
        _ => Ok(()),
    }
}
