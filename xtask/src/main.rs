//! The project's tasks. A developer and CI run the same commands: `cargo xtask setup | build | demo | dist | fuzz | lint | test |
//! test-vm | bench`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod demo;
mod dist;
mod fuzz;
mod lint;
mod object;
mod package;
mod report;
mod setup;
mod shell;
mod test;
#[allow(dead_code, reason = "shared with sipauth-user/build.rs, which uses the rest")]
mod toolchain;
mod vm;

/// Tasks of the sipauth project. Each sets up what it needs first.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find what is missing to build, run and test sipauth, and install it
    Setup,
    /// Build the kernel program, the agent and the command line
    Build {
        /// Optimised, as it is deployed
        #[arg(long)]
        release: bool,
    },
    /// Measure (needs root)
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Show calls in every mode in a lab of network namespaces (needs root)
    Demo {
        /// Leave the lab up, and print commands to try
        #[arg(long)]
        keep: bool,
    },
    /// Build the Debian package
    Dist {
        /// Without optimisation, for a try
        #[arg(long)]
        debug: bool,
    },
    /// Fuzz what reads a peer's bytes
    Fuzz(fuzz::Options),
    /// Check formatting, lints and the built object
    Lint,
    /// Run the tests, cheapest ring first
    Test(test::Options),
    /// Run the kernel tests on the distribution's 6.1 kernel, in a virtual machine
    TestVm(vm::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Build { release } => build::run(release),
        Task::Bench { what } => setup::ensure(setup::Purpose::Peers).and_then(|()| bench::run(&what)),
        Task::Demo { keep } => setup::ensure(setup::Purpose::Lab).and_then(|()| demo::run(keep)),
        Task::Dist { debug } => dist::run(debug),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Lint => lint::run(),
        Task::Test(options) => test::run(&options),
        Task::TestVm(options) => vm::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
