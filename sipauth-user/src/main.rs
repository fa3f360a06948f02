//! The binary: logging to stderr, then the command line.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

/// netlink-packet-route warns of attributes that a newer kernel has; these are none of ours.
const FILTER: &str = "info,netlink_packet_route=error";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    sipauth_user::cli::main()
}
