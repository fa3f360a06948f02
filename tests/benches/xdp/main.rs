//! Nanoseconds a packet, of every program in every case; `cargo xtask bench xdp` starts it, and makes tables and charts of what it prints.
//!
//! A harness program (`sipauth-ebpf/src/bin/harness.rs`) makes each packet and jumps to the program under test; `BPF_PROG_TEST_RUN` repeats it.
//! In a round every program has its turn in every case. What a turn takes is time of its thread on the processor, so that others' turns there do not
//! count. Each turn is checked by what the program counted, or at least by its last verdict: a figure is of what it says or there is none.

mod addresses;
mod filter;
mod harness;
mod sipauth;

use std::{env, error::Error, path::PathBuf};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::json;

use addresses::{Family, Kind, Sources};
use filter::Filter;
use harness::{Harness, Under};
use sipauth::Sipauth;

/// What goes wrong in a measurement ends it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What to measure: the first argument, as JSON.
#[derive(Deserialize)]
struct Plan {
    /// The object with the harness.
    harness: PathBuf,
    /// xdp-filter's object.
    filter: PathBuf,
    /// Numbers of gateways.
    gateways: Vec<usize>,
    rounds: usize,
    /// Packets of a turn.
    packets: u32,
}

/// One program in one case.
struct Turn {
    family: Family,
    gateways: usize,
    case: &'static str,
    program: &'static str,
    under: Under,
    /// Index of the packets' harness; programs that share one get the same packets.
    harness: usize,
    nanoseconds: Vec<f64>,
}

fn main() -> Result<()> {
    let Some(plan) = env::args().skip(1).find(|argument| argument.starts_with('{')) else {
        println!("cargo xtask bench xdp measures the kernel program");
        return Ok(());
    };
    let plan: Plan = serde_json::from_str(&plan)?;
    stay_on_one_cpu()?;
    let mut bench = Bench {
        plan,
        harnesses: Vec::new(),
        sipauths: Vec::new(),
        filters: Vec::new(),
        turns: Vec::new(),
    };
    for gateways in bench.plan.gateways.clone() {
        for family in [Family::V4, Family::V6] {
            eprintln!("{} with {gateways} gateways", family.label());
            bench.prepare(family, gateways)?;
        }
    }
    for round in 1..=bench.plan.rounds {
        eprintln!("round {round} of {}", bench.plan.rounds);
        bench.round()?;
    }
    let turns: Vec<_> = bench
        .turns
        .iter()
        .map(|turn| {
            json!({
                "family": turn.family.label(), "gateways": turn.gateways, "case": turn.case, "program": turn.program,
                "nanoseconds": turn.nanoseconds,
            })
        })
        .collect();
    println!("{}", json!({ "packets": bench.plan.packets, "turns": turns }));
    Ok(())
}

struct Bench {
    plan: Plan,
    harnesses: Vec<Harness>,
    sipauths: Vec<Sipauth>,
    filters: Vec<Filter>,
    turns: Vec<Turn>,
}

impl Bench {
    /// Loads what so many gateways of a family need, and lists its turns.
    fn prepare(&mut self, family: Family, gateways: usize) -> Result<()> {
        let sources = Sources::new(family, gateways);
        self.filters.push(Filter::load(&self.plan.filter, family, sources.hosts())?);
        let filter = self.filters.len() - 1;
        self.sipauths.push(Sipauth::with_hosts(family, sources.hosts())?);
        let hosts = self.sipauths.len() - 1;
        self.sipauths.push(Sipauth::with_nets(family, sources.nets())?);
        let nets = self.sipauths.len() - 1;
        for kind in Kind::ALL {
            let traffic = sources.traffic(kind);
            self.harnesses.push(Harness::load(&self.plan.harness, family, &traffic)?);
            let harness = self.harnesses.len() - 1;
            let mut turn = |program, under| {
                self.turns.push(Turn {
                    family,
                    gateways,
                    case: kind.label(),
                    program,
                    under,
                    harness,
                    nanoseconds: Vec::new(),
                });
            };
            if kind == Kind::Random {
                turn("empty", Under::Empty);
            }
            turn("parse", Under::Parse);
            let index = if kind.is_prefix() { nets } else { hosts };
            turn("sipauth", Under::Sipauth { index, kind });
            if kind.is_for_filter() {
                turn("xdp-filter", Under::Filter { index: filter, kind });
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        for turn in &mut self.turns {
            let harness = &mut self.harnesses[turn.harness];
            let (packets, warm_up) = (self.plan.packets, self.plan.packets / 8);
            let name = || {
                format!(
                    "{}, {}, {} gateways: {}",
                    turn.program,
                    turn.case,
                    turn.gateways,
                    turn.family.label()
                )
            };
            let counted = match turn.under {
                Under::Sipauth { index, kind } => {
                    let sipauth = &mut self.sipauths[index];
                    let before = sipauth.count(kind)?;
                    harness.choose(sipauth.fd()?)?;
                    let nanoseconds = harness
                        .run(warm_up, packets, sipauth::passes(kind))
                        .map_err(|e| format!("{}: {e}", name()))?;
                    turn.nanoseconds.push(nanoseconds);
                    Some(sipauth.count(kind)? - before)
                }
                Under::Filter { index, kind } => {
                    harness.choose(self.filters[index].fd()?)?;
                    let passes = !kind.is_refused();
                    let nanoseconds = harness.run(warm_up, packets, passes).map_err(|e| format!("{}: {e}", name()))?;
                    turn.nanoseconds.push(nanoseconds);
                    None
                }
                Under::Empty | Under::Parse => {
                    harness.choose_own(turn.program)?;
                    let nanoseconds = harness.run(warm_up, packets, false).map_err(|e| format!("{}: {e}", name()))?;
                    turn.nanoseconds.push(nanoseconds);
                    None
                }
            };
            if let Some(counted) = counted
                && counted != u64::from(warm_up + packets)
            {
                return Err(format!(
                    "{}: {counted} of {} packets were counted as the case says",
                    name(),
                    warm_up + packets
                )
                .into());
            }
        }
        Ok(())
    }
}

/// Counters and buckets are per CPU, caches too.
fn stay_on_one_cpu() -> nix::Result<()> {
    let ours = sched_getaffinity(Pid::from_raw(0))?;
    let mut one = CpuSet::new();
    // Not the first, where most interrupts are.
    let last = (0..CpuSet::count()).rev().find(|cpu| ours.is_set(*cpu).unwrap_or(false));
    one.set(last.unwrap_or(0))?;
    sched_setaffinity(Pid::from_raw(0), &one)
}
