//! `cargo xtask fuzz`: the fuzz targets of tests/fuzz, one after the other. Each starts from the committed corpus (tests/corpus), and keeps
//! what it finds under the target directory, so that the next run goes on from there.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    setup::{self, Purpose, compiler},
    shell::{self, heading, root},
    toolchain,
};

/// Longest input of a target; that of streams must reach beyond the longest head.
const LENGTH: u32 = 2_048;
const STREAM_LENGTH: u32 = 20_000;

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// These targets only
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// Time for each target
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u32,
    /// Afterwards add to the committed corpus what covers more than it does
    #[arg(long)]
    merge: bool,
}

/// A program in tests/fuzz/fuzz_targets.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A datagram through the parser, and the answer to it
    Message,
    /// A header value
    Header,
    /// Datagrams and credentials through the whole authenticator
    Credentials,
    /// A byte stream, cut into messages
    Stream,
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    const fn length(self) -> u32 {
        match self {
            Self::Stream => STREAM_LENGTH,
            Self::Message | Self::Header | Self::Credentials => LENGTH,
        }
    }
}

/// Fuzzes; the error is that a target found something.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(Purpose::Lint)?;
    compiler::ensure_cargo_fuzz()?;
    let targets = if options.targets.is_empty() {
        Target::value_variants()
    } else {
        options.targets.as_slice()
    };
    let mut found = Vec::new();
    for &target in targets {
        heading(&format!("{}: {} s", target.name(), options.seconds));
        let ended = fuzz(target, &[format!("-max_total_time={}", options.seconds)], false);
        if let Err(error) = ended {
            println!("error: {error:#}");
            found.push(target.name());
        } else if options.merge {
            // The fewest inputs that reach the same code: the corpus is replayed by every run of the host tests.
            let flags = ["-set_cover_merge=1", "-use_counters=0"].map(str::to_owned);
            fuzz(target, &flags, true)?;
        }
    }
    if !found.is_empty() {
        bail!(
            "found by {}: mend it, and put the input (in {}) into tests/corpus/TARGET",
            found.join(", "),
            directory("artifacts").display()
        );
    }
    Ok(())
}

/// Runs a target over its two corpora. `to_committed`: the committed one takes in what is new in the other, else the other way round.
fn fuzz(target: Target, flags: &[String], to_committed: bool) -> Result<()> {
    let name = target.name();
    let (own, artifacts) = (directory("corpus").join(&name), directory("artifacts").join(&name));
    let committed = root().join("tests/corpus").join(&name);
    for directory in [&own, &artifacts, &committed] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = cargo_fuzz()?;
    command.arg(&name);
    // The first directory is the one that is written to.
    command.args(if to_committed { [&committed, &own] } else { [&own, &committed] });
    command
        .arg("--")
        .arg(format!("-dict={}", root().join("tests/fuzz/sip.dict").display()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_len={}", target.length()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .args(flags);
    shell::run(&mut command)
}

/// `cargo fuzz` with the nightly that builds the kernel program.
fn cargo_fuzz() -> Result<Command> {
    let mut command = Command::new("rustup");
    command
        .args(["run", &compiler::find_nightly()?, "cargo", "fuzz", "run"])
        .arg("--fuzz-dir")
        .arg("tests/fuzz")
        .arg("--target-dir")
        .arg(directory("build"))
        .current_dir(root())
        .env("PATH", toolchain::path_with_cargo_bin());
    // The outer cargo is another toolchain's.
    for key in ["CARGO", "CARGO_TARGET_DIR", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(key);
    }
    Ok(command)
}

fn directory(name: &str) -> PathBuf {
    shell::target_dir().join("fuzz").join(name)
}
