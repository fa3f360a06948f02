//! The rates that all viewers share: read when someone looks, and not more often than is useful.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::task;

use super::Source;
use crate::{control::GatewayInfo, rates::History};

/// Between two samples.
const PACE: Duration = Duration::from_millis(1_500);
/// Of the first two, so that a first look has rates.
const FIRST: Duration = Duration::from_millis(500);
/// Samples that are further apart say nothing about now.
const STALE: Duration = Duration::from_secs(10);

/// The rates, and when they were read.
pub(super) struct Watch {
    source: Arc<dyn Source>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    history: History,
    gateways: Vec<GatewayInfo>,
    when: Option<Instant>,
}

impl Watch {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            seen: Arc::default(),
        }
    }

    /// Shows rates and gateways of now to `show`, on a thread that may block. `None` where the counters cannot be read.
    pub(super) async fn look<T: Send + 'static>(&self, show: impl FnOnce(&History, &[GatewayInfo]) -> T + Send + 'static) -> Option<T> {
        let (source, seen) = (Arc::clone(&self.source), Arc::clone(&self.seen));
        let looked = task::spawn_blocking(move || {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.refresh(source.as_ref()).then(|| show(&seen.history, &seen.gateways))
        });
        looked.await.ok().flatten()
    }
}

impl Seen {
    fn refresh(&mut self, source: &dyn Source) -> bool {
        let age = self.when.map(|when| when.elapsed());
        if age.is_some_and(|age| age < PACE) {
            return true;
        }
        if age.is_none_or(|age| age > STALE) {
            self.history.interrupt();
            if !self.read(source) {
                return false;
            }
            thread::sleep(FIRST);
        }
        self.read(source)
    }

    fn read(&mut self, source: &dyn Source) -> bool {
        match source.sample() {
            Ok(sample) => {
                self.history.push(sample);
                self.gateways = source.gateways();
                self.when = Some(Instant::now());
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the console cannot read the counters");
                false
            }
        }
    }
}
