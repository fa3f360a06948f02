//! Many gateways: how long it takes to load them and to change one, and what memory they take.
//!
//! A file of gateways in mode `ip`, of one address each, is applied to a running agent with an empty store; then one more is added, set to another address
//! and removed, each some times; then the agent is stopped and started again with the full store. Times are those of the commands, their own
//! start included, and a command returns when the kernel enforces; a start takes until the agent says that it is ready. A size that cannot be had is
//! shown as such.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;
use sipauth_tests::{agent::Agent, lab::Lab};

use super::{
    addresses,
    chart::{self, Head, Line, Tone},
    figures::{self, Spread},
    memory,
    publish::{goal, publish},
    release_build,
};
use crate::shell::heading;

/// The largest size, and what is to hold for it: seconds to load, bytes in the kernel.
const GOAL_SIZE: u32 = 1_000_000;
const GOAL_LOAD: f64 = 10.0;
const GOAL_MEMORY: f64 = 300e6;
/// How often one gateway is changed in a round.
const CHANGES: u32 = 5;
/// For the agent to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// How many gateways; several for several sizes
    #[arg(long, default_values_t = [10_000, 100_000, GOAL_SIZE])]
    gateways: Vec<u32>,
    /// Rounds; in each, every size has its turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// One round without the largest size
    #[arg(long)]
    short: bool,
    /// Measure this sipauth, instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What one size took in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    /// Seconds.
    load: f64,
    restart: f64,
    /// Milliseconds.
    add: f64,
    set: f64,
    remove: f64,
    /// Bytes.
    kernel: f64,
    resident: f64,
    peak: f64,
}

struct Row {
    gateways: u32,
    rounds: Vec<Took>,
    /// Why there are no more.
    failed: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.rounds > 0 && options.gateways.iter().all(|&size| size > 0),
        "nothing to measure"
    );
    let rounds = if options.short { 1 } else { options.rounds };
    heading("build");
    let binary = options.binary.clone().map_or_else(release_build, Ok)?;
    let lab = Lab::new()?;
    let mut rows: Vec<Row> = options
        .gateways
        .iter()
        .filter(|&&size| !options.short || size < GOAL_SIZE)
        .map(|&gateways| Row {
            gateways,
            rounds: Vec::new(),
            failed: None,
        })
        .collect();
    for round in 1..=rounds {
        heading(&format!("round {round} of {rounds}"));
        for row in rows.iter_mut().filter(|row| row.failed.is_none()) {
            let name = figures::thousands(u64::from(row.gateways));
            match measure(&lab, &binary, row.gateways) {
                Ok(took) => {
                    println!(
                        "{name:>9} gateways: loaded in {:.2} s, started in {:.2} s, one added in {:.1} ms; {:.0} MB in the kernel, {:.0} MB of the agent",
                        took.load,
                        took.restart,
                        took.add,
                        took.kernel / 1e6,
                        took.resident / 1e6
                    );
                    row.rounds.push(took);
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    println!("{name:>9} gateways: {text}");
                    row.failed = Some(text.lines().next().unwrap_or_default().chars().take(160).collect());
                }
            }
        }
    }
    report(&rows)
}

fn measure(lab: &Lab, binary: &PathBuf, gateways: u32) -> Result<Took> {
    let mut agent = Agent::prepare(lab, &[])?.with_binary(binary.to_owned()).patient(PATIENCE);
    let state = agent.state().to_owned();
    let took = with(lab, &mut agent, gateways);
    drop(agent);
    // The next one needs the room.
    fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
    took
}

fn with(lab: &Lab, agent: &mut Agent<'_>, gateways: u32) -> Result<Took> {
    agent.restart()?;
    let file = agent.state().join("gateways.toml");
    addresses::write_gateways(&file, gateways)?;
    let load = timed(agent, &["apply", "-f", &file.display().to_string()])?;
    // A command that says yes and does nothing must not be the fastest.
    let (last, other) = (
        addresses::allowed(gateways - 1).to_string(),
        addresses::allowed(gateways).to_string(),
    );
    ensure!(
        admitted(agent, &last)? && !admitted(agent, &other)?,
        "the gateways are not enforced"
    );
    let mut took = Took {
        load: load.as_secs_f64(),
        kernel: number(memory::of_maps(lab, agent.bpffs())?),
        ..changes(agent, gateways)?
    };
    let [resident, peak] = memory::of_process(agent.pid().context("the agent does not run")?)?;
    (took.resident, took.peak) = (number(resident), number(peak));
    agent.stop()?;
    took.restart = agent.restart()?.as_secs_f64();
    ensure!(admitted(agent, &last)?, "the gateways are not enforced after a start");
    Ok(took)
}

/// One gateway more, and no more.
fn changes(agent: &Agent<'_>, gateways: u32) -> Result<Took> {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for turn in 0..CHANGES {
        let [first, second] = [0, 1].map(|which| addresses::allowed(gateways + 2 * turn + which).to_string());
        let commands: [&[&str]; 3] = [
            &["gateway", "add", "one", "--mode", "ip", "--address", &first],
            &["gateway", "set", "one", "--address", &second],
            &["gateway", "remove", "one"],
        ];
        for (command, times) in commands.iter().zip(&mut times) {
            times.push(timed(agent, command)?.as_secs_f64() * 1e3);
        }
    }
    let [add, set, remove] = times.map(|times| Spread::of(&times).median);
    Ok(Took {
        add,
        set,
        remove,
        ..Took::default()
    })
}

/// A command that must succeed.
fn timed(agent: &Agent<'_>, command: &[&str]) -> Result<Duration> {
    let begin = Instant::now();
    let answer = agent.cli(command)?;
    let elapsed = begin.elapsed();
    ensure!(answer.code == 0, "sipauth {}: {}", command[0], answer.stderr.trim());
    Ok(elapsed)
}

/// By what the kernel would do with a packet from there.
fn admitted(agent: &Agent<'_>, address: &str) -> Result<bool> {
    Ok(agent.explain(&[&format!("{address}:5060")])?.1 == "ip_match")
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^52")]
const fn number(bytes: u64) -> f64 {
    bytes as f64
}

fn report(rows: &[Row]) -> Result<()> {
    let mut table = figures::table(&[
        "gateways",
        "loaded, s",
        "least and most",
        "restart, s",
        "add one, ms",
        "set one, ms",
        "remove one, ms",
        "kernel memory, MB",
        "agent, MB",
        "agent at most, MB",
    ]);
    let (mut sizes, mut notes) = (Vec::new(), Vec::new());
    let (mut places, mut loads, mut restarts) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let of = |figure: fn(&Took) -> f64| Spread::of(&row.rounds.iter().map(figure).collect::<Vec<_>>());
        let name = figures::thousands(u64::from(row.gateways));
        if let Some(why) = &row.failed {
            notes.push(format!("{name} gateways failed: {why}."));
        }
        let (load, restart) = (of(|took| took.load), of(|took| took.restart));
        let changes = [of(|took| took.add), of(|took| took.set), of(|took| took.remove)];
        let memory = [of(|took| took.kernel), of(|took| took.resident), of(|took| took.peak)];
        sizes.push(json!({
            "gateways": row.gateways, "rounds": row.rounds.len(), "failed": row.failed, "load_s": load.json(), "restart_s": restart.json(),
            "change_ms": changes.map(|change| change.json()), "kernel_bytes": memory[0].json(), "agent_bytes": memory[1].json(),
            "agent_peak_bytes": memory[2].json(),
        }));
        if row.rounds.is_empty() {
            table.add_row(std::iter::once(name.clone()).chain(std::iter::repeat_n("failed".to_owned(), 9)));
        } else {
            table.add_row([
                name.clone(),
                format!("{:.2}", load.median),
                format!("{:.2} to {:.2}", load.least, load.most),
                format!("{:.2}", restart.median),
                format!("{:.1}", changes[0].median),
                format!("{:.1}", changes[1].median),
                format!("{:.1}", changes[2].median),
                format!("{:.0}", memory[0].median / 1e6),
                format!("{:.0}", memory[1].median / 1e6),
                format!("{:.0}", memory[2].median / 1e6),
            ]);
            places.push(name.clone());
            loads.push(load);
            restarts.push(restart);
        }
        if row.gateways == GOAL_SIZE {
            let met = row.failed.is_none() && load.median < GOAL_LOAD && memory[0].median < GOAL_MEMORY;
            let figures = if row.rounds.is_empty() {
                "not loaded".to_owned()
            } else {
                format!("loaded in {:.1} s with {:.0} MB in the kernel", load.median, memory[0].median / 1e6)
            };
            notes.push(goal(
                &format!("{name} gateways {figures}, below {GOAL_LOAD} s and {:.0} MB", GOAL_MEMORY / 1e6),
                met,
            ));
        }
    }
    let title = match (places.last(), loads.last()) {
        (Some(most), Some(slowest)) => format!("{most} gateways are enforced after {:.1} s", slowest.median),
        _ => "No size could be had".to_owned(),
    };
    let line = |label: &str, values, tone| Line {
        label: label.to_owned(),
        values,
        tone,
    };
    let chart = chart::lines(
        &Head {
            title: &title,
            subtitle: &format!("one address each, from a file; {}", figures::machine()),
            axis: "seconds",
        },
        "gateways",
        &places,
        &[line("applied", loads, Tone::Ours), line("started", restarts, Tone::Another)],
    )?;
    publish("scale", &mut table, &notes, &chart, &json!({ "sizes": sizes, "notes": notes }))
}
