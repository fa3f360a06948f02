//! CPU time of an authenticated call: INVITE, 401, ACK, INVITE with credentials, 180, 200, ACK, BYE, 200.
//!
//! The same SIPp calls the same SIPp at the same rate, in turns through sipauth, through Kamailio, and with nobody between. Time is
//! that of processes, as the scheduler measures it (not sampled), and so is not touched by what else the machine does. What the kernel
//! does for a packet it does mostly in the context of the process that sent it (a virtual link has no interrupt), so the time of the
//! two SIPps has a part in it that belongs to whoever is between: the programs on the interface, the stack of the datagrams that
//! are handed over, of those that are released, and of the answers. Hence for each call:
//!
//! ```text
//! cost = time of the agent or of Kamailio, all threads and processes, user and system
//!      + time of the caller's SIPp  − its time when SIPp itself challenges it   (it sends and receives the same messages then)
//!      + time of the answering SIPp − its time when it is called without digest (likewise)
//! ```
//!
//! Of the last two, what the kernel spends in sipauth's programs themselves is counted apart (`BPF_ENABLE_STATS`, which itself costs some 50 ns a
//! packet), and shown with the time of the agent as what is sipauth's *own*: the rest is the price of anybody between.
//!
//! The last two can be below zero by some microseconds of noise, or since a busier machine wakes SIPp less often. As a check, the
//! busy time of the whole machine is given too, less that of calls which SIPp itself challenges; that is right only where nothing
//! else runs, and on kernels that account for interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING`) it is the figure to look at.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use sipauth_tests::lab::{Host, Lab};

use super::{
    chart::{self, Bar, Head, Tone},
    figures::{self, Spread},
    release_build, save,
    sides::{Cost, Side, measure},
};
use crate::shell::heading;

/// How often a side is tried in a round.
const TRIES: usize = 3;

/// How much to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Calls through each side, all rounds together
    #[arg(long, default_value_t = 100_000)]
    calls: u32,
    /// Rounds; in each, every side has its turn
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// New calls a second
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Measure this sipauth, instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave out Kamailio
    #[arg(long)]
    alone: bool,
}

/// Costs of one side, by round.
struct Row {
    side: Side,
    costs: Vec<Cost>,
    /// It failed in a round before, however often it was tried.
    hopeless: bool,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let per_round = options.calls / options.rounds.max(1);
    ensure!(
        options.rate > 0 && per_round >= options.rate,
        "fewer than a second's calls a round tell nothing"
    );
    heading("build");
    let binary = options.binary.clone().map_or_else(release_build, Ok)?;
    let lab = Lab::new()?;
    // For all sides alike: a veth pair takes what the kernel program sends only so.
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let _counted = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
    let others = if options.alone {
        &[][..]
    } else {
        &[Side::Stateless, Side::Stateful]
    };
    let mut rows: Vec<Row> = [Side::Plain, Side::Digest, Side::Sipauth]
        .iter()
        .chain(others)
        .map(|&side| Row {
            side,
            costs: Vec::new(),
            hopeless: false,
        })
        .collect();
    for round in 1..=options.rounds {
        heading(&format!("round {round} of {}", options.rounds));
        for row in rows.iter_mut().filter(|row| !row.hopeless) {
            // A floor is only subtracted: half as many are exact enough.
            let calls = if row.side.is_floor() {
                (per_round / 2).max(options.rate)
            } else {
                per_round
            };
            let cost = match again(|| measure(&lab, &binary, row.side, calls, options.rate)) {
                Ok(cost) => cost,
                Err(error) => {
                    println!("left out from now on: {error:#}");
                    row.hopeless = true;
                    continue;
                }
            };
            println!(
                "{:<20} {calls} calls, µs a call: between {:.1}, programs {:.1}, caller {:.1}, answering {:.1}, whole machine {:.1}",
                row.side.label(),
                cost.middle,
                cost.programs,
                cost.caller,
                cost.switch,
                cost.machine
            );
            row.costs.push(cost);
        }
    }
    report(options, &rows)
}

/// On a machine that does other things too, calls fail now and then.
fn again(mut run: impl FnMut() -> Result<Cost>) -> Result<Cost> {
    for _ in 0..TRIES - 1 {
        match run() {
            Ok(cost) => return Ok(cost),
            Err(error) => println!("once more: {error:#}"),
        }
    }
    run()
}

fn report(options: &Options, rows: &[Row]) -> Result<()> {
    let of = |row: &Row, part: &dyn Fn(&Cost) -> f64| Spread::of(&row.costs.iter().map(part).collect::<Vec<_>>());
    let floor = |side: Side, part: fn(&Cost) -> f64| {
        let row = rows.iter().find(|row| row.side == side);
        row.map_or(f64::NAN, |row| of(row, &part).median)
    };
    let (caller, switch) = (floor(Side::Digest, |cost| cost.caller), floor(Side::Plain, |cost| cost.switch));
    let machine = floor(Side::Digest, |cost| cost.machine);
    let each = |row: &Row| -> Vec<f64> {
        let total = |cost: &Cost| cost.middle + (cost.caller - caller) + (cost.switch - switch);
        row.costs.iter().map(total).collect()
    };
    let mut table = figures::table(&[
        "µs of CPU a call",
        "own processes",
        "own programs",
        "own",
        "own, times",
        "in the caller's",
        "in the switch's",
        "together",
        "least and most",
        "whole machine",
        "together, times",
        "rounds",
    ]);
    let own = |row: &Row| of(row, &|cost| cost.middle + cost.programs);
    let measured = || rows.iter().filter(|row| !row.side.is_floor());
    let sipauth = measured()
        .find(|row| row.side == Side::Sipauth)
        .map_or(f64::NAN, |row| Spread::of(&each(row)).median);
    let sipauth_own = measured()
        .find(|row| row.side == Side::Sipauth)
        .map_or(f64::NAN, |row| own(row).median);
    let mut figures = Vec::new();
    let mut bars = Vec::new();
    for row in measured().filter(|row| !row.costs.is_empty()) {
        let parts = [
            of(row, &|cost| cost.middle).median,
            of(row, &|cost| cost.programs).median,
            of(row, &|cost| cost.caller).median - caller,
            of(row, &|cost| cost.switch).median - switch,
        ];
        let busy = of(row, &|cost| cost.machine).median - machine;
        let together = Spread::of(&each(row));
        let times = together.median / sipauth;
        table.add_row([
            row.side.label().to_owned(),
            format!("{:.1}", parts[0]),
            format!("{:.1}", parts[1]),
            format!("{:.1}", own(row).median),
            format!("{:.1}", own(row).median / sipauth_own),
            format!("{:+.1}", parts[2]),
            format!("{:+.1}", parts[3]),
            format!("{:.1}", together.median),
            format!("{:.1} to {:.1}", together.least, together.most),
            format!("{busy:.1}"),
            format!("{times:.1}"),
            row.costs.len().to_string(),
        ]);
        figures.push(json!({
            "side": row.side.label(), "processes": parts[0], "programs": parts[1], "own": own(row).json(), "caller": parts[2], "switch": parts[3], "together": together.json(),
            "rounds": each(row), "machine": busy, "times_sipauth": times,
        }));
        bars.push(Bar {
            label: row.side.label().to_owned(),
            value: together,
            tone: match row.side {
                Side::Sipauth => Tone::Ours,
                Side::Stateless => Tone::Other,
                _ => Tone::Another,
            },
        });
    }
    figures::show(&mut table);
    save(
        "calls",
        &json!({
            "calls": options.calls, "rounds": options.rounds, "rate": options.rate, "sides": figures,
            "floor": { "caller": caller, "switch": switch, "machine": machine }, "machine": figures::machine(),
        }),
    )?;
    let head = Head {
        title: "CPU time of a call with digest",
        subtitle: &format!(
            "INVITE to BYE, {} calls a second; {}",
            figures::thousands(options.rate.into()),
            figures::machine()
        ),
        axis: "µs of CPU a call, all processes and the kernel's part",
    };
    figures::write("calls.svg", &chart::bars(&head, &[(String::new(), bars)])?)?;
    Ok(())
}
