//! `sipauth ban add|remove|list|import`.

use std::{net::IpAddr, path::Path, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{OutputArgs, ask, output, unexpected};
use crate::{
    config::parse_duration,
    control::{BanRule, Request, Response},
};

/// Commands about bans.
#[derive(Debug, Subcommand)]
pub enum BanCommand {
    /// Drop what an address sends; replaces an earlier ban of it
    Add(BanArgs),
    /// Lift the ban of an address, and forget its failures
    Remove {
        /// The address
        address: IpAddr,
    },
    /// List the bans in force
    List(OutputArgs),
    /// Ban every address in a file, one a line, `#` begins a comment; all or none
    Import {
        /// The file
        file: PathBuf,
        /// What to keep of them
        #[command(flatten)]
        how: How,
    },
}

/// An address to ban.
#[derive(Debug, Args)]
pub struct BanArgs {
    /// The address
    pub address: IpAddr,
    /// Only this source port of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// What to keep of it
    #[command(flatten)]
    pub how: How,
}

/// How long, and why.
#[derive(Clone, Debug, Args)]
pub struct How {
    /// For how long [default: until it is removed]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub duration: Option<u64>,
    /// Why, for `ban list`
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

fn seconds(text: &str) -> Result<u64, &'static str> {
    match parse_duration(text).map(|time| time.as_secs()) {
        Some(seconds) if (1..=10 * 365 * 86_400).contains(&seconds) => Ok(seconds),
        _ => Err("write a time from 1s to 3650d, like 30m, 12h or 7d"),
    }
}

impl How {
    fn rule(&self, address: IpAddr, port: Option<u16>) -> BanRule {
        BanRule {
            address: address.to_canonical(),
            port,
            seconds: self.duration,
            reason: self.reason.clone(),
        }
    }
}

pub(super) fn execute(command: BanCommand, socket: &Path) -> anyhow::Result<()> {
    match command {
        BanCommand::Add(args) => add(vec![args.how.rule(args.address, args.port)], socket),
        BanCommand::Import { file, how } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let addresses = read(&text).map_err(|lines| anyhow::anyhow!("{}: {lines}; nothing was banned", file.display()))?;
            add(addresses.into_iter().map(|address| how.rule(address, None)).collect(), socket)
        }
        BanCommand::Remove { address } => match ask(socket, &Request::BanRemove { address })? {
            Response::Unbanned => output::line(&format!("lifted the ban of {address}")),
            _ => Err(unexpected()),
        },
        BanCommand::List(output) => list(output, socket),
    }
}

fn add(bans: Vec<BanRule>, socket: &Path) -> anyhow::Result<()> {
    match ask(socket, &Request::BanAdd { bans })? {
        Response::Banned { count } => output::line(&format!("banned {count} {}", if count == 1 { "address" } else { "addresses" })),
        _ => Err(unexpected()),
    }
}

/// The addresses of a list; else every line that is none.
fn read(text: &str) -> Result<Vec<IpAddr>, String> {
    let (mut addresses, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match entry.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => bad.push(format!("line {}: {entry:?} is not an address", index + 1)),
        }
    }
    if bad.is_empty() { Ok(addresses) } else { Err(bad.join(", ")) }
}

fn list(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Bans { bans } = ask(socket, &Request::BanList)? else {
        return Err(unexpected());
    };
    if output.json {
        return output::json(&bans);
    }
    if bans.is_empty() {
        return output::line("no bans");
    }
    let rows = bans.into_iter().map(|ban| {
        [
            ban.address.to_string(),
            ban.port.map_or_else(|| "all".to_owned(), |port| port.to_string()),
            ban.expires_in.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s")),
            ban.cause,
            ban.reason,
        ]
    });
    output::table(["address", "port", "expires in", "cause", "reason"], rows, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whole_or_its_bad_lines_are_named() {
        let read_text = |text: &str| read(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            read_text("# bad ones\n203.0.113.5 # twice\n\n  2001:db8::1\r\n"),
            Ok(vec!["203.0.113.5".to_owned(), "2001:db8::1".to_owned()])
        );
        let error = read_text("203.0.113.5\nnonsense\n10.0.0.0/8\n").expect_err("two bad lines");
        assert_eq!(
            error,
            "line 2: \"nonsense\" is not an address, line 3: \"10.0.0.0/8\" is not an address"
        );
    }
}
