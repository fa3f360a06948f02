//! Names, labels and help texts of all metrics. Operators' dashboards depend on them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};
use sipauth_common::{reason::Verdict, stats::Count};

use super::{Snapshot, format::Format, process::Process, snapshot::lanes};
use crate::{config::XdpMode, gateway::Mode};

/// The snapshot in a text format.
pub(super) fn text(snapshot: Snapshot, format: Format) -> Result<String, fmt::Error> {
    // Some 60 bytes a series, and of a gateway two for each verdict.
    let mut text = String::with_capacity(32_768 + snapshot.gateways.len() * Verdict::ALL.len() * 2 * 80);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    encode(&mut text, &registry)?;
    format.render(text)
}

/// One of the two numbers of a count.
type Part = fn(&Count) -> u64;

/// The encoder adds `_total` to counters and `_info` to infos.
impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut all = Families(encoder);
        self.traffic(&mut all)?;
        self.agent(&mut all)?;
        self.tables(&mut all)?;
        self.state(&mut all)?;
        process(&mut all)
    }
}

/// Begins families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<'b>(&'b mut self, name: &'b str, help: &str) -> Result<Family<'b>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Counter).map(Family)
    }

    fn gauge<'b>(&'b mut self, name: &'b str, help: &str) -> Result<Family<'b>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge).map(Family)
    }

    /// A family of one series without labels.
    fn one(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.gauge(name, help)?.0.encode_gauge(value)
    }
}

/// Writes the series of a family.
struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    fn counter(&mut self, labels: &impl EncodeLabelSet, value: &impl EncodeCounterValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)
    }

    fn gauge(&mut self, labels: &impl EncodeLabelSet, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_gauge(value)
    }
}

impl Snapshot {
    fn traffic(&self, all: &mut Families<'_>) -> fmt::Result {
        let parts: [(&str, &str, &str, &str, Part); 2] = [
            (
                "sipauth_packets",
                "Packets that the kernel program judged, by verdict and reason",
                "sipauth_gateway_packets",
                "Packets of a gateway that the kernel program judged",
                |count| count.packets,
            ),
            (
                "sipauth_bytes",
                "Bytes of the frames that the kernel program judged, by verdict and reason",
                "sipauth_gateway_bytes",
                "Bytes of the frames of a gateway that the kernel program judged",
                |count| count.bytes,
            ),
        ];
        for (name, help, gateway_name, gateway_help, part) in parts {
            let mut family = all.counter(name, help)?;
            for (reason, count) in &self.reasons {
                family.counter(&[("verdict", reason.verdict().label()), ("reason", reason.label())], &part(count))?;
            }
            let mut family = all.counter(gateway_name, gateway_help)?;
            for gateway in &self.gateways {
                for (verdict, count) in Verdict::ALL.iter().zip(&gateway.verdict) {
                    family.counter(&[("gateway", gateway.name.as_str()), ("verdict", verdict.label())], &part(count))?;
                }
            }
        }
        let help = "Datagrams and TCP connections that were for the agent, by lane; all but the admitted ones were dropped";
        let mut family = all.counter("sipauth_lane_packets", help)?;
        for (lane, label) in lanes() {
            let count = self.lanes[lane];
            for (result, value) in [
                ("admitted", count.admitted),
                ("source_rate", count.source_rate),
                ("lane_rate", count.lane_rate),
            ] {
                family.counter(&[("lane", label), ("result", result)], &value)?;
            }
        }
        let help = "What the kernel programs had to tell the agent: sampled refusals, answers to registrations; lost where the ring buffer was full";
        let mut family = all.counter("sipauth_events", help)?;
        for (result, value) in [
            ("sent", self.events.sent),
            ("over_budget", self.events.over_budget),
            ("lost", self.events.lost),
        ] {
            family.counter(&[("result", result)], &value)?;
        }
        Ok(())
    }

    fn agent(&self, all: &mut Families<'_>) -> fmt::Result {
        let work = &self.work;
        let mut family = all.counter(
            "sipauth_authentication",
            "Requests and responses that the agent dealt with, or the kernel program challenged in its place, by what came of them",
        )?;
        for &(outcome, count) in &work.outcomes {
            family.counter(&[("outcome", outcome.label())], &count)?;
        }
        let mut family = all.counter(
            "sipauth_worker_faults",
            "Datagrams that the agent could not receive, answer or hand over; TCP connections cut off",
        )?;
        for &(fault, count) in &work.faults {
            family.counter(&[("fault", fault.label())], &count)?;
        }
        let help = "From the arrival of a datagram at the agent's socket to the sending of its answer (challenge, refusal), or until it and those \
                    received with it had been handed to the softswitch (release)";
        let mut family = all
            .0
            .encode_descriptor("sipauth_agent_latency_seconds", help, None, MetricType::Histogram)?;
        for histogram in &work.latency {
            family
                .encode_family(&[("lane", histogram.lane.label()), ("action", histogram.action.label())])?
                .encode_histogram::<NoLabelSet>(
                    histogram.seconds,
                    histogram.buckets.iter().map(|(_, count)| count).sum(),
                    &histogram.buckets,
                    None,
                )?;
        }
        let help = "Lines of the records of refused calls and of the audit, by what became of them";
        let mut family = all.counter("sipauth_log_lines", help)?;
        for &(log, result, count) in &self.logs {
            family.counter(&[("log", log), ("result", result)], &count)?;
        }
        let mut family = all.gauge(
            "sipauth_receive_queue_bytes",
            "What waits at the agent's UDP sockets, with the kernel's overhead",
        )?;
        for queue in &work.queues {
            family.gauge(&[("lane", queue.lane.label())], &queue.bytes)?;
        }
        let mut family = all.gauge(
            "sipauth_receive_queue_fullest_ratio",
            "How full the fullest of the agent's UDP sockets is; at 1 datagrams are lost",
        )?;
        for queue in &work.queues {
            family.gauge(&[("lane", queue.lane.label())], &queue.fullest)?;
        }
        let mut family = all.counter(
            "sipauth_receive_queue_drops",
            "Datagrams that were lost since a UDP socket of the agent was full, or their checksum was wrong",
        )?;
        for queue in &work.queues {
            family.counter(&[("lane", queue.lane.label())], &queue.drops)?;
        }
        all.one(
            "sipauth_tcp_connections",
            "TCP connections of gateways at the agent",
            &work.connections,
        )?;
        all.one(
            "sipauth_tcp_connections_limit",
            "TCP connections of gateways that the agent takes at most",
            &work.connections_limit,
        )
    }

    fn tables(&self, all: &mut Families<'_>) -> fmt::Result {
        let mut family = all.gauge("sipauth_gateways", "Configured gateways, by mode")?;
        for mode in Mode::ALL {
            let count = self.gateways.iter().filter(|gateway| gateway.mode == mode).count();
            family.gauge(&[("mode", mode.label())], &u64::try_from(count).unwrap_or(u64::MAX))?;
        }
        let (names, failing) = self.host_names;
        let mut family = all.gauge(
            "sipauth_host_names",
            "Host names of gateways; of a failing one the last good answer stays in force",
        )?;
        for (state, count) in [("resolved", names.saturating_sub(failing)), ("failing", failing)] {
            family.gauge(&[("state", state)], &count)?;
        }
        let mut family = all.gauge("sipauth_bans", "Bans in force, by cause; counted every few seconds")?;
        for &(cause, count) in &self.census.bans {
            family.gauge(&[("cause", cause)], &count)?;
        }
        let mut family = all.gauge(
            "sipauth_flows",
            "Sources that have authenticated, and connections that the softswitch opened; counted every few seconds",
        )?;
        for &(transport, count) in &self.census.flows {
            family.gauge(&[("transport", transport)], &count)?;
        }
        all.counter(
            "sipauth_flows_evicted",
            "Flows that were pushed out, of the gateways that have the most: more sources had authenticated than there is room for",
        )?
        .0
        .encode_counter::<NoLabelSet, _, f64>(&self.flows_evicted, None)?;
        all.one(
            "sipauth_peers",
            "Addresses that the softswitch has called lately; counted every few seconds",
            &self.census.peers,
        )?;
        let named: Vec<_> = self
            .census
            .occupancy
            .iter()
            .map(|one| (one.map.to_ascii_lowercase(), one))
            .collect();
        let mut family = all.gauge(
            "sipauth_map_entries",
            "Entries of a map of the kernel program, also those that are over; counted every few seconds",
        )?;
        for (name, one) in &named {
            family.gauge(&[("map", name.as_str())], &one.entries)?;
        }
        family.gauge(&[("map", "gateway_stats")], &u64::try_from(self.gateways.len()).unwrap_or(u64::MAX))?;
        let mut family = all.gauge("sipauth_map_capacity", "Entries that a map of the kernel program has room for")?;
        for (name, one) in &named {
            family.gauge(&[("map", name.as_str())], &one.capacity)?;
        }
        // Id 0 means no gateway.
        family.gauge(&[("map", "gateway_stats")], &(sipauth_common::abi::MAX_GATEWAYS - 1))?;
        let help = "Memory that the kernel has for a map of the kernel program; before kernel 6.4 an estimate";
        let mut family = all.gauge("sipauth_map_memory_bytes", help)?;
        for one in &self.census.footprints {
            family.gauge(&[("map", one.map.to_ascii_lowercase().as_str())], &one.bytes)?;
        }
        let fill = &self.census.prefilter;
        all.one("sipauth_prefilter_fill_ratio", "Bits of the prefilter that are set", &fill.bits)?;
        let help = "Strangers for which the kernel program looks into the maps of addresses or of prefixes all the same, since the prefilter has \
                    set bits there by chance";
        let mut family = all.gauge("sipauth_prefilter_strangers_ratio", help)?;
        for (lookup, share) in [("address", fill.address), ("prefix", fill.prefix)] {
            family.gauge(&[("lookup", lookup)], &share)?;
        }
        Ok(())
    }

    fn state(&self, all: &mut Families<'_>) -> fmt::Result {
        let help = "Seconds since the agent last told the kernel program that it is alive; after 3 s it counts as down";
        all.one("sipauth_heartbeat_age_seconds", help, &self.heartbeat_age)?;
        let help = "1 where verdicts are computed and counted, and everything passes";
        all.one("sipauth_monitor_mode", help, &u32::from(self.monitor))?;
        let help = "1 where new calls that need the agent pass while it is down";
        all.one("sipauth_fail_open", help, &u32::from(self.fail_open))?;
        let help = "1 for how the kernel runs the program on the interface; none where it does not, and nothing is enforced there";
        let mut family = all.gauge("sipauth_xdp_mode", help)?;
        for interface in &self.interfaces {
            let modes = [Some(XdpMode::Native), Some(XdpMode::Generic), None];
            for mode in modes {
                family.gauge(
                    &[
                        ("interface", interface.name.as_str()),
                        ("mode", mode.map_or("none", XdpMode::label)),
                    ],
                    &u32::from(interface.mode == mode),
                )?;
            }
        }
        let mut metric = all
            .0
            .encode_descriptor("sipauth_build", "The running agent", None, MetricType::Info)?;
        metric.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

fn process(all: &mut Families<'_>) -> fmt::Result {
    let process = Process::now();
    all.counter("process_cpu_seconds", "CPU time of the agent")?
        .0
        .encode_counter::<NoLabelSet, _, f64>(&process.cpu_seconds, None)?;
    all.one(
        "process_start_time_seconds",
        "When the agent began, in seconds since 1970",
        &process.start_time_seconds,
    )?;
    all.one("process_resident_memory_bytes", "Memory of the agent", &process.resident_bytes)?;
    all.one("process_open_fds", "Open file descriptors of the agent", &process.open_fds)
}
