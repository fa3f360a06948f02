//! `sipauth detach`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{OutputArgs, output, understand, unexpected};
use crate::{
    config::DEFAULT_BPFFS,
    control::{Client, ClientError, Request, Response},
};

/// What to detach.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Directory of the pins, for when no agent runs
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub bpffs: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Detached {
    removed: Vec<String>,
}

/// Through the agent where one runs, which knows its pins and stops; else by the pins alone.
pub(super) fn execute(args: &DetachArgs, socket: &Path) -> anyhow::Result<()> {
    let removed = match Client::connect(socket) {
        Ok(mut client) => match understand(client.call(&Request::Detach)?)? {
            Response::Detached { removed } => removed,
            _ => return Err(unexpected()),
        },
        Err(ClientError::NotRunning { .. }) => crate::agent::detach(&args.bpffs)?,
        Err(error) => return Err(error.into()),
    };
    if args.output.json {
        return output::json(&Detached { removed });
    }
    if removed.is_empty() {
        return output::line("nothing was attached");
    }
    for item in &removed {
        output::line(&format!("removed {item}"))?;
    }
    output::line("nothing is enforced any more: every call reaches the softswitch")
}
