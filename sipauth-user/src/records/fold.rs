//! Refusals that repeat become one record with a count.
//!
//! The first of them opens a record, which is written when [`INTERVAL`] is over. When as many are open as may be, further ones lose
//! their source and are counted by method and reason: so a flood from ever new addresses costs a few lines, and nothing is uncounted.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::entry::{Key, Record};

/// How long a record is open.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// How many with a source are open at a time.
pub(super) const MOST: usize = 256;

/// The open records.
#[derive(Default)]
pub(super) struct Folder {
    open: HashMap<Key, Record>,
    /// By when they are due, which is the order in which they were opened.
    order: VecDeque<(Instant, Key)>,
}

impl Folder {
    pub(super) fn add(&mut self, record: Record, now: Instant) {
        let key = record.key();
        if let Some(open) = self.open.get_mut(&key) {
            return open.merge(record);
        }
        let (record, key) = if self.open.len() < MOST {
            (record, key)
        } else {
            let record = record.anonymous();
            let key = record.key();
            (record, key)
        };
        if let Some(open) = self.open.get_mut(&key) {
            return open.merge(record);
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
