//! `cargo xtask test`: the rings, cheapest first.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};

use crate::{
    package,
    report::{Counts, Reader},
    setup::{self, Purpose},
    shell::{self, heading, is_root},
    vm,
};

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Run these rings only
    #[arg(value_enum)]
    rings: Vec<Ring>,
    /// Fail where a test cannot run; the default under CI
    #[arg(long)]
    no_skip: bool,
}

/// A set of tests with the same needs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ring {
    /// Unit and documentation tests; no privileges
    Host,
    /// Names, types and sizes in the built object; no privileges
    Object,
    /// The programs in this machine's kernel; root
    Kernel,
    /// Real SIP peers in network namespaces; root
    Lab,
    /// The Debian package in a clean system that boots in the lab; root
    Package,
    /// The programs in the distribution's 6.1 kernel; not in the default set
    Vm,
}

impl Ring {
    fn title(self) -> &'static str {
        match self {
            Self::Host => "host: unit and documentation tests",
            Self::Object => "object: the built kernel program",
            Self::Kernel => "kernel: the programs in this kernel, packet by packet",
            Self::Lab => "lab: real SIP peers in network namespaces",
            Self::Package => "package: installed, run, upgraded and removed in a clean system",
            Self::Vm => "vm: the programs in the distribution's 6.1 kernel",
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Kernel => Purpose::Lab,
            Self::Lab => Purpose::Peers,
            Self::Package => Purpose::Package,
            Self::Host | Self::Object | Self::Vm => Purpose::Build,
        }
    }

    /// Every call names the whole workspace: the features, and so the compiled crates, are the same for all rings.
    fn commands(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Host => &[
                &["--workspace", "--lib", "--bins", "--", "--show-output"],
                &["--workspace", "--doc"],
            ],
            Self::Object => &[&["--workspace", "--test", "object", "--", "--show-output"]],
            Self::Kernel => &[&["--workspace", "--test", "kernel", "--test", "egress", "--", "--show-output"]],
            Self::Lab => &[&["--workspace", "--test", "lab", "--", "--show-output", "--test-threads=1"]],
            Self::Package => &[&["--workspace", "--test", "package", "--", "--show-output", "--test-threads=1"]],
            Self::Vm => &[],
        }
    }
}

/// Runs the rings that `options` name, and prints a summary; the error is that something failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let no_skip = options.no_skip || is_ci();
    let rings = if options.rings.is_empty() {
        &[Ring::Host, Ring::Object, Ring::Kernel, Ring::Lab, Ring::Package]
    } else {
        options.rings.as_slice()
    };
    let purpose = rings.iter().map(|ring| ring.purpose()).max();
    setup::ensure_unprivileged(purpose.unwrap_or(Purpose::Build))?;

    heading("build");
    build_all()?;

    let mut results = Vec::new();
    for &ring in rings {
        heading(ring.title());
        let start = Instant::now();
        let counts = run_ring(ring, no_skip).unwrap_or_else(|error| {
            println!("error: {error:#}");
            Counts {
                failed: 1,
                ..Counts::default()
            }
        });
        results.push((ring, counts, start.elapsed()));
    }
    summarise(&results, no_skip)
}

/// Under CI a test that cannot run is a failure.
pub(crate) fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Builds what any ring needs: all of it, at once, with one set of features.
pub(crate) fn build_all() -> Result<()> {
    shell::run(shell::cargo().args(["build", "--workspace", "--all-targets"]))
}

fn run_ring(ring: Ring, no_skip: bool) -> Result<Counts> {
    if ring == Ring::Vm {
        return vm::boot_and_test(&vm::Options::default());
    }
    if ring.purpose() >= Purpose::Lab && !is_root() {
        println!("SKIP {}: needs root", ring.name());
        return Ok(Counts {
            skipped: 1,
            ..Counts::default()
        });
    }
    let environment = if ring == Ring::Package {
        package::environment()?
    } else {
        Vec::new()
    };
    let mut total = Counts::default();
    for arguments in ring.commands() {
        let mut reader = Reader::new(ring != Ring::Host);
        let mut cargo = shell::cargo();
        cargo.args(["test", "--no-fail-fast"]).args(*arguments);
        cargo.env("SIPAUTH_BIN", shell::target_dir().join("debug/sipauth"));
        cargo.envs(environment.iter().map(|(key, value)| (key, value)));
        if no_skip {
            cargo.env("SIPAUTH_REQUIRE_PRIVILEGES", "1");
        }
        let success = shell::run_lines(&mut cargo, |line| {
            if let Some(shown) = reader.line(line) {
                println!("{shown}");
            }
            Ok(())
        })?;
        let mut counts = reader.counts();
        if !success && counts.failed == 0 {
            println!("error: {} failed before it could count", shell::show(&cargo));
            counts.failed = 1;
        }
        total += counts;
    }
    Ok(total)
}

fn summarise(results: &[(Ring, Counts, Duration)], no_skip: bool) -> Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["ring", "passed", "failed", "skipped", "time"]);
    let mut total = Counts::default();
    let mut empty = Vec::new();
    for (ring, counts, time) in results {
        table.add_row([
            ring.name(),
            counts.passed.to_string(),
            counts.failed.to_string(),
            counts.skipped.to_string(),
            format!("{:.1} s", time.as_secs_f64()),
        ]);
        if *counts == Counts::default() {
            empty.push(ring.name());
        }
        total += *counts;
    }
    println!(
        "\n{table}\n{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    if !empty.is_empty() {
        bail!("no tests were found in: {}", empty.join(", "));
    }
    if no_skip && total.skipped > 0 {
        bail!("{} tests were skipped, and skipping is not allowed here", total.skipped);
    }
    Ok(())
}
