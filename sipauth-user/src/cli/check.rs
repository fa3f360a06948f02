//! `sipauth check` and `sipauth config default`: the agent's settings as a file.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{No, output};
use crate::config::{self, ConfigError, Origin, RawSettings};

/// Which file to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file [default: /etc/sipauth/sipauth.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Commands about the configuration file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a file with every key, its meaning and default
    Default,
}

pub(super) fn execute(args: CheckArgs) -> anyhow::Result<()> {
    let path = args.config.unwrap_or_else(|| PathBuf::from(config::DEFAULT_FILE));
    let settings = Origin::new(Some(path.clone()), RawSettings::default())
        .read()
        .map_err(|error| match error {
            // Nothing was checked.
            ConfigError::Read { .. } => anyhow::Error::from(error),
            wrong => No(wrong.to_string()).into(),
        })?
        .settings;
    let missing = |name: &&String| !Path::new("/sys/class/net").join(name).exists();
    let missing: Vec<&String> = settings.interfaces.iter().filter(missing).collect();
    if !missing.is_empty() {
        let names = output::list(&missing);
        return Err(No(format!("interface: {names} is not there; `ip link` lists those that are")).into());
    }
    output::line(&format!("{} is right", path.display()))
}

pub(super) fn print(command: &ConfigCommand) -> anyhow::Result<()> {
    let ConfigCommand::Default = command;
    output::line(config::DEFAULT_TEXT.trim_end())
}
