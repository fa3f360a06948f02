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
//! The last two can be below zero by some microseconds of noise, or since a busier machine wakes SIPp less often. As a check, the
//! busy time of the whole machine is given too, less that of calls which SIPp itself challenges; that is right only where nothing
//! else runs, and on kernels that account for interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING`) it is the figure to look at.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use sipauth_tests::lab::{Host, Lab};

use super::{
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
                "{:<20} {calls} calls, µs a call: between {:.1}, caller {:.1}, answering {:.1}, whole machine {:.1}",
                row.side.label(),
                cost.middle,
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
    let floor = |side: Side, part: fn(&Cost) -> f64| {
        let row = rows.iter().find(|row| row.side == side);
        median(row.into_iter().flat_map(|row| row.costs.iter().map(part)))
    };
    let (caller, switch) = (floor(Side::Digest, |cost| cost.caller), floor(Side::Plain, |cost| cost.switch));
    let machine = floor(Side::Digest, |cost| cost.machine);
    let total = |cost: &Cost| cost.middle + (cost.caller - caller) + (cost.switch - switch);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "µs of CPU a call",
        "own processes",
        "in the caller's",
        "in the switch's",
        "together",
        "least and most",
        "whole machine",
        "times sipauth",
        "rounds",
    ]);
    let measured = || rows.iter().filter(|row| !row.side.is_floor());
    let of = |row: &Row| median(row.costs.iter().map(total));
    let sipauth = measured().find(|row| row.side == Side::Sipauth).map_or(f64::NAN, of);
    let mut figures = Vec::new();
    for row in measured().filter(|row| !row.costs.is_empty()) {
        let each: Vec<f64> = row.costs.iter().map(total).collect();
        let (least, most) = each.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &one| {
            (least.min(one), most.max(one))
        });
        let part = |part: fn(&Cost) -> f64| median(row.costs.iter().map(part));
        let parts = [
            part(|cost| cost.middle),
            part(|cost| cost.caller) - caller,
            part(|cost| cost.switch) - switch,
        ];
        let busy = part(|cost| cost.machine) - machine;
        table.add_row([
            row.side.label().to_owned(),
            format!("{:.1}", parts[0]),
            format!("{:+.1}", parts[1]),
            format!("{:+.1}", parts[2]),
            format!("{:.1}", of(row)),
            format!("{least:.1} to {most:.1}"),
            format!("{busy:.1}"),
            format!("{:.1}", of(row) / sipauth),
            row.costs.len().to_string(),
        ]);
        figures.push(json!({
            "side": row.side.label(), "own": parts[0], "caller": parts[1], "switch": parts[2], "together": of(row), "rounds": each,
            "machine": busy, "times_sipauth": of(row) / sipauth,
        }));
    }
    for column in 1..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("\n{table}");
    let path = save(
        "calls",
        &json!({
            "calls": options.calls, "rounds": options.rounds, "rate": options.rate, "sides": figures,
            "floor": { "caller": caller, "switch": switch, "machine": machine },
        }),
    )?;
    println!("{}", path.display());
    Ok(())
}

/// Not a number for none.
fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    match all.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => all[n / 2],
        n => f64::midpoint(all[n / 2 - 1], all[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert!((median([5.0, 1.0, 3.0].into_iter()) - 3.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 3.0, 2.0].into_iter()) - 2.5).abs() < 1e-9);
        assert!(median(std::iter::empty()).is_nan());
    }
}
