//! What the digest side looks up, and the handler that a worker owns.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use arc_swap::Guard;
use sipauth_common::{address::Address, config::DefaultPolicy, decide::Lookup as _, policy::modes};

use super::{
    bans,
    events::Refused,
    flows, refusals,
    state::Agent,
    trace::{self, Seen},
    unix_now,
};
use crate::{
    auth::{self, Account, Action, Arrival, Authenticator, DigestRules, Directory, Ha1, NonceKeys, Source},
    compile::{Shards, Snapshot},
    config::Settings,
    control::Transport,
    datapath::{Maps, monotonic_ns},
    worker::Handler,
};

/// One state of all gateways, as the digest side needs it. A change shares with the state before what it does not touch.
pub(super) struct Accounts {
    pub(super) snapshot: Snapshot,
    by_username: Shards<Vec<u8>, Arc<Account>>,
    /// Of gateways that have digest settings of their own.
    rules: Shards<u32, Arc<DigestRules>>,
    /// What unknown sources get.
    pub(super) default_policy: DefaultPolicy,
    /// No other state has it ([`sipauth_common::config::Config::generation`]).
    pub(super) generation: u32,
}

/// Of the state that was made last.
static GENERATION: AtomicU32 = AtomicU32::new(0);

impl Accounts {
    /// Of a whole snapshot, under these settings.
    pub(super) fn new(snapshot: Snapshot, settings: &Settings) -> Self {
        let ids: Vec<u32> = snapshot.iter().map(|(id, _)| id).collect();
        let empty = Self {
            snapshot: Snapshot::default(),
            by_username: Shards::default(),
            rules: Shards::default(),
            default_policy: DefaultPolicy::Deny,
            generation: 0,
        };
        empty.edited(snapshot, &ids, settings)
    }

    /// The state after these gateways came, went or changed.
    pub(super) fn edited(&self, snapshot: Snapshot, touched: &[u32], settings: &Settings) -> Self {
        let mut new = Self {
            default_policy: settings.policy_in_force(snapshot.anywhere()),
            snapshot,
            by_username: self.by_username.clone(),
            rules: self.rules.clone(),
            generation: GENERATION.fetch_add(1, Relaxed).wrapping_add(1),
        };
        for id in touched {
            if let Some(username) = self.snapshot.gateway(*id).and_then(|gateway| gateway.username.as_ref()) {
                new.by_username.remove(username.as_bytes());
            }
            new.rules.remove(id);
        }
        // After all removals: a username may have gone from one gateway to another.
        touched.iter().for_each(|id| new.enter(*id, &settings.digest));
        new
    }

    fn enter(&mut self, id: u32, general: &DigestRules) {
        let Some(gateway) = self.snapshot.gateway(id) else { return };
        // An account without addresses is one from anywhere.
        if gateway.addresses.is_empty() && !gateway.is_anywhere() {
            return tracing::error!(
                gateway = gateway.name,
                "none of its host names stands for an address: this gateway cannot call"
            );
        }
        let (Some(username), Some(realm), Some(secret)) = (&gateway.username, &gateway.realm, &gateway.credentials) else {
            return;
        };
        let rules = match gateway.digest.rules(general) {
            Ok(_) if gateway.digest.is_empty() => None,
            Ok(own) => Some(Arc::new(own)),
            Err(error) => return tracing::error!(gateway = gateway.name, %error, "this gateway cannot call"),
        };
        let ha1 = match Ha1::from_text(secret.expose()) {
            Ok(ha1) => ha1,
            Err(error) => return tracing::error!(gateway = gateway.name, %error, "this gateway cannot call"),
        };
        let account = Account {
            gateway: id,
            realm: realm.clone(),
            ha1,
            addresses: gateway.addresses.clone(),
            rules: rules.clone(),
        };
        self.by_username.insert(username.clone().into_bytes(), Arc::new(account));
        if let Some(rules) = rules {
            self.rules.insert(id, rules);
        }
    }
}

/// [`Accounts`] with the maps, for one datagram.
pub(super) struct View<'a> {
    accounts: &'a Accounts,
    maps: Guard<Arc<Maps>>,
    realm: &'a str,
    peer_ttl_ns: u64,
}

impl<'a> View<'a> {
    pub(super) fn new(agent: &'a Agent, accounts: &'a Accounts, settings: &'a Settings) -> Self {
        Self {
            accounts,
            maps: agent.maps(),
            realm: &settings.realm,
            peer_ttl_ns: u64::try_from(settings.peer_ttl.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl Directory for View<'_> {
    fn account(&self, username: &[u8]) -> Option<&Account> {
        self.accounts.by_username.get(username).map(|account| &**account)
    }

    fn source(&self, address: IpAddr) -> Source<'_> {
        let policy = self.accounts.snapshot.policy(address);
        let learned = || {
            let seen = self.maps.peer(&Address::from(address.to_canonical()));
            seen.is_some_and(|seen| monotonic_ns().saturating_sub(seen) < self.peer_ttl_ns)
        };
        let password = policy.map_or(self.accounts.default_policy == DefaultPolicy::Challenge, |policy| {
            policy.has(modes::PASSWORD)
        });
        let (realm, rules) = match policy {
            Some(policy) if password => (
                self.accounts
                    .snapshot
                    .gateway(policy.gateway)
                    .and_then(|gateway| gateway.realm.as_deref()),
                self.accounts.rules.get(&policy.gateway),
            ),
            _ => (None, None),
        };
        // A password gateway that the softswitch calls is a learned peer too, but what it sends without a flow is challenged:
        // a To tag that anyone can write must not stand for a password.
        let peer = policy.map_or_else(learned, |policy| {
            policy.has(modes::PEER) || (!policy.has(modes::PASSWORD) && learned())
        });
        Source {
            peer,
            password,
            listed: policy.is_some(),
            realm: realm.unwrap_or(self.realm),
            rules: rules.map(|rules| &**rules),
        }
    }
}

/// The settings of an authenticator.
pub(super) fn authentication(settings: &Settings) -> Arc<auth::Settings> {
    Arc::new(auth::Settings {
        rules: Arc::clone(&settings.digest),
        failure_limit: settings.ban_limit,
        lockout: settings.ban_time,
        ..auth::Settings::default()
    })
}

/// What a worker does with a datagram.
pub(super) struct Punted {
    authenticator: Authenticator,
    agent: Arc<Agent>,
    /// Pardons that it has heard of.
    pardoned: u64,
    /// Those that the authenticator has.
    settings: Arc<Settings>,
    /// Those that the authenticator has.
    keys: Arc<NonceKeys>,
    /// What its worker serves.
    transport: Transport,
}

impl Punted {
    /// `settings` and `keys` are those that the authenticator has.
    pub(super) const fn new(
        authenticator: Authenticator,
        settings: Arc<Settings>,
        keys: Arc<NonceKeys>,
        transport: Transport,
        agent: Arc<Agent>,
    ) -> Self {
        Self {
            authenticator,
            agent,
            pardoned: 0,
            settings,
            keys,
            transport,
        }
    }
}

impl Handler for Punted {
    fn reuse(&mut self, response: Vec<u8>) {
        self.authenticator.reuse(response);
    }

    fn handle(&mut self, datagram: &[u8], arrival: &Arrival) -> Action {
        let accounts = self.agent.accounts();
        let settings = self.agent.settings();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.authenticator.reconfigure(authentication(&settings));
            self.settings = Arc::clone(&settings);
        }
        let view = View::new(&self.agent, &accounts, &settings);
        let authenticator = &mut self.authenticator;
        self.agent
            .pardons()
            .news(&mut self.pardoned, |address| authenticator.pardon(address));
        let keys = self.agent.keys();
        if !Arc::ptr_eq(&keys, &self.keys) {
            self.authenticator.rekey(&keys);
            self.keys = Arc::clone(&keys);
        }
        let mut action = self.authenticator.handle(datagram, arrival, &view, unix_now());
        flows::vouch(&self.agent, &mut action, arrival, accounts.generation);
        let diagnosis = self.authenticator.take_diagnosis();
        refusals::decided(
            &self.agent,
            &settings,
            &action,
            (datagram, arrival, self.transport),
            diagnosis.as_ref(),
        );
        if self.agent.tracing.is_active() {
            let seen = Seen {
                datagram,
                arrival,
                transport: self.transport,
                action: &action,
                diagnosis: diagnosis.as_ref(),
            };
            trace::show(&self.agent, &accounts, &seen, |message| {
                self.authenticator.judge(message, arrival, action.outcome(), &view, unix_now())
            });
        }
        if let Some(diagnosis) = &diagnosis {
            let refused = Refused {
                diagnosis,
                arrival,
                transport: self.transport,
                datagram,
            };
            self.agent.events.refused(&refused, &self.agent);
        }
        if let Some(ban) = self.authenticator.take_ban() {
            // The worker's own 403 holds without it, so the datagram's answer goes on.
            if let Err(error) = bans::enter(&self.agent, ban) {
                tracing::warn!(%error, address = %ban.address, "a ban could not be entered");
            } else {
                tracing::debug!(address = %ban.address, port = ban.port, seconds = ban.duration.as_secs(), "banned");
            }
        }
        action
    }
}
