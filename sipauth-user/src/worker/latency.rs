//! How long datagrams took in the agent: from their arrival at the socket, by the kernel's own time stamp, so that the time in the queue
//! is in it, to the moment after everything of their batch was answered or handed over. One look at the clock serves a whole batch.
//!
//! Written by one worker, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::time::{ClockId, clock_gettime};
use sipauth_common::config::{LANES, Lane};

/// Upper bounds of the buckets, ns: three a decade, from what an idle agent takes to where a gateway has sent its request four times.
const BOUNDS: [u64; 17] = [
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];
/// With the one that has no bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// What was done with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyOf {
    /// Answered by the agent itself: challenges and refusals.
    Answer,
    /// Handed to the softswitch.
    Release,
}

impl LatencyOf {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Answer, Self::Release];

    /// Name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Release => "release",
        }
    }
}

/// A copy of the counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Where they arrived.
    pub lane: Lane,
    /// Of which datagrams.
    pub action: LatencyOf,
    /// Upper bound in seconds, and how many are in this bucket alone.
    pub buckets: Vec<(f64, u64)>,
    /// All of them together took so long.
    pub seconds: f64,
}

/// Counts of one worker.
#[derive(Debug)]
pub(super) struct Latency([[Times; LatencyOf::ALL.len()]; LANES]);

#[derive(Debug)]
struct Times {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Latency {
    pub(super) const fn new() -> Self {
        Self(
            [const {
                [const {
                    Times {
                        buckets: [const { AtomicU64::new(0) }; BUCKETS],
                        nanoseconds: AtomicU64::new(0),
                    }
                }; LatencyOf::ALL.len()]
            }; LANES],
        )
    }

    /// Counts the datagrams of a batch that is done. The clock that the kernel stamps with can be set: what came "later" took no time.
    pub(super) fn record(&self, lane: Lane, batch: &[(LatencyOf, u64)]) {
        if batch.is_empty() {
            return;
        }
        let now = now_ns();
        for &(action, arrived) in batch {
            self.count(lane, action, now.saturating_sub(arrived));
        }
    }

    fn count(&self, lane: Lane, action: LatencyOf, took: u64) {
        let times = self.times(lane, action);
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        if let Some(count) = times.buckets.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        times.nanoseconds.fetch_add(took, Relaxed);
    }

    const fn times(&self, lane: Lane, action: LatencyOf) -> &Times {
        &self.0[lane as usize][action as usize]
    }
}

/// The sum over workers, of every lane.
#[expect(
    clippy::cast_precision_loss,
    reason = "2^52 ns are 52 days of waiting; beyond, a fraction of it is lost"
)]
pub(super) fn histograms<'a>(all: impl Iterator<Item = &'a Latency> + Clone) -> Vec<Histogram> {
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let bounds = || BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
    let each = Lane::ALL.into_iter().flat_map(|lane| LatencyOf::ALL.map(|action| (lane, action)));
    each.map(|(lane, action)| {
        let times = || all.clone().map(|one| one.times(lane, action));
        let count = |bucket: usize| times().map(|one| one.buckets[bucket].load(Relaxed)).sum();
        Histogram {
            lane,
            action,
            buckets: bounds().enumerate().map(|(bucket, bound)| (bound, count(bucket))).collect(),
            seconds: seconds(times().map(|one| one.nanoseconds.load(Relaxed)).sum()),
        }
    })
    .collect()
}

/// The clock of the kernel's time stamps of datagrams; ns since 1970.
fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| nanoseconds(time.tv_sec(), time.tv_nsec()))
}

pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    let whole = u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000);
    whole.saturating_add(u64::try_from(nanoseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[Histogram], lane: Lane, action: LatencyOf) -> &Histogram {
        let found = all.iter().find(|one| (one.lane, one.action) == (lane, action));
        found.expect("every lane and action")
    }

    #[test]
    fn a_time_is_in_the_bucket_of_the_next_bound_and_the_sum_has_all() {
        let latency = Latency::new();
        for took in [0, 25_000, 25_001, 400_000_000, 5_000_000_001] {
            latency.count(Lane::Known, LatencyOf::Answer, took);
        }
        let all = histograms([&latency, &latency].into_iter());
        assert_eq!(all.len(), LANES * 2);
        let answers = of(&all, Lane::Known, LatencyOf::Answer);
        let filled: Vec<(f64, u64)> = answers.buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_025, 4), (0.000_05, 2), (0.5, 2), (f64::INFINITY, 2)]);
        assert!((answers.seconds - 2.0 * 5.400_050_002).abs() < 1e-9, "{}", answers.seconds);
        assert_eq!(answers.buckets.len(), BUCKETS);
        let others = all.iter().filter(|one| *one != answers);
        assert_eq!(others.flat_map(|one| &one.buckets).map(|(_, count)| count).sum::<u64>(), 0);
    }

    #[test]
    fn a_stamp_from_the_future_took_no_time() {
        let latency = Latency::new();
        latency.record(
            Lane::Trusted,
            &[(LatencyOf::Release, u64::MAX), (LatencyOf::Release, now_ns() - 30_000_000)],
        );
        let all = histograms(std::iter::once(&latency));
        let releases = of(&all, Lane::Trusted, LatencyOf::Release);
        assert_eq!(releases.buckets[0].1, 1);
        assert!((0.03..10.0).contains(&releases.seconds), "{}", releases.seconds);
    }
}
