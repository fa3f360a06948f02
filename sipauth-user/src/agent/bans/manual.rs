//! Bans of the operator: kept in the store, in force through the map.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use sipauth_common::{address::Address, flow::Ban, policy::modes};

use super::{MANUAL, SECOND, info};
use crate::{
    agent::{state::Agent, unix_now},
    control::{BanInfo, BanRule, Response},
    datapath::{DatapathError, Demand, Maps, monotonic_ns},
    store::StoredBan,
};

/// Bans by hand, at most.
const MOST: usize = 65_536;

/// Twice as many as there are by hand, so that those of failures do not push them out.
pub(in crate::agent) const fn room(by_hand: usize) -> usize {
    2 * by_hand
}

/// The clock of the store.
fn now() -> i64 {
    i64::try_from(unix_now().0 / 1_000).unwrap_or(i64::MAX)
}

/// As the kernel program reads it; `None` where it is over.
fn compiled(ban: &StoredBan, now: i64) -> Option<Ban> {
    let expires = match ban.expires {
        None => u64::MAX,
        Some(end) => {
            let left = u64::try_from(end.saturating_sub(now)).ok().filter(|left| *left > 0)?;
            monotonic_ns().saturating_add(left.saturating_mul(SECOND)).min(u64::MAX - 1)
        }
    };
    Some(Ban {
        expires,
        port: ban.port.unwrap_or(0),
        cause: MANUAL,
        reserved: 0,
    })
}

/// Brings the map to the store's state; automatic bans stay.
pub(in crate::agent) fn fill(maps: &Maps, stored: &[StoredBan]) -> Result<(), DatapathError> {
    let now = now();
    let mut kept = HashSet::new();
    for ban in stored {
        let address = Address::from(ban.address.to_canonical());
        if let Some(value) = compiled(ban, now) {
            maps.put_ban(&address, &value)?;
            kept.insert(address);
        }
    }
    for (address, ban) in maps.bans()? {
        if ban.cause == MANUAL && !kept.contains(&address) {
            maps.delete_ban(&address)?;
        }
    }
    Ok(())
}

impl Agent {
    /// Bans addresses: in force and stored when this returns, or none.
    pub(in crate::agent) async fn ban(&self, rules: Vec<BanRule>) -> Response {
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let exempt: Vec<String> = {
            let accounts = self.accounts();
            let hurts_not = |rule: &&BanRule| {
                let policy = accounts.snapshot.policy(rule.address);
                policy.is_some_and(|policy| policy.has(modes::IP) || policy.has(modes::IP_PORT))
            };
            rules.iter().filter(hurts_not).map(|rule| rule.address.to_string()).collect()
        };
        if !exempt.is_empty() {
            return Response::no(&format!(
                "a ban of {} has no effect: a gateway in mode ip or ip-port has the address; remove the gateway instead",
                exempt.join(", ")
            ));
        }
        let now = now();
        let bans: Vec<StoredBan> = rules
            .into_iter()
            .map(|rule| StoredBan {
                address: rule.address.to_canonical(),
                port: rule.port,
                expires: rule
                    .seconds
                    .map(|seconds| now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX))),
                reason: rule.reason,
            })
            .collect();
        match store.bans().await {
            Ok(stored) => {
                let in_force = stored.iter().filter(|ban| ban.expires.is_none_or(|end| end > now));
                let all: HashSet<IpAddr> = in_force.chain(&bans).map(|ban| ban.address).collect();
                if all.len() > MOST {
                    return Response::failed(&format!(
                        "with these there would be {} bans by hand, at most {MOST} are possible; lift some first (`sipauth ban list`)",
                        all.len()
                    ));
                }
                let demand = Demand {
                    bans: room(all.len()),
                    ..self.accounts().snapshot.demand()
                };
                if let Err(error) = tokio::task::block_in_place(|| self.make_room(&demand)) {
                    return Response::failed(&error);
                }
            }
            Err(error) => return error.into(),
        }
        // Stored first: what the map could not take is put there at the next start, and the error says so.
        if let Err(error) = store.add_bans(&bans, now).await {
            return error.into();
        }
        for ban in &bans {
            let Some(value) = compiled(ban, now) else { continue };
            if let Err(error) = self.maps().put_ban(&Address::from(ban.address), &value) {
                return Response::failed(&format!("stored, but not all in force ({error}); restart the agent"));
            }
        }
        Response::Banned { count: bans.len() }
    }

    /// Lifts a ban of whatever cause, and has the workers forget the failures.
    pub(in crate::agent) async fn unban(&self, address: IpAddr) -> Response {
        let address = address.to_canonical();
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let stored = match store.remove_ban(address).await {
            Ok(stored) => stored,
            Err(error) => return error.into(),
        };
        self.pardons().grant(address);
        match self.maps().delete_ban(&Address::from(address)) {
            Ok(in_force) if stored || in_force => Response::Unbanned,
            Ok(_) => Response::no(&format!("{address} is not banned; `sipauth ban list` shows all")),
            Err(error) => Response::failed(&error),
        }
    }

    /// What is in force.
    pub(in crate::agent) async fn bans(&self) -> Response {
        let store = match self.store().await {
            Ok(store) => store,
            Err(damaged) => return damaged,
        };
        let reasons: HashMap<IpAddr, String> = match store.bans().await {
            Ok(stored) => stored.into_iter().map(|ban| (ban.address, ban.reason)).collect(),
            Err(error) => return error.into(),
        };
        let all = match self.maps().bans() {
            Ok(all) => all,
            Err(error) => return Response::failed(&error),
        };
        let now = monotonic_ns();
        let mut bans: Vec<BanInfo> = all
            .into_iter()
            .filter_map(|(address, ban)| {
                let address = IpAddr::from(address);
                let reason = reasons.get(&address).filter(|_| ban.cause == MANUAL).cloned().unwrap_or_default();
                info(address, &ban, reason, now)
            })
            .collect();
        bans.sort_by_key(|ban| ban.address);
        Response::Bans { bans }
    }
}
