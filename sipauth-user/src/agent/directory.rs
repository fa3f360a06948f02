//! What the digest side looks up, and the handler that a worker owns.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use sipauth_common::{address::Address, config::DefaultPolicy, decide::Lookup as _, policy::modes};

use super::{bans, state::Agent, unix_now};
use crate::{
    auth::{Account, Action, Arrival, Authenticator, Directory, Ha1, Source},
    compile::Snapshot,
    datapath::{Maps, monotonic_ns},
    worker::Handler,
};

/// One state of all gateways, as the digest side needs it. Replaced as a whole.
pub(super) struct Accounts {
    pub(super) snapshot: Snapshot,
    by_username: HashMap<Vec<u8>, Account>,
    /// What unknown sources get.
    pub(super) default_policy: DefaultPolicy,
}

impl Accounts {
    pub(super) fn new(snapshot: Snapshot, default_policy: DefaultPolicy) -> Self {
        let mut by_username = HashMap::new();
        for (id, gateway) in snapshot.iter() {
            let (Some(username), Some(realm), Some(secret)) = (&gateway.username, &gateway.realm, &gateway.credentials) else {
                continue;
            };
            match Ha1::from_text(secret.expose()) {
                Ok(ha1) => {
                    let account = Account {
                        gateway: id,
                        realm: realm.clone(),
                        ha1,
                        addresses: gateway.addresses.clone(),
                    };
                    by_username.insert(username.clone().into_bytes(), account);
                }
                Err(error) => tracing::error!(gateway = gateway.name, %error, "this gateway cannot call"),
            }
        }
        Self {
            snapshot,
            by_username,
            default_policy,
        }
    }
}

/// [`Accounts`] with the maps, for one datagram.
struct View<'a> {
    accounts: &'a Accounts,
    maps: &'a Maps,
    realm: &'a str,
    peer_ttl_ns: u64,
}

impl Directory for View<'_> {
    fn account(&self, username: &[u8]) -> Option<&Account> {
        self.accounts.by_username.get(username)
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
        let realm = if password { self.accounts.snapshot.realm(address) } else { None };
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
        }
    }
}

/// What a worker does with a datagram.
pub(super) struct Punted {
    authenticator: Authenticator,
    agent: Arc<Agent>,
    /// Pardons that it has heard of.
    pardoned: u64,
}

impl Punted {
    pub(super) const fn new(authenticator: Authenticator, agent: Arc<Agent>) -> Self {
        Self {
            authenticator,
            agent,
            pardoned: 0,
        }
    }
}

impl Handler for Punted {
    fn handle(&mut self, datagram: &[u8], arrival: &Arrival) -> Action {
        let accounts = self.agent.accounts();
        let settings = self.agent.settings();
        let view = View {
            accounts: &accounts,
            maps: self.agent.maps(),
            realm: &settings.realm,
            peer_ttl_ns: u64::try_from(settings.peer_ttl.as_nanos()).unwrap_or(u64::MAX),
        };
        let authenticator = &mut self.authenticator;
        self.agent
            .pardons()
            .news(&mut self.pardoned, |address| authenticator.pardon(address));
        let action = self.authenticator.handle(datagram, arrival, &view, unix_now());
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
