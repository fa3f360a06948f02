//! Who was refused lately, as far as refusals are sampled.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::control::EventRecord;

/// How far back to look.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Most events in it.
const MOST: usize = 10_000;

/// The events of the last minute.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<(Instant, EventRecord)>,
}

/// A source, and the last of its events.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) address: IpAddr,
    /// Events in the window.
    pub(super) samples: usize,
    /// The latest.
    pub(super) last: EventRecord,
    /// Its place among all events.
    order: usize,
}

/// How sources are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SourceSort {
    /// Most samples first.
    #[default]
    Samples,
    /// Latest first.
    Latest,
    /// By address.
    Address,
}

impl SourceSort {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Samples => Self::Latest,
            Self::Latest => Self::Address,
            Self::Address => Self::Samples,
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Latest => "latest",
            Self::Address => "address",
        }
    }
}

impl Recent {
    pub(super) fn push(&mut self, event: EventRecord, now: Instant) {
        // When it happened, by a clock that nobody sets.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let ago = Duration::try_from_secs_f64(wall - event.time).unwrap_or_default();
        let Some(when) = now.checked_sub(ago).filter(|_| ago < WINDOW) else {
            return;
        };
        if self.events.len() == MOST {
            self.events.pop_front();
        }
        self.events.push_back((when, event));
    }

    /// A connection begins: the agent tells the last ones again.
    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    /// Forgets what is too old.
    pub(super) fn trim(&mut self, now: Instant) {
        while self
            .events
            .front()
            .is_some_and(|(when, _)| now.saturating_duration_since(*when) > WINDOW)
        {
            self.events.pop_front();
        }
    }

    /// All events in the window.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// The sources that `wanted` says yes to, sorted.
    pub(super) fn sources(&self, sort: SourceSort, reverse: bool, wanted: impl Fn(&EventRecord) -> bool) -> Vec<Source> {
        let mut found: HashMap<IpAddr, Source> = HashMap::new();
        for (order, (_, event)) in self.events.iter().enumerate().filter(|(_, (_, event))| wanted(event)) {
            let address = event.source.ip();
            let entry = found.entry(address).or_insert_with(|| Source {
                address,
                samples: 0,
                last: event.clone(),
                order,
            });
            entry.samples += 1;
            if order > entry.order {
                (entry.last, entry.order) = (event.clone(), order);
            }
        }
        let mut sources: Vec<Source> = found.into_values().collect();
        sources.sort_by_key(|source| source.address);
        match sort {
            SourceSort::Samples => sources.sort_by_key(|source| std::cmp::Reverse(source.samples)),
            SourceSort::Latest => sources.sort_by_key(|source| std::cmp::Reverse(source.order)),
            SourceSort::Address => {}
        }
        if reverse {
            sources.reverse();
        }
        sources
    }
}
