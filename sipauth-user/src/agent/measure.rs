//! Numbers for Prometheus. What the kernel counts is read at each scrape; what has to be counted is the [`super::census`]'s.

use sipauth_common::{decide::Lookup as _, reason::Reason};

use super::{fill::HEARTBEAT_LIMIT, state::Agent};
use crate::{
    datapath::{self, DatapathError, monotonic_ns},
    metrics::{GatewayCount, Interface, Snapshot, Source},
    worker::Counts,
};

impl Source for Agent {
    fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        let reasons = self.maps().stats()?;
        let accounts = self.accounts_owned();
        let (ids, gateways): (Vec<u32>, Vec<_>) = accounts.snapshot.iter().unzip();
        let counts = self.maps().all_gateway_stats(&ids)?;
        let settings = self.settings();
        let mut work = self.counts().map(Counts::work).unwrap_or_default();
        work.outcomes = self.outcomes(work.outcomes, &reasons);
        Ok(Snapshot {
            reasons: Reason::ALL
                .iter()
                .map(|reason| (*reason, reasons[reason.slot() as usize]))
                .collect(),
            gateways: gateways
                .into_iter()
                .zip(counts)
                .map(|(gateway, counts)| GatewayCount {
                    name: gateway.name.clone(),
                    mode: gateway.mode,
                    verdict: counts.verdict,
                })
                .collect(),
            lanes: self.maps().lane_stats()?,
            events: self.maps().event_stats()?,
            work,
            logs: [&*self.records.tally, &self.audit.tally]
                .into_iter()
                .flat_map(|tally| [(tally.name(), "written", tally.written()), (tally.name(), "lost", tally.lost())])
                .collect(),
            census: self.census(),
            flows_evicted: self.room.evicted(),
            host_names: self.host_name_counts(),
            heartbeat_age: self.heartbeat_age(),
            monitor: settings.monitor,
            fail_open: settings.fail_open,
            interfaces: settings
                .interfaces
                .iter()
                .map(|name| Interface {
                    name: name.clone(),
                    // One that is gone has no program either.
                    mode: datapath::mode_of(name).unwrap_or_default(),
                })
                .collect(),
        })
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(damage) = self.damage() {
            return Err(damage.to_owned());
        }
        if !self.is_ready() {
            return Err("the agent is starting".to_owned());
        }
        if self.shutdown.is_cancelled() {
            return Err("the agent is ending".to_owned());
        }
        let age = self.heartbeat_age();
        if age > HEARTBEAT_LIMIT.as_secs_f64() {
            return Err(format!("the kernel program has not heard of the agent for {age:.0} s"));
        }
        for interface in &self.settings().interfaces {
            match datapath::has_program(interface) {
                Ok(true) => {}
                Ok(false) => return Err(format!("{interface} has no XDP program")),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

impl Agent {
    /// As the kernel program sees it. Of a map that cannot be read, since the machine's start.
    fn heartbeat_age(&self) -> f64 {
        let beat = self.maps().config().map_or(0, |config| config.heartbeat_ns);
        std::time::Duration::from_nanos(monotonic_ns().saturating_sub(beat)).as_secs_f64()
    }
}
