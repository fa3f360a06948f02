//! Bans in the kernel's map: those that failures make due, and the operator's.

mod manual;

use std::net::IpAddr;

use sipauth_common::{address::Address, decide::Lookup as _, flow::Ban};

pub(super) use self::manual::{fill, room};
use super::state::Agent;
use crate::{
    auth::BanRequest,
    control::BanInfo,
    datapath::{DatapathError, monotonic_ns},
};

const SECOND: u64 = 1_000_000_000;

/// [`Ban::cause`]: set by the operator.
pub(super) const MANUAL: u16 = 1;
/// [`Ban::cause`]: too many failures.
pub(super) const FAILURES: u16 = 2;

/// Enters a ban that a worker asks for.
///
/// The map has one ban for an address. One of the operator's stays, and so does one of the whole address that lasts longer. A
/// ban of another port gives way: the worker still answers 403 to that port for the rest of its time.
pub(super) fn enter(agent: &Agent, request: BanRequest) -> Result<(), DatapathError> {
    let address = Address::from(request.address.to_canonical());
    let now = monotonic_ns();
    let ban = Ban {
        expires: now
            .saturating_add(u64::try_from(request.duration.as_nanos()).unwrap_or(u64::MAX))
            .min(u64::MAX - 1),
        port: request.port.unwrap_or(0),
        cause: FAILURES,
        reserved: 0,
    };
    match agent.maps().ban(&address) {
        Some(old) if yields(&old, &ban, now) => agent.maps().put_ban(&address, &ban),
        Some(_) => Ok(()),
        None => agent.maps().put_ban(&address, &ban),
    }
}

/// Whether a ban makes room for another.
const fn yields(old: &Ban, new: &Ban, now: u64) -> bool {
    let over = old.expires <= now;
    let weaker = old.cause != MANUAL && (old.port != 0 || new.port == 0 && old.expires < new.expires);
    over || weaker
}

/// The ban of an address, if one is in force; without the operator's words.
pub(super) fn of(agent: &Agent, address: IpAddr) -> Option<BanInfo> {
    let ban = agent.maps().ban(&Address::from(address))?;
    info(address, &ban, String::new(), monotonic_ns())
}

/// `None` where it is over.
fn info(address: IpAddr, ban: &Ban, reason: String, now: u64) -> Option<BanInfo> {
    (ban.expires > now).then(|| BanInfo {
        address,
        port: Some(ban.port).filter(|port| *port != 0),
        expires_in: (ban.expires != u64::MAX).then(|| (ban.expires - now).div_ceil(SECOND)),
        cause: label(ban.cause).to_owned(),
        reason,
    })
}

/// Name of a cause in output.
pub(super) const fn label(cause: u16) -> &'static str {
    match cause {
        MANUAL => "manual",
        _ => "failures",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weaker_ban_yields_and_the_operators_stays() {
        let ban = |expires, port, cause| Ban {
            expires,
            port,
            cause,
            reserved: 0,
        };
        let (port, all) = (ban(200, 5060, FAILURES), ban(200, 0, FAILURES));
        for (what, old, new, expected) in [
            ("another port", ban(300, 5061, FAILURES), port, true),
            ("a port for the address", port, all, true),
            ("the address for a port", all, port, false),
            ("the address for longer", all, ban(300, 0, FAILURES), true),
            ("the address for less", ban(300, 0, FAILURES), all, false),
            ("the operator's", ban(150, 0, MANUAL), all, false),
            ("the operator's, of a port", ban(u64::MAX, 5061, MANUAL), port, false),
            ("the operator's, over", ban(100, 0, MANUAL), port, true),
        ] {
            assert_eq!(yields(&old, &new, 100), expected, "{what}");
        }
    }
}
