//! `sipauth apply` and `sipauth export`: all gateways as a file.

mod difference;
mod file;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Many, OutputArgs, ask, output, understand, unexpected};
use crate::{
    control::{ApplyReport, Client, Request, Response},
    gateway::RawGateway,
};

/// A list of gateways to bring the agent to.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// File of gateways (TOML, a table `[[gateway]]` each); - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// What to do with the list.
    #[command(flatten)]
    pub bring: BringArgs,
}

/// How to bring the agent to a list of gateways.
#[derive(Debug, Args)]
pub struct BringArgs {
    /// Remove gateways that are not in the file
    #[arg(long)]
    pub prune: bool,
    /// Show the difference, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How to print the gateways.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Leave the credentials out; where the gateways are there already, `apply` keeps those
    #[arg(long)]
    pub without_credentials: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn execute(args: &ApplyArgs, socket: &Path) -> anyhow::Result<()> {
    bring(file::read(&args.file)?, &args.bring, socket)
}

/// Shows the difference to this list, and carries it out unless it is a dry run.
pub(super) fn bring(gateways: Vec<RawGateway>, how: &BringArgs, socket: &Path) -> anyhow::Result<()> {
    /// To compare a longer list twice takes longer than anybody waits to see the difference first.
    const SHOWN_BEFORE: usize = 20_000;
    let BringArgs { prune, dry_run, output } = *how;
    if gateways.len() > SHOWN_BEFORE && !dry_run {
        let applied = ask_to_apply(gateways, prune, false, socket)?;
        if output.json {
            return output::json(&applied);
        }
        difference::print(&applied)?;
        return output::line(&format!("applied: {}", difference::summary(&applied)));
    }
    let planned = ask_to_apply(gateways.clone(), prune, true, socket)?;
    if !output.json {
        difference::print(&planned)?;
    }
    if dry_run {
        if output.json {
            return output::json(&planned);
        }
        return output::line(&format!("{}; nothing was changed yet", difference::summary(&planned)));
    }
    let applied = ask_to_apply(gateways, prune, false, socket)?;
    if output.json {
        return output::json(&applied);
    }
    output::line(&format!("applied: {}", difference::summary(&applied)))
}

fn ask_to_apply(gateways: Vec<RawGateway>, prune: bool, dry_run: bool, socket: &Path) -> anyhow::Result<ApplyReport> {
    let mut client = Client::connect(socket)?;
    client.send(&Request::Apply { gateways, prune, dry_run })?;
    // The list is freed while the agent works on it.
    match understand(client.answer()?)? {
        Response::Applied(report) => Ok(report),
        _ => Err(unexpected()),
    }
}

pub(super) fn export(args: &ExportArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Exported { mut gateways, names } = ask(socket, &Request::Export)? else {
        return Err(unexpected());
    };
    if args.without_credentials {
        gateways.iter_mut().for_each(|gateway| gateway.credentials = None);
    } else if gateways.iter().any(|gateway| gateway.credentials.is_some()) {
        output::note("the credentials are as secret as the passwords; --without-credentials leaves them out");
    }
    if args.output.json {
        return output::json(&gateways);
    }
    for name in &names {
        output::line(&format!("# {} is {} now", name.name, output::list(&name.addresses)))?;
    }
    output::line(file::write(&gateways)?.trim_end())
}
