//! Nanoseconds a packet, of sipauth and of xdp-filter: tables, charts and the goals. How it is measured is in `tests/benches/xdp/main.rs`.

mod figures;

use std::{env::consts::ARCH, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::figures::{FAMILIES, Figures, Goal, OWN, REFUSED, THEIRS};
use super::{
    chart::{self, Bar, Head, Line, Tone},
    figures::{machine, markdown, show, table, thousands, write},
    save,
};
use crate::{setup::compiler, shell, toolchain};

/// How much to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Numbers of gateways
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 100_000, 1_000_000])]
    gateways: Vec<u64>,
    /// Rounds; in each, every program has its turn in every case
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Packets of a turn
    #[arg(long, default_value_t = 250_000)]
    packets: u32,
    /// Half a minute for a first look: 10 and 100,000 gateways, two rounds
    #[arg(long, conflicts_with_all = ["gateways", "rounds", "packets"])]
    short: bool,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let (gateways, rounds, packets) = if options.short {
        (vec![10, 100_000], 2, 100_000)
    } else {
        (options.gateways.clone(), options.rounds, options.packets)
    };
    ensure!(
        rounds > 0 && packets >= 8 && !gateways.is_empty() && gateways.iter().all(|&gateways| gateways >= 5),
        "one round and a few packets at least, and 5 gateways"
    );
    let plan = json!({ "harness": harness()?, "filter": filter()?, "gateways": gateways, "rounds": rounds, "packets": packets });
    // Only the maps are filled by what is compiled here; the kernel programs are always optimised.
    let mut bench = shell::cargo();
    bench.args([
        "bench",
        "--quiet",
        "--profile",
        "dev",
        "--package",
        "sipauth-tests",
        "--bench",
        "xdp",
        "--",
    ]);
    let output = bench
        .arg(plan.to_string())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo bench")?;
    ensure!(output.status.success(), "the measurement failed, see above");
    let turns: Value = serde_json::from_slice(&output.stdout).context("the measurement's figures")?;
    report(&Figures::new(&turns, gateways)?, turns)
}

/// Builds the programs that measure.
fn harness() -> Result<PathBuf> {
    let mut build = compiler::find()?.cargo("build", &shell::root());
    build.arg("--quiet");
    shell::run(&mut build)?;
    Ok(toolchain::object_path(&shell::root()).with_file_name("harness"))
}

/// The object of xdp-filter that refuses whom it does not know, by address alone.
fn filter() -> Result<PathBuf> {
    [
        format!("/usr/lib/{ARCH}-linux-gnu/bpf"),
        "/usr/lib/bpf".to_owned(),
        "/usr/lib64/bpf".to_owned(),
    ]
    .into_iter()
    .map(|directory| PathBuf::from(directory).join("xdpfilt_dny_ip.o"))
    .find(|object| object.exists())
    .context("xdp-filter's object xdpfilt_dny_ip.o is in none of its directories (package xdp-tools)")
}

fn report(figures: &Figures, turns: Value) -> Result<()> {
    let machine = machine();
    let mut page = format!("{machine}\n");
    for family in FAMILIES {
        let (empty, parse) = figures.floor(family);
        let sentence = format!(
            "{family}: harness and a program that does nothing {:.1} ns, with parsing to the SIP port {:.1} ns; the table is nanoseconds above that, the median of \
             {} rounds (least to most).",
            empty.median, parse.median, figures.rounds
        );
        let columns: Vec<String> = figures.gateways.iter().map(|&gateways| thousands(gateways)).collect();
        let header: Vec<&str> = ["case", "program"].into_iter().chain(columns.iter().map(String::as_str)).collect();
        let mut table = table(&header);
        for case in &figures.cases {
            for program in [OWN, THEIRS] {
                let cells: Vec<String> = figures
                    .gateways
                    .iter()
                    .filter_map(|&gateways| figures.above(family, gateways, case, program))
                    .map(|spread| format!("{:.1} ({:.1} to {:.1})", spread.median, spread.least, spread.most))
                    .collect();
                if cells.len() == columns.len() {
                    table.add_row([case.clone(), program.to_owned()].into_iter().chain(cells));
                }
            }
        }
        println!("\n{sentence}");
        show(&mut table);
        page += &format!("\n{sentence}\n\n{}", markdown(&mut table));
    }
    let goals = figures.goals();
    let mut table = table(&["goal", "family", "ratio", "at most", ""]);
    for Goal { what, family, ratio, most } in &goals {
        let verdict = if ratio <= most { "met" } else { "missed" };
        table.add_row([
            what.clone(),
            (*family).to_owned(),
            format!("{ratio:.2}"),
            format!("{most}"),
            verdict.to_owned(),
        ]);
    }
    show(&mut table);
    page += &format!("\n{}", markdown(&mut table));
    write("xdp.md", &page)?;
    let goals: Vec<Value> = goals.iter().map(Goal::json).collect();
    save("xdp", &json!({ "machine": machine, "goals": goals, "measured": turns }))?;
    write("xdp-refused.svg", &refused(figures, &machine)?)?;
    write("xdp-cases.svg", &cases(figures, &machine)?)?;
    Ok(())
}

/// What a stranger costs, by number of gateways.
fn refused(figures: &Figures, machine: &str) -> Result<String> {
    let line = |family: &str, program: &str, tone| {
        let values = figures
            .gateways
            .iter()
            .filter_map(|&gateways| figures.above(family, gateways, REFUSED, program));
        Line {
            label: format!("{program}, {family}"),
            values: values.collect(),
            tone,
        }
    };
    let head = Head {
        title: "Refusing a packet from a random source",
        subtitle: &format!("Thin lines: least and most of {} rounds; {machine}", figures.rounds),
        axis: "ns a packet above parsing",
    };
    let places: Vec<String> = figures.gateways.iter().map(|&gateways| thousands(gateways)).collect();
    let lines = [
        line("IPv4", OWN, Tone::Ours),
        line("IPv6", OWN, Tone::Ours),
        line("IPv4", THEIRS, Tone::Other),
        line("IPv6", THEIRS, Tone::Other),
    ];
    chart::lines(&head, "gateways", &places, &lines)
}

/// All cases with one number of gateways.
fn cases(figures: &Figures, machine: &str) -> Result<String> {
    let gateways = figures.large();
    let groups: Vec<(String, Vec<Bar>)> = figures
        .cases
        .iter()
        .map(|case| {
            let bars = [(OWN, Tone::Ours), (THEIRS, Tone::Other)]
                .into_iter()
                .filter_map(|(program, tone)| {
                    Some(Bar {
                        label: program.to_owned(),
                        value: figures.above("IPv4", gateways, case, program)?,
                        tone,
                    })
                })
                .collect();
            (case.clone(), bars)
        })
        .collect();
    let head = Head {
        title: &format!("What a packet costs with {} gateways", thousands(gateways)),
        subtitle: &format!("IPv4; {machine}"),
        axis: "ns a packet above parsing",
    };
    chart::bars(&head, &groups)
}
