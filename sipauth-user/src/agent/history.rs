//! The counters of the last minute, so that `status` can say what is going on now and not since the start.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sipauth_common::{
    reason::{Reason, Verdict},
    stats::Count,
};
use tokio_util::sync::CancellationToken;

use super::state::Agent;
use crate::{
    auth::Outcome,
    worker::{Counts, Fault},
};

/// How often the counters are looked at.
const STEP: Duration = Duration::from_secs(5);
/// How many looks make a minute.
const KEPT: usize = 12;

/// All counters at one time.
#[derive(Clone)]
struct Sample {
    at: Instant,
    reasons: [Count; Reason::COUNT],
    outcomes: Vec<(Outcome, u64)>,
    faults: Vec<(Fault, u64)>,
    evicted: u64,
}

/// What moved within a time.
pub(super) struct Moved {
    /// How long.
    pub(super) time: Duration,
    /// Packets of each reason that moved, the most first.
    pub(super) reasons: Vec<(Reason, u64)>,
    /// The agent's outcomes that moved, likewise.
    pub(super) outcomes: Vec<(Outcome, u64)>,
    /// Faults that moved, likewise.
    pub(super) faults: Vec<(Fault, u64)>,
    /// Flows that were pushed out.
    pub(super) evicted: u64,
}

impl Moved {
    fn between(old: &Sample, new: &Sample) -> Self {
        let reasons = Reason::ALL.iter().map(|reason| {
            let packets = |sample: &Sample| sample.reasons[reason.slot() as usize].packets;
            (*reason, packets(new).saturating_sub(packets(old)))
        });
        Self {
            time: new.at.duration_since(old.at),
            reasons: most(reasons),
            outcomes: most(differences(&old.outcomes, &new.outcomes)),
            faults: most(differences(&old.faults, &new.faults)),
            evicted: new.evicted.saturating_sub(old.evicted),
        }
    }

    /// Packets a second with a verdict.
    pub(super) fn rate(&self, verdict: Verdict) -> u64 {
        let packets: u64 = self
            .reasons
            .iter()
            .filter(|(reason, _)| reason.verdict() == verdict)
            .map(|(_, packets)| packets)
            .sum();
        let seconds = self.time.as_secs_f64();
        if seconds < 0.1 {
            return 0;
        }
        // Rates stay far below 2^52.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate to be read"
        )]
        let rate = (packets as f64 / seconds).round() as u64;
        rate
    }
}

/// Both lists have everything, in the same order.
fn differences<T: Copy>(old: &[(T, u64)], new: &[(T, u64)]) -> impl Iterator<Item = (T, u64)> {
    new.iter().zip(old).map(|((what, new), (_, old))| (*what, new.saturating_sub(*old)))
}

fn most<T>(all: impl Iterator<Item = (T, u64)>) -> Vec<(T, u64)> {
    let mut moved: Vec<_> = all.filter(|(_, count)| *count > 0).collect();
    moved.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    moved
}

/// The looks of the last minute, the oldest first.
#[derive(Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

impl History {
    fn samples(&self) -> std::sync::MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, sample: Sample) {
        let mut samples = self.samples();
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// What moved in the last minute, and in the last seconds; `None` before the first look.
    fn until(&self, now: &Sample) -> Option<(Moved, Moved)> {
        let samples = self.samples();
        let oldest = samples.front()?;
        let lately = samples
            .iter()
            .rev()
            .find(|sample| now.at.duration_since(sample.at) >= STEP)
            .unwrap_or(oldest);
        Some((Moved::between(oldest, now), Moved::between(lately, now)))
    }
}

impl Agent {
    fn sample(&self) -> Option<Sample> {
        Some(Sample {
            at: Instant::now(),
            reasons: self.maps().stats().ok()?,
            outcomes: self.counts().map(Counts::outcomes).unwrap_or_default(),
            faults: self.counts().map(Counts::faults).unwrap_or_default(),
            evicted: self.room.evicted(),
        })
    }

    /// What moved in the last minute, and in the last seconds.
    pub(super) fn moved(&self) -> Option<(Moved, Moved)> {
        self.history.until(&self.sample()?)
    }

    /// Looks at the counters until the end.
    pub(super) async fn look(&self, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(STEP);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looks.tick() => {}
            }
            if let Some(sample) = self.sample() {
                self.history.keep(sample);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, packets: u64) -> Sample {
        let mut reasons = [Count::default(); Reason::COUNT];
        for reason in [Reason::UnknownSource, Reason::IpMatch] {
            reasons[reason.slot() as usize].packets = packets * (1 + u64::from(reason == Reason::IpMatch));
        }
        Sample {
            at,
            reasons,
            outcomes: vec![(Outcome::Authenticated, 3), (Outcome::WrongPassword, packets)],
            faults: Vec::new(),
            evicted: packets / 100,
        }
    }

    #[test]
    fn the_last_minute_and_the_last_seconds_are_told_apart() {
        let history = History::default();
        let begin = Instant::now();
        assert!(history.until(&sample(begin, 0)).is_none());
        for step in 0..20_u32 {
            history.keep(sample(begin + STEP * step, u64::from(step) * 100));
        }
        let (minute, lately) = history.until(&sample(begin + STEP * 20, 2_000)).expect("both");
        assert_eq!((minute.time, lately.time), (Duration::from_secs(60), STEP));
        assert_eq!(minute.reasons, [(Reason::IpMatch, 2_400), (Reason::UnknownSource, 1_200)]);
        assert_eq!(minute.outcomes, [(Outcome::WrongPassword, 1_200)], "what did not move is not told");
        assert_eq!((minute.evicted, lately.evicted), (12, 1));
        assert_eq!(
            (lately.rate(Verdict::Pass), lately.rate(Verdict::Drop), lately.rate(Verdict::Punt)),
            (40, 20, 0)
        );
    }
}
