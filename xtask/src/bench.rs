//! `cargo xtask bench`: measurements, each with its method in its own file, and its figures as a table, as JSON
//! and as a chart in `target/bench`.

mod addresses;
mod calls;
mod chart;
mod cpu;
mod delays;
mod figures;
mod flood;
mod generator;
mod memory;
mod pps;
mod publish;
mod receivers;
mod scale;
mod sides;
mod xdp;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::shell;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum What {
    /// CPU time of a call with digest, beside Kamailio doing the same
    Calls(calls::Options),
    /// Nanoseconds a packet in XDP, beside xdp-filter, with up to a million gateways
    Xdp(xdp::Options),
    /// Packets per second that are refused, beside an empty program, xdp-filter, nftables and ipset
    Pps(pps::Options),
    /// Calls and their delays with and without a flood, beside nftables and Kamailio
    Flood(flood::Options),
    /// Time and memory of 10,000, 100,000 and 1,000,000 gateways
    Scale(scale::Options),
}

/// Measures.
///
/// # Errors
/// When not root, or something cannot be built or started.
pub(crate) fn run(what: &What) -> Result<()> {
    ensure!(shell::is_root(), "measurements run in network namespaces: run this as root");
    sipauth_tests::cleanup::on_ctrl_c()?;
    match what {
        What::Calls(options) => calls::run(options),
        What::Xdp(options) => xdp::run(options),
        What::Pps(options) => pps::run(options),
        What::Flood(options) => flood::run(options),
        What::Scale(options) => scale::run(options),
    }
}

/// Builds the agent as it is deployed.
fn release_build() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--release", "--package", "sipauth-user", "--bin", "sipauth"]))?;
    Ok(shell::target_dir().join("release/sipauth"))
}

/// Writes the figures of a measurement.
fn save(name: &str, figures: &serde_json::Value) -> Result<PathBuf> {
    figures::write(&format!("{name}.json"), &format!("{figures:#}\n"))
}
