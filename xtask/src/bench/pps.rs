//! Packets per second that are refused, over a virtual link.
//!
//! Each receiver has a lab of its own and stays installed; in each round each has its turn of the same generator, with the same frames from random
//! sources of which none is allowed. Generator and receiver share one processor, so the time of a packet is that of making it, of the
//! link, and of refusing it; it is taken from the processor's clock of the sending thread, so what else the machine does is not in it, nor that
//! the kernel waits at the end of each call. An empty program that drops is the floor, measured in each round as well: what is above it is the price of the filter.
//! That every packet was refused by the thing under test is checked, by the counters of the link and of the thing itself, in every turn.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use sipauth_tests::lab::Lab;

use super::{
    chart::{self, Bar, Head, Tone},
    cpu,
    figures::{self, Spread},
    generator::{self, Generator},
    publish::{goal, publish},
    receivers::{Receiver, Side},
    release_build,
};
use crate::shell::heading;

/// Share of the floor's rate that sipauth is to reach.
const GOAL_RATE: f64 = 0.95;
/// Part of nftables' cost at netdev ingress that sipauth may cost.
const GOAL_COST: f64 = 1.0 / 8.0;

/// How much to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Addresses that are allowed
    #[arg(long, default_value_t = 100_000)]
    allowed: u32,
    /// Rounds; in each, every receiver has its turn
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Milliseconds of a turn
    #[arg(long, default_value_t = 1_000)]
    turn: u64,
    /// Fewer and shorter rounds, with 10,000 addresses
    #[arg(long)]
    short: bool,
    /// Measure this sipauth, instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// One turn of one receiver.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Nanoseconds a packet.
    each: f64,
    /// How busy the generator's processor was, and all together.
    busy: [f64; 2],
}

struct Row<'a> {
    side: Side,
    lab: &'a Lab,
    generator: Generator,
    receiver: Receiver<'a>,
    /// Packets that have arrived and were refused before the next turn: nothing comes between turns.
    counted: [u64; 2],
    turns: Vec<Turn>,
}

pub(super) fn run(options: &Options) -> Result<()> {
    ensure!(options.allowed > 0 && options.rounds > 0, "nothing to measure");
    let (rounds, turn, allowed) = if options.short {
        (3, 300, options.allowed.min(10_000))
    } else {
        (options.rounds, options.turn, options.allowed)
    };
    heading("build");
    let binary = options.binary.clone().map_or_else(release_build, Ok)?;
    let object = generator::build()?;
    let machine = figures::machine();
    let (own, others) = cpu::split()?;
    cpu::pin(&others)?;
    heading(&format!("{allowed} allowed addresses each"));
    let labs: Vec<(Side, Lab)> = Side::ALL.into_iter().map(|side| Ok((side, Lab::new()?))).collect::<Result<_>>()?;
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for (side, lab) in &labs {
        println!("{}", side.label());
        match Receiver::install(lab, *side, allowed, &binary, &object) {
            Ok(receiver) => rows.push(Row {
                side: *side,
                lab,
                generator: Generator::new(lab, &object)?,
                counted: receiver.counts()?,
                receiver,
                turns: Vec::new(),
            }),
            // What this kernel lacks is no reason to measure nothing.
            Err(error) if !matches!(side, Side::Floor | Side::Sipauth) => {
                notes.push(format!("{} is left out: {error:#}", side.label()));
            }
            Err(error) => return Err(error.context(side.label())),
        }
    }
    for round in 1..=rounds {
        heading(&format!("round {round} of {rounds}"));
        for row in &mut rows {
            let turn = row.measure(own, Duration::from_millis(turn))?;
            println!("{:<26} {:.3} Mpps, {:.1} ns a packet", row.side.label(), 1e3 / turn.each, turn.each);
            row.turns.push(turn);
        }
    }
    report(allowed, &machine, &rows, notes)
}

impl Row<'_> {
    fn measure(&mut self, on: usize, time: Duration) -> Result<Turn> {
        let before = self.counted;
        let busy = [cpu::of_processor(on)?, cpu::of_machine()?];
        let sent = self.generator.run(self.lab, on, time, || false)?;
        let busy = [cpu::of_processor(on)? - busy[0], cpu::of_machine()? - busy[1]];
        let after = self.receiver.counts()?;
        self.counted = after;
        generator::check(self.side.label(), sent, after[0] - before[0], after[1] - before[1])?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a turn are far below 2^52")]
        let shares = |elapsed: f64| busy.map(|time| time as f64 / elapsed);
        Ok(Turn {
            each: sent.each,
            busy: shares(sent.elapsed.as_secs_f64() * 1e6),
        })
    }

    /// Of all rounds, a figure of this receiver and the floor in the same round.
    fn against(&self, floor: &Row<'_>, figure: fn(f64, f64) -> f64) -> Spread {
        let rounds = self.turns.iter().zip(&floor.turns);
        Spread::of(&rounds.map(|(turn, floor)| figure(turn.each, floor.each)).collect::<Vec<_>>())
    }

    fn of(&self, figure: impl Fn(&Turn) -> f64) -> Spread {
        Spread::of(&self.turns.iter().map(figure).collect::<Vec<_>>())
    }
}

fn report(allowed: u32, machine: &str, rows: &[Row<'_>], mut notes: Vec<String>) -> Result<()> {
    let find = |side: Side| rows.iter().find(|row| row.side == side);
    let (Some(floor), Some(sipauth)) = (find(Side::Floor), find(Side::Sipauth)) else {
        anyhow::bail!("neither floor nor sipauth was measured");
    };
    let above = |row: &Row<'_>| row.against(floor, |own, floor| own - floor);
    let ratio = |row: &Row<'_>| row.against(floor, |own, floor| floor / own);
    let mut table = figures::table(&[
        "refused packets",
        "Mpps of a core",
        "least and most",
        "ns a packet",
        "ns above the floor",
        "least and most",
        "rate, of the floor's",
        "generator's CPU busy",
        "CPUs busy in all",
    ]);
    let mut sides = Vec::new();
    let mut bars = Vec::new();
    for row in rows {
        let (rate, each) = (row.of(|turn| 1e3 / turn.each), row.of(|turn| turn.each));
        let (above, ratio) = (above(row), ratio(row));
        let busy = [0, 1].map(|which| row.of(|turn| turn.busy[which]).median);
        table.add_row([
            row.side.label().to_owned(),
            format!("{:.3}", rate.median),
            format!("{:.3} to {:.3}", rate.least, rate.most),
            format!("{:.1}", each.median),
            format!("{:.1}", above.median),
            format!("{:.1} to {:.1}", above.least, above.most),
            format!("{:.3}", ratio.median),
            format!("{:.0} %", busy[0] * 100.0),
            format!("{:.2}", busy[1]),
        ]);
        sides.push(json!({
            "side": row.side.label(), "mpps": rate.json(), "ns": each.json(), "ns_above_floor": above.json(), "of_floor": ratio.json(),
            "busy_generator": busy[0], "busy_all": busy[1], "rounds_ns": row.turns.iter().map(|turn| turn.each).collect::<Vec<_>>(),
        }));
        bars.push(Bar {
            label: row.side.label().to_owned(),
            value: rate,
            tone: match row.side {
                Side::Floor => Tone::Floor,
                Side::Sipauth => Tone::Ours,
                Side::XdpFilter => Tone::Another,
                Side::NftIngress | Side::NftRaw | Side::Ipset => Tone::Other,
            },
        });
    }
    let reached = ratio(sipauth).median;
    notes.push(goal(
        &format!("sipauth at {reached:.3} of the rate of an empty program, {GOAL_RATE} at least"),
        reached >= GOAL_RATE,
    ));
    if let Some(nft) = find(Side::NftIngress) {
        let part = above(sipauth).median / above(nft).median;
        notes.push(goal(
            &format!("above the floor, sipauth costs {part:.3} of what nftables costs at netdev ingress, {GOAL_COST} at most"),
            part <= GOAL_COST,
        ));
    }
    let addresses = figures::thousands(u64::from(allowed));
    let percent = reached * 100.0;
    let chart = chart::bars(
        &Head {
            title: &format!("sipauth refuses packets at {percent:.0} % of an empty program's rate"),
            subtitle: &format!("{addresses} addresses allowed, random sources, over veth; {machine}"),
            axis: "million packets a second of a core, each of 400 bytes, all refused",
        },
        &[(String::new(), bars)],
    )?;
    let figures = json!({
        "allowed": allowed, "bytes": generator::LENGTH, "rounds": sipauth.turns.len(), "sides": sides, "notes": notes,
    });
    publish("pps", &mut table, &notes, &chart, &figures)
}
