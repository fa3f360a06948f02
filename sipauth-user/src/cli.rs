//! The command line: one verb a file, each from arguments to calls to output.
//!
//! Names of commands, options and output fields are a contract; the tests here hold it. Output goes to stdout, talk to
//! stderr. Exit code 0: done (an explanation is an answer whatever its verdict); 1: the answer is no; 2: could not run.

mod apply;
mod ban;
mod check;
mod detach;
mod doctor;
mod events;
pub(crate) mod explain;
mod flow;
mod gateway;
mod import;
mod output;
mod password;
mod records;
mod reload;
mod restore;
mod run;
mod stats;
mod status;
mod top;
mod trace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

pub use self::{
    apply::{ApplyArgs, ExportArgs},
    ban::{BanArgs, BanCommand, How},
    check::{CheckArgs, ConfigCommand},
    detach::DetachArgs,
    doctor::DoctorArgs,
    events::EventsArgs,
    explain::ExplainArgs,
    flow::FlowCommand,
    gateway::{AddArgs, GatewayCommand},
    import::ImportArgs,
    password::PasswordArgs,
    records::RecordsArgs,
    restore::RestoreArgs,
    run::RunArgs,
    status::StatusArgs,
    trace::TraceArgs,
};
use crate::{
    config::DEFAULT_SOCKET,
    control::{Client, Refusal, Request, Response},
};

/// Call authentication for SIP softswitches, enforced on the NIC.
#[derive(Debug, Parser)]
#[command(name = "sipauth", version, max_term_width = 120, arg_required_else_help = true)]
pub struct Cli {
    /// Control socket of the agent [default: /run/sipauth/sipauth.sock]
    #[arg(long, global = true, env = "SIPAUTH_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Protect interfaces: load the program, answer challenges, serve this command line
    Run(Box<RunArgs>),
    /// Say whether a configuration file is right
    Check(CheckArgs),
    /// Print a configuration file with every key and its default
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Have the agent read its configuration file again; says what is in force now and what needs a restart
    Reload(OutputArgs),
    /// Add, change, list, show and remove gateways
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Bring the gateways to a list in a file: show the difference, then apply it, all or nothing
    Apply(ApplyArgs),
    /// Print all gateways as `apply` reads them, with their credentials
    Export(ExportArgs),
    /// Take gateways from a CSV file of another product, or from a dump of Kamailio's database, as `apply` does
    Import(ImportArgs),
    /// Ban addresses, lift and list bans
    #[command(subcommand)]
    Ban(BanCommand),
    /// List the sources that have authenticated
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Say what would happen to a packet, and why
    Explain(ExplainArgs),
    /// Counters by reason, by gateway and of authentication
    Stats(OutputArgs),
    /// Watch it live, full screen: rates by verdict and gateway, refused sources, lanes, health
    Top(OutputArgs),
    /// Interfaces, modes and health of the agent
    Status(StatusArgs),
    /// Say what of this machine stands in the way: kernel, interface, firewall, softswitch and so on
    Doctor(Box<DoctorArgs>),
    /// Stop enforcing: take the programs off the interfaces and remove all pins
    Detach(DetachArgs),
    /// Put a copy in the place of a damaged gateway database, while the agent is stopped
    Restore(RestoreArgs),
    /// Sampled refusals
    Events(EventsArgs),
    /// The last refused calls
    Records(RecordsArgs),
    /// The dialogue of one gateway or address as it happens, with every field of its credentials judged
    Trace(TraceArgs),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Several things are wrong, a line each: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Many(pub String);

/// The answer is no: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct No(pub String);

impl Cli {
    fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }

    /// Does it.
    ///
    /// # Errors
    /// [`No`] where the answer is no; anything else where it could not be done.
    pub fn execute(self) -> anyhow::Result<()> {
        let socket = self.socket();
        match self.command {
            Command::Run(args) => run::run(*args, self.socket),
            Command::Check(args) => check::execute(args),
            Command::Config(command) => check::print(&command),
            Command::Reload(output) => reload::execute(output, &socket),
            Command::Gateway(command) => gateway::execute(command, &socket),
            Command::Apply(args) => apply::execute(&args, &socket),
            Command::Export(args) => apply::export(&args, &socket),
            Command::Import(args) => import::execute(&args, &socket),
            Command::Ban(command) => ban::execute(command, &socket),
            Command::Flow(command) => flow::execute(&command, &socket),
            Command::Explain(args) => explain::execute(&args, &socket),
            Command::Stats(output) => stats::execute(output, &socket),
            Command::Top(output) => top::execute(output, &socket),
            Command::Status(args) => status::execute(args, &socket),
            Command::Doctor(args) => doctor::execute(*args, self.socket),
            Command::Detach(args) => detach::execute(&args, &socket),
            Command::Restore(args) => restore::execute(&args, &socket),
            Command::Events(args) => events::execute(&args, &socket),
            Command::Records(args) => records::execute(&args, &socket),
            Command::Trace(args) => trace::execute(&args, &socket),
        }
    }
}

/// The definition of the command line, for what is made from it.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The whole program: parses, executes, and says in one line what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Many>() => {
            error.to_string().lines().for_each(complain);
            ExitCode::from(2)
        }
        Err(error) => {
            complain(&chain(&error));
            if error.is::<No>() { ExitCode::from(1) } else { ExitCode::from(2) }
        }
    }
}

/// The error and its causes, without those that its text has already.
fn chain(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |text, cause| match text.as_str() {
            "" => cause,
            said if said.contains(&cause) => text,
            _ => format!("{text}: {cause}"),
        })
}

/// Help and version as they are; a wrong argument in one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            complain(&usage_line(error));
            ExitCode::from(2)
        }
    }
}

/// What clap says before its usage, as one line, with where to read more.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let body: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let body = body.join(" ");
    format!(
        "{}; `sipauth help` lists commands and options",
        body.strip_prefix("error: ").unwrap_or(&body)
    )
}

/// `sipauth stats | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[allow(clippy::print_stderr, reason = "this is where the program talks to its operator")]
fn complain(text: &str) {
    let line: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    eprintln!("sipauth: {}", line.join(" "));
}

/// Asks the agent; a refusal becomes an error with its exit code.
fn ask(socket: &std::path::Path, request: &Request) -> anyhow::Result<Response> {
    understand(Client::connect(socket)?.call(request)?)
}

fn understand(response: Response) -> anyhow::Result<Response> {
    match response {
        Response::Error {
            refusal: Refusal::No,
            message,
        } => Err(No(message).into()),
        Response::Error {
            refusal: Refusal::Failed,
            message,
        } => Err(anyhow::anyhow!("{message}")),
        response => Ok(response),
    }
}

/// A time in words.
pub(crate) fn duration(seconds: u64) -> String {
    crate::explain::duration(seconds.saturating_mul(1_000_000_000))
}

/// The agent answered something else than was asked.
fn unexpected() -> anyhow::Error {
    anyhow::anyhow!("the agent answered something else than was asked; use a sipauth of its version")
}

#[cfg(test)]
mod tests;
