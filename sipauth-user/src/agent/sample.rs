//! What `top` and the console look at again and again.

use sipauth_common::{
    config::{LANES, Lane},
    decide::Lookup as _,
    stats::{Bucket, LaneStats},
};
use tokio::sync::broadcast;

use super::{state::Agent, status::obstacles};
use crate::{
    config, console,
    control::{EventRecord, ExplainRequest, GatewayInfo, Health, InterfaceStatus, LaneReport, Response, Sample, Setup},
    datapath::{DatapathError, monotonic_ns},
};

impl Agent {
    /// All counters, and how the agent fares. Reads the kernel's maps: for a thread that may block for a moment.
    pub(super) fn take_sample(&self) -> Result<Sample, DatapathError> {
        let at_ns = monotonic_ns();
        let stats = self.stats()?;
        let faults = self.counts().map(crate::worker::Counts::faults).unwrap_or_default();
        let now = monotonic_ns();
        let idle_ns = u64::try_from(self.settings().flow_idle.as_nanos()).unwrap_or(u64::MAX);
        let (mut flows, mut bans) = (0, 0);
        self.maps().visit_flows(|_, flow| flows += u64::from(flow.is_live(now, idle_ns)))?;
        self.maps().visit_bans(|_, ban| bans += u64::from(ban.expires > now))?;
        let health = Health {
            workers: self.counts().map_or(0, crate::worker::Counts::workers),
            bans,
            flows,
            events_lost: self.maps().event_stats()?.lost,
            faults: faults.into_iter().map(|(fault, count)| (fault.label().to_owned(), count)).collect(),
        };
        Ok(Sample {
            at_ns,
            stats,
            setup: self.setup(),
            health,
            lanes: self.lanes()?,
        })
    }

    fn setup(&self) -> Setup {
        let settings = self.settings();
        let interfaces: Vec<InterfaceStatus> = settings.interfaces.iter().map(|name| self.interface(name)).collect();
        Setup {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.began().elapsed().as_secs(),
            obstacles: obstacles(settings.monitor, &interfaces),
            interfaces,
            default_policy: config::policy_label(self.accounts().default_policy).to_owned(),
        }
    }

    fn lanes(&self) -> Result<Vec<LaneReport>, DatapathError> {
        let rates = self.maps().config().map_or([0; LANES], |config| config.lane_rate);
        let now = monotonic_ns();
        let counts = self.maps().lane_stats()?;
        let report = |((lane, rate), counts): ((Lane, u32), LaneStats)| {
            let buckets = self.maps().lane(lane)?;
            Ok(LaneReport {
                lane: lane.label().to_owned(),
                budget: rate,
                admitted: counts.admitted,
                over_budget: counts.source_rate + counts.lane_rate,
                left: buckets.iter().map(|bucket| left(bucket, rate, now)).fold(1.0, f64::min),
            })
        };
        Lane::ALL.into_iter().zip(rates).zip(counts).map(report).collect()
    }
}

impl console::Source for Agent {
    fn sample(&self) -> Result<Sample, DatapathError> {
        self.take_sample()
    }

    fn gateways(&self) -> Vec<GatewayInfo> {
        let accounts = self.accounts();
        let sorted = accounts.snapshot.sorted().into_iter();
        sorted.map(|(id, gateway)| self.info(id, gateway)).collect()
    }

    fn explain(&self, request: &ExplainRequest) -> Response {
        Self::explain(self, request)
    }

    fn refusals(&self) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        self.events.subscribe()
    }
}

/// How full a bucket is now. One that nothing was taken from lately is full.
fn left(bucket: &Bucket, rate: u32, now: u64) -> f64 {
    let full = f64::from(rate) * 2_000.0;
    if bucket.last_ns == 0 || full == 0.0 {
        return 1.0;
    }
    let elapsed_ms = now.saturating_sub(bucket.last_ns) / 1_000_000;
    let tokens = bucket.millitokens.saturating_add(elapsed_ms.saturating_mul(u64::from(rate)));
    (tokens as f64 / full).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_full_until_more_is_taken_than_flows_in() {
        let rate = 100;
        let mut bucket = Bucket::default();
        assert!((left(&bucket, rate, 1) - 1.0).abs() < 1e-9, "never used");
        let start = 9_000_000_000;
        while bucket.take(start, rate) {}
        assert!(left(&bucket, rate, start) < 0.01, "used up");
        assert!(
            (left(&bucket, rate, start + 1_000_000_000) - 0.5).abs() < 0.01,
            "a second later half of two seconds' worth"
        );
        assert!((left(&bucket, rate, start + 60_000_000_000) - 1.0).abs() < 1e-9, "much later");
    }
}
