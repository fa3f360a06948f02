//! Names, labels and help texts of all metrics. Operators' dashboards depend on them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};
use sipauth_common::{reason::Verdict, stats::Count};

use super::Snapshot;

/// The snapshot in the text format.
pub(super) fn text(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// One of the two numbers of a count.
type Part = fn(&Count) -> u64;

/// The encoder adds `_total` to counters and `_info` to infos.
impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let parts: [(&str, &str, &str, &str, Part); 2] = [
            (
                "sipauth_packets",
                "Packets that the kernel program judged",
                "sipauth_gateway_packets",
                "Packets of a gateway that the kernel program judged",
                |count| count.packets,
            ),
            (
                "sipauth_bytes",
                "Bytes of the frames that the kernel program judged",
                "sipauth_gateway_bytes",
                "Bytes of the frames of a gateway that the kernel program judged",
                |count| count.bytes,
            ),
        ];
        for (name, help, gateway_name, gateway_help, part) in parts {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (reason, count) in &self.reasons {
                counter(
                    &mut metric,
                    &[("verdict", reason.verdict().label()), ("reason", reason.label())],
                    &part(count),
                )?;
            }
            let mut metric = encoder.encode_descriptor(gateway_name, gateway_help, None, MetricType::Counter)?;
            for gateway in &self.gateways {
                for (verdict, count) in Verdict::ALL.iter().zip(&gateway.verdict) {
                    counter(
                        &mut metric,
                        &[("gateway", gateway.name.as_str()), ("verdict", verdict.label())],
                        &part(count),
                    )?;
                }
            }
        }

        let help = "Datagrams that the agent dealt with, by what came of them";
        let mut metric = encoder.encode_descriptor("sipauth_authentication", help, None, MetricType::Counter)?;
        for &(outcome, count) in &self.authentication {
            counter(&mut metric, &[("outcome", outcome)], &count)?;
        }
        let help = "Datagrams that the agent could not receive, answer or hand over";
        let mut metric = encoder.encode_descriptor("sipauth_worker_faults", help, None, MetricType::Counter)?;
        for &(fault, count) in &self.faults {
            counter(&mut metric, &[("fault", fault)], &count)?;
        }

        let mut metric = encoder.encode_descriptor("sipauth_gateways", "Configured gateways", None, MetricType::Gauge)?;
        metric.encode_gauge(&self.gateways.len())?;
        let help = "Bans in force, by cause";
        let mut metric = encoder.encode_descriptor("sipauth_bans", help, None, MetricType::Gauge)?;
        for &(cause, count) in &self.bans {
            gauge(&mut metric, &[("cause", cause)], &count)?;
        }
        let help = "1 where verdicts are computed and counted, and everything passes";
        let mut metric = encoder.encode_descriptor("sipauth_monitor_mode", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&u32::from(self.monitor))?;
        let help = "1 for the mode in which the kernel runs the program on the interface";
        let mut metric = encoder.encode_descriptor("sipauth_xdp_mode", help, None, MetricType::Gauge)?;
        for interface in &self.interfaces {
            for (mode, on) in [("native", interface.native), ("generic", !interface.native)] {
                gauge(
                    &mut metric,
                    &[("interface", interface.name.as_str()), ("mode", mode)],
                    &u32::from(on),
                )?;
            }
        }
        let mut metric = encoder.encode_descriptor("sipauth_build", "The running agent", None, MetricType::Info)?;
        metric.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

fn counter(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: &impl EncodeCounterValue) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)
}

fn gauge(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: &impl EncodeGaugeValue) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(value)
}
