//! Maps of another size in the place of those that are pinned, while packets go on.
//!
//! The order: the new maps get what the old ones have ([`Replacement::copy`]; what gateways are is the caller's to fill in), then the programs that
//! use them take the place of the old programs on their links, which no packet notices. What the old programs wrote in between follows
//! ([`Replacement::merge`]), and the new maps are pinned in the place of the old ones ([`Replacement::pin`]).
//! Whoever ends in the middle leaves pins that the next agent takes over: maps are valid one by one, whichever of the two they are.

use std::{collections::HashSet, hash::Hash, io, os::fd::OwnedFd};

use aya::Pod;
use sipauth_common::{
    abi,
    address::Address,
    flow::{Ban, Flow, FlowKey},
    stats::GatewayStats,
};

use super::{DatapathError, Maps, Pins, maps::at, sys};
use crate::fair;

type Result<T> = std::result::Result<T, DatapathError>;

/// Pinned maps that go.
pub struct Replacement {
    old: Vec<(&'static str, OwnedFd, u32)>,
    /// What gateways had counted when it was copied.
    counted: Vec<GatewayStats>,
    /// Flows that were copied. One of them that is gone from the new map was removed there.
    flows: HashSet<FlowKey>,
    /// Likewise.
    peers: HashSet<Address>,
    /// Likewise.
    bans: HashSet<Address>,
}

impl Replacement {
    /// Of these pinned maps.
    pub(super) fn open(pins: &Pins, names: &[&'static str]) -> Result<Self> {
        let open = |name: &&'static str| {
            let pin = pins.map(name);
            let entries = pins.entries(name).unwrap_or(0);
            let map = sys::open_pin(&pin).map_err(|source| DatapathError::File { path: pin, source })?;
            Ok((*name, map, entries))
        };
        Ok(Self {
            old: names.iter().map(open).collect::<Result<_>>()?,
            counted: Vec::new(),
            flows: HashSet::new(),
            peers: HashSet::new(),
            bans: HashSet::new(),
        })
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.old.is_empty()
    }

    /// Their names, with the size before.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.old.iter().map(|(name, _, entries)| (*name, *entries))
    }

    /// Copies what sources and counters are, as it is now. The rates of sources begin anew.
    ///
    /// # Errors
    /// The kernel's answer; so with all others here.
    pub fn copy(&mut self, new: &Maps) -> Result<()> {
        for (name, old, entries) in &self.old {
            match *name {
                abi::MAP_FLOWS => copy(old, *entries, new.fd(name), |all| fit(all, new)).map(|all| self.flows = all),
                abi::MAP_PEERS => copy::<Address, u64>(old, *entries, new.fd(name), |_| ()).map(|all| self.peers = all),
                abi::MAP_BANS => copy::<Address, Ban>(old, *entries, new.fd(name), |_| ()).map(|all| self.bans = all),
                abi::MAP_GATEWAY_STATS => {
                    self.counted = sys::elements(old, (*entries).min(new.capacity(name))).map_err(at(name))?;
                    add(new.fd(name), &vec![GatewayStats::default(); self.counted.len()], &self.counted)
                }
                _ => Ok(()),
            }
            .map_err(at(name))?;
        }
        Ok(())
    }

    /// Brings over what was written to the old maps since they were copied. Nothing uses these any more.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn merge(&self, new: &Maps) -> Result<()> {
        for (name, old, entries) in &self.old {
            match *name {
                abi::MAP_FLOWS => merge(old, *entries, new.fd(name), &self.flows, |flow: &Flow| flow.seen),
                abi::MAP_PEERS => merge(old, *entries, new.fd(name), &self.peers, |seen: &u64| *seen),
                abi::MAP_BANS => merge(old, *entries, new.fd(name), &self.bans, |ban: &Ban| ban.expires),
                abi::MAP_GATEWAY_STATS => {
                    let count = u32::try_from(self.counted.len()).unwrap_or(u32::MAX);
                    let last = sys::elements(old, count).map_err(at(name))?;
                    add(new.fd(name), &self.counted, &last)
                }
                _ => Ok(()),
            }
            .map_err(at(name))?;
        }
        Ok(())
    }

    /// Pins the new maps in the place of the old ones.
    ///
    /// # Errors
    /// The system's answer.
    pub fn pin(&self, new: &Maps, pins: &Pins) -> Result<()> {
        self.old.iter().try_for_each(|(name, ..)| pins.take_place(name, new.fd(name)))
    }
}

/// Answers all keys, also those that `choose` left out.
fn copy<K: Pod + Eq + Hash, V: Pod>(
    old: &OwnedFd,
    entries: u32,
    new: &OwnedFd,
    choose: impl FnOnce(&mut Vec<(K, V)>),
) -> io::Result<HashSet<K>> {
    let mut all = sys::entries::<K, V>(old, entries)?;
    let found = all.iter().map(|(key, _)| *key).collect();
    choose(&mut all);
    let (keys, values): (Vec<K>, Vec<V>) = all.into_iter().unzip();
    sys::update_all(new, &keys, &values).map_err(|(_, error)| error)?;
    Ok(found)
}

/// Leaves out what a smaller map has no room for: else the kernel would, whosever it is.
fn fit(flows: &mut Vec<(FlowKey, Flow)>, new: &Maps) {
    let surplus: HashSet<FlowKey> = fair::surplus(flows.clone(), new.flow_room() as usize)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    flows.retain(|(key, _)| !surplus.contains(key));
}

/// Entries that came, or were seen again, since `copied`.
fn merge<K: Pod + Eq + Hash, V: Pod>(
    old: &OwnedFd,
    entries: u32,
    new: &OwnedFd,
    copied: &HashSet<K>,
    seen: impl Fn(&V) -> u64,
) -> io::Result<()> {
    for (key, value) in sys::entries::<K, V>(old, entries)? {
        let wanted = match sys::lookup::<K, V>(new, &key)? {
            Some(there) => seen(&there) < seen(&value),
            None => !copied.contains(&key),
        };
        if wanted {
            sys::update(new, &key, &value)?;
        }
    }
    Ok(())
}

/// Adds to each gateway's counters what they grew by. A packet that is counted within the microsecond between reading and writing may be lost to the
/// counter; it never goes back.
fn add(new: &OwnedFd, before: &[GatewayStats], after: &[GatewayStats]) -> io::Result<()> {
    for (gateway, (before, after)) in (0u32..).zip(before.iter().zip(after)) {
        if before == after {
            continue;
        }
        let mut sum = sys::lookup::<u32, GatewayStats>(new, &gateway)?.unwrap_or_default();
        for (sum, (before, after)) in sum.verdict.iter_mut().zip(before.verdict.iter().zip(&after.verdict)) {
            sum.packets += after.packets.wrapping_sub(before.packets);
            sum.bytes += after.bytes.wrapping_sub(before.bytes);
        }
        sys::update(new, &gateway, &sum)?;
    }
    Ok(())
}
