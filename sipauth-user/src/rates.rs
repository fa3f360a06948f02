//! Rates: what happened between two samples of the counters, by the agent's monotonic clock. For `top` and the console alike.

pub(crate) mod table;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use serde::Serialize;

use crate::control::{Counted, GatewayCounts, Sample};

/// How many rates a [`History`] remembers.
pub const REMEMBERED: usize = 240;
/// How many of a single gateway.
pub const REMEMBERED_OF_GATEWAY: usize = 30;
/// Samples that are further apart say nothing about now.
const TOO_LONG: Duration = Duration::from_secs(60);
/// The label of what is not for a protected port: all other traffic of the interface.
const OTHER: &str = "not_protected";

/// Packets and bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Packets.
    pub packets: f64,
    /// Bits on the wire.
    pub bits: f64,
}

/// Rates by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Verdicts {
    /// To the softswitch.
    pub pass: Rate,
    /// Nowhere.
    pub drop: Rate,
    /// To the agent.
    pub punt: Rate,
    /// ACKs to answers of the agent.
    pub absorb: Rate,
}

impl Verdicts {
    /// Packets, whatever their verdict.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.pass.packets + self.drop.packets + self.punt.packets + self.absorb.packets
    }
}

/// Packets a second for the agent, in one lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LaneRate {
    /// Its name.
    pub lane: String,
    /// Handed over.
    pub admitted: f64,
    /// Dropped beyond a budget.
    pub over_budget: f64,
    /// What is left of the lane's reserve, from 0 to 1.
    pub left: f64,
}

/// What happened between two samples, a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds between the samples.
    pub seconds: f64,
    /// What was for a protected port.
    pub verdicts: Verdicts,
    /// What was not: the rest of the interface's traffic.
    pub other: Rate,
    /// By label of the reason, every reason.
    pub reasons: BTreeMap<String, Rate>,
    /// By name of the gateway. One that is not in both samples is missing.
    pub gateways: BTreeMap<String, Verdicts>,
    /// By label of the agent's outcome, every outcome.
    pub authentication: BTreeMap<String, f64>,
    /// What was handed to the agent, in the order of the lanes.
    pub lanes: Vec<LaneRate>,
}

impl Rates {
    /// Of two samples; `None` where no time has passed between them, or too much, or the machine was started anew.
    #[must_use]
    pub fn between(before: &Sample, after: &Sample) -> Option<Self> {
        let elapsed = Duration::from_nanos(after.at_ns.checked_sub(before.at_ns)?);
        if elapsed.is_zero() || elapsed > TOO_LONG {
            return None;
        }
        let seconds = elapsed.as_secs_f64();
        let mut rates = Self {
            seconds,
            ..Self::default()
        };
        for (label, count) in &after.stats.reasons {
            let Some(old) = before.stats.reasons.get(label) else { continue };
            let rate = Rate {
                packets: grown(old.packets, count.packets) / seconds,
                bits: grown(old.bytes, count.bytes) * 8.0 / seconds,
            };
            let sum = match count.verdict.as_str() {
                _ if label == OTHER => &mut rates.other,
                "pass" => &mut rates.verdicts.pass,
                "punt" => &mut rates.verdicts.punt,
                "absorb" => &mut rates.verdicts.absorb,
                _ => &mut rates.verdicts.drop,
            };
            sum.packets += rate.packets;
            sum.bits += rate.bits;
            rates.reasons.insert(label.clone(), rate);
        }
        rates.gateways = after
            .stats
            .gateways
            .iter()
            .filter_map(|(name, counts)| Some((name.clone(), of_gateway(before.stats.gateways.get(name)?, counts, seconds))))
            .collect();
        rates.authentication = after
            .stats
            .authentication
            .iter()
            .filter_map(|(label, count)| Some((label.clone(), grown(*before.stats.authentication.get(label)?, *count) / seconds)))
            .collect();
        rates.lanes = after
            .lanes
            .iter()
            .zip(&before.lanes)
            .map(|(lane, old)| LaneRate {
                lane: lane.lane.clone(),
                admitted: grown(old.admitted, lane.admitted) / seconds,
                over_budget: grown(old.over_budget, lane.over_budget) / seconds,
                left: lane.left,
            })
            .collect();
        Some(rates)
    }
}

fn of_gateway(before: &GatewayCounts, after: &GatewayCounts, seconds: f64) -> Verdicts {
    let rate = |before: Counted, after: Counted| Rate {
        packets: grown(before.packets, after.packets) / seconds,
        bits: grown(before.bytes, after.bytes) * 8.0 / seconds,
    };
    Verdicts {
        pass: rate(before.pass, after.pass),
        drop: rate(before.drop, after.drop),
        punt: rate(before.punt, after.punt),
        absorb: rate(before.absorb, after.absorb),
    }
}

/// A counter that is less than it was began anew, with the agent or with the maps.
fn grown(before: u64, after: u64) -> f64 {
    after.checked_sub(before).unwrap_or(after) as f64
}

/// The latest sample and rates, and how they went.
#[derive(Clone, Debug, Default)]
pub struct History {
    last: Option<Sample>,
    interrupted: bool,
    rates: Option<Rates>,
    verdicts: VecDeque<Verdicts>,
    gateways: HashMap<String, VecDeque<f64>>,
}

impl History {
    /// Takes in a sample.
    pub fn push(&mut self, sample: Sample) {
        let before = self.last.as_ref().filter(|_| !self.interrupted);
        let rates = before.and_then(|before| Rates::between(before, &sample));
        if let Some(rates) = &rates {
            remember(&mut self.verdicts, rates.verdicts, REMEMBERED);
            // Of a gateway that is idle, nothing is kept.
            self.gateways.retain(|name, trend| {
                let now = rates.gateways.get(name).map(Verdicts::total);
                remember(trend, now.unwrap_or(0.0), REMEMBERED_OF_GATEWAY);
                now.is_some() && trend.iter().any(|rate| *rate > 0.0)
            });
            for (name, verdicts) in rates.gateways.iter().filter(|(_, verdicts)| verdicts.total() > 0.0) {
                if !self.gateways.contains_key(name) {
                    self.gateways.insert(name.clone(), VecDeque::from([verdicts.total()]));
                }
            }
        }
        self.rates = rates;
        self.last = Some(sample);
        self.interrupted = false;
    }

    /// The agent does not answer: what comes next is not compared with what was.
    pub fn interrupt(&mut self) {
        self.rates = None;
        self.interrupted = true;
    }

    /// The latest sample, also while the agent is away.
    #[must_use]
    pub const fn sample(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// Rates as of the latest sample; `None` after the first one.
    #[must_use]
    pub const fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    /// Rates by verdict, the oldest first.
    #[must_use]
    pub const fn verdicts(&self) -> &VecDeque<Verdicts> {
        &self.verdicts
    }

    /// Packets a second of a gateway, the oldest first; empty of one that is idle.
    pub fn trend(&self, gateway: &str) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator + '_ {
        static NONE: VecDeque<f64> = VecDeque::new();
        self.gateways.get(gateway).unwrap_or(&NONE).iter().copied()
    }
}

fn remember<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    if all.len() == most {
        all.pop_front();
    }
    all.push_back(one);
}

/// A rate in at most six characters, and comparable at a glance: `0`, `0.4`, `12.5`, `1,234`, `56.8k`, `1.2M`.
#[must_use]
pub fn short(rate: f64) -> String {
    match rate {
        r if r <= 0.0 => "0".to_owned(),
        r if r < 0.05 => "<0.1".to_owned(),
        r if r < 99.95 => format!("{r:.1}"),
        r if r < 999.5 => format!("{r:.0}"),
        r if r < 9_999.5 => {
            let whole = whole(r);
            format!("{},{:03}", whole / 1_000, whole % 1_000)
        }
        r if r < 999_950.0 => format!("{:.1}k", r / 1e3),
        r if r < 999_950_000.0 => format!("{:.1}M", r / 1e6),
        r => format!("{:.1}G", r / 1e9),
    }
}

/// The nearest whole number; 0 for what is negative.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "a conversion of this kind saturates")]
pub const fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// Bits a second with their unit.
#[must_use]
pub fn bits(rate: f64) -> String {
    match rate {
        r if r < 999.5 => format!("{r:.0} bit/s"),
        r if r < 999_950.0 => format!("{:.1} kbit/s", r / 1e3),
        r if r < 999_950_000.0 => format!("{:.1} Mbit/s", r / 1e6),
        r => format!("{:.1} Gbit/s", r / 1e9),
    }
}

#[cfg(test)]
pub(crate) mod tests;
