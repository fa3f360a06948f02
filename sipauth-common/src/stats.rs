//! Counters and token buckets.

use crate::{address::Address, config::Lane, pod, reason::Verdict};

/// Packets and bytes. Entry of `STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire, from the Ethernet header on.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Count>() == 16);

/// Entry of `GATEWAY_STATS`: one count a verdict, indexed by [`Verdict`] as a number.
///
/// One array for all CPUs, with atomic additions: its size does not grow with the number of CPUs, and the traffic of one
/// gateway seldom meets on two of them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GatewayStats {
    /// By verdict.
    pub verdict: [Count; Verdict::ALL.len()],
}
const _: () = assert!(size_of::<GatewayStats>() == 64);

/// Key of `PUNT_RATE`. The lane is part of it, so that what a stranger sends in the name of an address, from other ports,
/// cannot use up what the authenticated flows of that address may send.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct RateKey {
    /// [`Address::sender`] of the source.
    pub network: Address,
    /// [`Lane`] as a number.
    pub lane: u32,
}
const _: () = assert!(size_of::<RateKey>() == 20);

impl RateKey {
    /// The key of a source in a lane.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: &Address, lane: Lane) -> Self {
        Self {
            network: source.sender(),
            lane: lane as u32,
        }
    }
}

/// What became of what was for the agent, in one lane: datagrams, and of TCP what opens a connection. Entry of `LANE_STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneStats {
    /// Within the budgets.
    pub admitted: u64,
    /// Beyond what one source may send: [`crate::reason::Reason::SourceRate`].
    pub source_rate: u64,
    /// Beyond the budget of the lane: [`crate::reason::Reason::LaneRate`].
    pub lane_rate: u64,
}
const _: () = assert!(size_of::<LaneStats>() == 24);

/// What became of what the programs had to tell the agent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventStats {
    /// Written to the ring buffer.
    pub sent: u64,
    /// A refusal beyond the budget of events, which are samples.
    pub over_budget: u64,
    /// Lost, since the ring buffer was full.
    pub lost: u64,
}
const _: () = assert!(size_of::<EventStats>() == 24);

/// Entry of `EVENT_STATS`: the budget of events, and what became of them. Together, so that a refusal without an event touches one line of
/// the cache for both.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventBudget {
    /// One more than the agent's sign of life that the budget was last filled at; 0 for none yet.
    pub filled_at: u64,
    /// Events that may still be sent.
    pub left: u64,
    /// What became of events.
    pub stats: EventStats,
}
const _: () = assert!(size_of::<EventBudget>() == 40);

impl EventBudget {
    /// Whether there is nothing left and will not be at this sign of life, `beat_ns`, of the agent.
    #[inline(always)]
    #[must_use]
    pub const fn is_spent(&self, beat_ns: u64) -> bool {
        self.left == 0 && self.filled_at == beat_ns.wrapping_add(1)
    }

    /// Takes one. The clock is the agent, which gives one sign of life a second: to read the time would cost as much as all else of a
    /// refusal. `rate` is added at each, and two seconds' worth is kept. Its goodbye (0) counts as one: the next agent reads what was
    /// refused while there was none, as far as that goes.
    #[inline(always)]
    pub const fn take(&mut self, beat_ns: u64, rate: u32) -> bool {
        if self.filled_at != beat_ns.wrapping_add(1) {
            self.filled_at = beat_ns.wrapping_add(1);
            let (filled, full) = (self.left + rate as u64, rate as u64 * 2);
            self.left = if filled > full { full } else { filled };
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// A token bucket. Entry of `PUNT_RATE` and `LANES`; starts full when `last_ns` is 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// `CLOCK_MONOTONIC`, ns, when tokens were last added.
    pub last_ns: u64,
    /// Thousandths of a token.
    pub millitokens: u64,
}
const _: () = assert!(size_of::<Bucket>() == 16);

impl Bucket {
    /// Whether [`Self::take`] would find no token, told without taking or refilling: nothing is left, and nothing flows in within this
    /// millisecond. False where that is not certain.
    #[inline(always)]
    #[must_use]
    pub const fn is_spent(&self, now_ns: u64) -> bool {
        self.last_ns != 0 && self.millitokens < 1_000 && now_ns.saturating_sub(self.last_ns) < 1_000_000
    }

    /// Takes one token at `now_ns`, where `rate` tokens a second flow in and at most two seconds' worth are kept.
    #[inline(always)]
    pub fn take(&mut self, now_ns: u64, rate: u32) -> bool {
        let full = rate as u64 * 2_000;
        // Milliseconds are fine enough for any rate, and keep the product within 64 bits; what is less than one is kept for later.
        let elapsed_ms = now_ns.saturating_sub(self.last_ns) / 1_000_000;
        if self.last_ns == 0 || elapsed_ms >= 2_000 {
            self.millitokens = full;
            self.last_ns = now_ns;
        } else if elapsed_ms > 0 {
            let filled = self.millitokens + elapsed_ms * rate as u64;
            self.millitokens = if filled > full { full } else { filled };
            self.last_ns += elapsed_ms * 1_000_000;
        }
        if self.millitokens < 1_000 {
            return false;
        }
        self.millitokens -= 1_000;
        true
    }
}

pod!(Count, GatewayStats, RateKey, LaneStats, EventStats, EventBudget, Bucket);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = Bucket::default();
        let start = 5_000_000_000;
        let burst = (0..1000).filter(|_| bucket.take(start, 100)).count();
        assert_eq!(burst, 200);
        // 10 seconds of a packet each millisecond: 100 a second pass.
        let passed = (1..=10_000u64).filter(|ms| bucket.take(start + ms * 1_000_000, 100)).count();
        assert_eq!(passed, 1_000);
    }

    #[test]
    fn a_bucket_that_is_spent_gives_nothing_and_one_that_is_not_is_asked() {
        let mut bucket = Bucket::default();
        let start = 5_000_000_000;
        assert!(!bucket.is_spent(start), "full");
        for step in 0..100_000_u64 {
            let now = start + step * 50_000;
            let spent = bucket.is_spent(now);
            let mut asked = bucket;
            assert!(!(spent && asked.take(now, 3_000)), "at {now}");
            if !spent {
                bucket = asked;
                let _ = bucket.take(now, 3_000);
            }
        }
        assert!(bucket.is_spent(start + 99_999 * 50_000), "it ends spent");
    }

    #[test]
    fn events_are_paid_by_signs_of_life() {
        let mut budget = EventBudget::default();
        for beat in 1..=10 {
            assert!(!budget.is_spent(beat));
            let sent = (0..1_000).filter(|_| budget.take(beat, 100)).count();
            assert_eq!(sent, 100, "at {beat}");
            assert!(budget.is_spent(beat));
        }
        // What is not used is kept, for two seconds at most.
        for beat in 11..20 {
            assert!(budget.take(beat, 100));
        }
        assert_eq!((0..1_000).filter(|_| budget.take(19, 100)).count(), 199);
        for mut budget in [budget, EventBudget::default()] {
            let sent = (0..1_000).filter(|_| budget.take(0, 100)).count();
            assert_eq!(sent, 100, "the goodbye is the last one that pays");
        }
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(9_000_000_000, 1));
        assert!(bucket.take(9_000_000_000, 1));
        assert!(!bucket.take(1_000_000_000, 1));
        assert!(!bucket.take(9_000_000_000, 1));
    }
}
