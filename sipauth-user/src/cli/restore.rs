//! `sipauth restore`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{OutputArgs, output};
use crate::{
    config::DEFAULT_STATE_DIR,
    control::{Client, ClientError},
    store,
};

/// What to restore.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The copy to take [default: the newest in the state directory that is whole]
    pub copy: Option<PathBuf>,
    /// Directory of the gateway database
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    from: &'a Path,
    age: u64,
    gateways: u64,
    kept: Option<&'a Path>,
}

pub(super) fn execute(args: &RestoreArgs, socket: &Path) -> anyhow::Result<()> {
    match Client::connect(socket) {
        Err(ClientError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => anyhow::bail!(
            "the agent runs; stop it first (`systemctl stop sipauth`, where it is a service): what is attached goes on enforcing meanwhile"
        ),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let restored = runtime.block_on(store::restore(&args.state_dir, args.copy.as_deref()))?;
    if args.output.json {
        return output::json(&Report {
            from: &restored.from,
            age: restored.age,
            gateways: restored.gateways,
            kept: restored.kept.as_deref(),
        });
    }
    output::line(&format!(
        "restored {}, made {}, with {} gateways",
        restored.from.display(),
        store::ago(restored.age),
        restored.gateways
    ))?;
    if let Some(kept) = &restored.kept {
        output::line(&format!("the database before is kept as {}", kept.display()))?;
    }
    output::line("start the agent now; changes after the copy was made have to be made again")
}
