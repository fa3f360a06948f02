//! Refusals that repeat become one record with a count.
//!
//! The first of them opens a record, which is written when [`INTERVAL`] is over. When as many are open as may be, further ones lose
//! their source and are counted by method and reason: so a flood from ever new addresses costs a few lines, and nothing is uncounted.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Context, Refused,
    entry::{self, Key, Record},
};

/// How long a record is open.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// How many with a source are open at a time.
pub(super) const MOST: usize = 256;

/// The open records.
#[derive(Default)]
pub(super) struct Folder {
    open: HashMap<Key, Record>,
    /// How many of them a source has.
    sources: HashMap<IpAddr, usize>,
    /// By when they are due, which is the order in which they were opened.
    order: VecDeque<(Instant, Key)>,
}

impl Folder {
    pub(super) fn add(&mut self, refused: &Refused, context: &dyn Context, now: Instant) {
        let full = self.open.len() >= MOST;
        // The flood that there is no room for costs no reading of its messages either.
        if full && !self.sources.contains_key(&refused.source.ip()) {
            return self.count_in(entry::anonymous(refused, context), now);
        }
        let record = entry::record(refused, context);
        if full && !self.open.contains_key(&record.key()) {
            return self.count_in(entry::anonymous(refused, context), now);
        }
        self.count_in(record, now);
    }

    fn count_in(&mut self, record: Record, now: Instant) {
        let key = record.key();
        if let Some(open) = self.open.get_mut(&key) {
            return open.merge(record);
        }
        if let Some(source) = key.source {
            *self.sources.entry(source).or_default() += 1;
        }
        self.order.push_back((now + INTERVAL, key.clone()));
        self.open.insert(key, record);
    }

    /// The next record whose time is over.
    pub(super) fn due(&mut self, now: Instant) -> Option<Record> {
        if self.order.front()?.0 > now {
            return None;
        }
        let (_, key) = self.order.pop_front()?;
        if let Some(source) = key.source
            && let Entry::Occupied(mut open) = self.sources.entry(source)
        {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
        self.open.remove(&key)
    }

    /// How long until one is due.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.order.front().map(|(due, _)| due.saturating_duration_since(now))
    }

    /// All, due or not.
    pub(super) fn all(mut self) -> Vec<Record> {
        let order = std::mem::take(&mut self.order);
        order.into_iter().filter_map(|(_, key)| self.open.remove(&key)).collect()
    }
}
