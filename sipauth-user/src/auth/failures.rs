//! Who failed to prove a password, in bounded memory, and what follows: 403 for a while, and a ban of the source.
//!
//! A failure is only what follows a genuine, fresh nonce that was issued to the source, so the source has shown that it receives
//! what is sent to it: nobody is locked out by datagrams that bear a false address. Counters forget one failure in each lock-out
//! period. There are three of them:
//!
//! - of an address and port: at the limit it is locked out, and its ban is asked for;
//! - of an address: when [`PORTS`] of its ports were locked out, or made that many limits of failures together, the address
//!   is. Behind a NAT one port is one customer, so an address from which somebody proved a password within a day is spared;
//! - of a username *from one network* (an IPv4 address, or an IPv6 /64, which is what one customer has): it stops who changes
//!   ports, at [`PORTS`] limits, so that a port is locked out before the name is. A username is never locked everywhere, else
//!   anybody could lock out a gateway by its name; and no wider IPv4 network is taken, else a neighbour in a data centre could.
//!
//! All of a source address reaches one worker, so the counters of one worker are complete (but for an IPv6 /64).

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{Timestamp, replay::Fingerprint};

/// So many ports of an address make it the address's fault.
const PORTS: usize = 3;
/// Retransmissions of so many failed requests of a username and network are recognised.
const RECENT: usize = 8;
/// The longest lock-out. Who behaves for as long is no repeater any more; and a proven password speaks for its address as long.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// A ban of a source, to be enforced by the kernel program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanRequest {
    /// Source address.
    pub address: IpAddr,
    /// Only this port of it; `None` for all.
    pub port: Option<u16>,
    /// From now on.
    pub duration: Duration,
}

/// What failures can do to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Port and address can be locked out.
    Ordinary,
    /// The port only: the softswitch calls somebody at the address.
    PortOnly,
    /// Never locked out or banned; only names are slowed.
    Listed,
    /// It proved a password lately, from this very port: as `Listed`, and only its own failures slow a name for it, not a neighbour's.
    Trusted,
}

/// What is counted.
pub(super) struct Failure<'a> {
    pub(super) from: SocketAddr,
    pub(super) standing: Standing,
    pub(super) username: &'a [u8],
    /// Of the whole datagram: a retransmission is no second failure.
    pub(super) print: Fingerprint,
}

/// The numbers to count with.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Failures until a lock-out; 0 for none.
    pub(super) limit: u32,
    /// The first lock-out.
    pub(super) lockout: Duration,
}

/// See the module.
pub(super) struct Failures {
    ports: Table<(IpAddr, u16), Port>,
    addresses: Table<IpAddr, Host>,
    names: Table<[u8; 16], Name>,
    proven: Table<IpAddr, Option<Timestamp>>,
}

#[derive(Default)]
struct Port {
    tally: Tally,
    lock: Lock,
}

#[derive(Default)]
struct Host {
    tally: Tally,
    lock: Lock,
    failed: Ports,
    locked: Ports,
}

#[derive(Default)]
struct Name {
    tally: Tally,
    lock: Lock,
    recent: [Option<Fingerprint>; RECENT],
    next: usize,
}

impl Failures {
    /// Each table keeps at most twice `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ports: Table::new(capacity),
            addresses: Table::new(capacity),
            names: Table::new(capacity),
            proven: Table::new(capacity),
        }
    }

    /// Whether the source is locked out.
    pub(super) fn locks(&self, from: SocketAddr, standing: Standing, now: Timestamp) -> bool {
        let address = from.ip().to_canonical();
        let port = || self.ports.get(&(address, from.port())).is_some_and(|port| port.lock.holds(now));
        let host = || self.addresses.get(&address).is_some_and(|host| host.lock.holds(now));
        match standing {
            Standing::Ordinary => port() || host(),
            Standing::PortOnly => port(),
            Standing::Listed | Standing::Trusted => false,
        }
    }

    /// Whether the username is locked out where the source is.
    pub(super) fn locks_name(&self, username: &[u8], from: SocketAddr, standing: Standing, now: Timestamp) -> bool {
        // Nearly always nobody failed; then there is no key to be made.
        if self.names.is_empty() {
            return false;
        }
        let name = self.names.get(&name_key(username, from, standing));
        name.is_some_and(|name| name.lock.holds(now))
    }

    /// Somebody proved a password. The name's counter stays: an attacker who has an account of his own would reset it at will.
    pub(super) fn proven(&mut self, from: SocketAddr, now: Timestamp) {
        let address = from.ip().to_canonical();
        *self.proven.entry(address) = Some(now);
        if let Some(port) = self.ports.get_mut(&(address, from.port())) {
            port.tally = Tally::default();
        }
    }

    /// Forgets what is held against an address: the operator lifted its ban.
    pub(super) fn pardon(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        self.ports.retain(|(other, _)| *other != address);
        self.addresses.retain(|other| *other != address);
        // A name's key is a hash, which does not say of which address; names are few, and locked for one period only.
        self.names.retain(|_| false);
    }

    /// Forgets everything that is held against anybody.
    pub(super) fn pardon_all(&mut self) {
        self.ports.retain(|_| false);
        self.addresses.retain(|_| false);
        self.names.retain(|_| false);
    }

    /// Counts a failure; says whether the source or the name is locked out from now on, and which ban is due.
    pub(super) fn count(&mut self, failure: &Failure<'_>, rules: Rules, now: Timestamp) -> (bool, Option<BanRequest>) {
        if rules.limit == 0 {
            return (false, None);
        }
        let step = milliseconds(rules.lockout).max(1);
        let several = rules.limit.saturating_mul(u32::try_from(PORTS).unwrap_or(u32::MAX));
        let (from, address) = (failure.from, failure.from.ip().to_canonical());
        let name = self.names.entry(name_key(failure.username, from, failure.standing));
        if name.recent.contains(&Some(failure.print)) {
            return (false, None);
        }
        name.recent[name.next % RECENT] = Some(failure.print);
        name.next = (name.next + 1) % RECENT;
        let name_locked = name.tally.add(now, step) >= several;
        if name_locked {
            name.tally = Tally::default();
            // No longer for repeaters: the owner of the name may be behind the same NAT.
            name.lock = Lock::default();
            name.lock.close(now, step);
        }
        if matches!(failure.standing, Standing::Listed | Standing::Trusted) {
            return (name_locked, None);
        }
        let port = self.ports.entry((address, from.port()));
        let mut ban = None;
        if port.tally.add(now, step) >= rules.limit {
            port.tally = Tally::default();
            ban = Some(BanRequest {
                address,
                port: Some(from.port()),
                duration: port.lock.close(now, step),
            });
        }
        let host = self.addresses.entry(address);
        if host.tally.decay(now, step) == 0 {
            (host.failed, host.locked) = Default::default();
        }
        let total = host.tally.add(now, step);
        host.failed.insert(from.port());
        if ban.is_some() {
            host.locked.insert(from.port());
        }
        let spared = failure.standing == Standing::PortOnly
            || self
                .proven
                .get(&address)
                .is_some_and(|at| at.is_some_and(|at| now.0.abs_diff(at.0) < DAY_MS));
        if !spared && (host.locked.full() || host.failed.full() && total >= several) {
            host.tally = Tally::default();
            (host.failed, host.locked) = Default::default();
            ban = Some(BanRequest {
                address,
                port: None,
                duration: host.lock.close(now, step),
            });
        }
        (name_locked || ban.is_some(), ban)
    }
}

/// A counter that forgets one in each step.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: u32,
    at: u64,
}

impl Tally {
    fn decay(&mut self, now: Timestamp, step: u64) -> u32 {
        let steps = now.0.saturating_sub(self.at) / step;
        self.count = self.count.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
        // A clock that stepped back counts from there.
        self.at = if self.count == 0 {
            now.0
        } else {
            (self.at + steps * step).min(now.0)
        };
        self.count
    }

    fn add(&mut self, now: Timestamp, step: u64) -> u32 {
        self.count = self.decay(now, step).saturating_add(1);
        self.count
    }
}

#[derive(Clone, Copy, Default)]
struct Lock {
    since: u64,
    length: u64,
}

impl Lock {
    /// A clock that stepped back before the lock opens it, rather than to keep it for as long as the step.
    const fn holds(&self, now: Timestamp) -> bool {
        self.since <= now.0 && now.0 - self.since < self.length
    }

    /// Twice as long as the time before, unless that was over a day ago.
    fn close(&mut self, now: Timestamp, first: u64) -> Duration {
        let again = self.length > 0 && now.0.saturating_sub(self.since.saturating_add(self.length)) < DAY_MS;
        self.length = if again { self.length.saturating_mul(2) } else { first }.min(DAY_MS);
        self.since = now.0;
        Duration::from_millis(self.length)
    }
}

/// A few different ports.
#[derive(Clone, Copy, Default)]
struct Ports([Option<u16>; PORTS]);

impl Ports {
    fn insert(&mut self, port: u16) {
        if !self.0.contains(&Some(port))
            && let Some(free) = self.0.iter_mut().find(|slot| slot.is_none())
        {
            *free = Some(port);
        }
    }

    fn full(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
}

/// A map in two generations: when the young one is full, the old one is forgotten whole. What is written to stays.
struct Table<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V: Default> Table<K, V> {
    fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity: capacity.max(1),
        }
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }

    fn entry(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= self.capacity {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, value);
        }
        self.young.entry(key).or_default()
    }

    fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| keep(key));
        self.old.retain(|key, _| keep(key));
    }
}

/// `user` and `user@domain` are one name. Hashed, since a peer chooses the length.
fn name_key(username: &[u8], from: SocketAddr, standing: Standing) -> [u8; 16] {
    let name = memchr::memrchr(b'@', username).map_or(username, |at| &username[..at]);
    let mut hash = Sha256::new();
    match from.ip().to_canonical() {
        IpAddr::V4(v4) => hash.update(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => hash.update(&v6.octets()[..8]),
    }
    // 0 is nobody's port.
    let port = if standing == Standing::Trusted { from.port() } else { 0 };
    hash.update(port.to_be_bytes());
    hash.update(name);
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Failures {
    /// Entries in the largest table.
    pub(super) fn len(&self) -> usize {
        let both = |young: usize, old: usize| young + old;
        both(self.ports.young.len(), self.ports.old.len())
            .max(both(self.addresses.young.len(), self.addresses.old.len()))
            .max(both(self.names.young.len(), self.names.old.len()))
    }
}
