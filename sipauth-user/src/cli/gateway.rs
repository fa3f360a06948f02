//! `sipauth gateway add|list|show|remove`.

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    OutputArgs, ask, events, output,
    password::{PasswordArgs, print_generated},
    status, unexpected,
};
use crate::{
    config::RawDigest,
    control::{GatewayInfo, GatewayReport, Request, Response},
    gateway::{Mode, RawGateway, Secret, SetGateway},
};

/// Commands about gateways.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Add a gateway; it is enforced when the command returns
    Add(Box<AddArgs>),
    /// List all gateways
    List(OutputArgs),
    /// Show one gateway
    Show {
        /// Its name
        name: String,
        /// How to print.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Change fields of a gateway; enforced when the command returns
    Set(Box<SetArgs>),
    /// Remove a gateway; its calls are refused when the command returns
    Remove {
        /// Its name
        name: String,
        /// How to print.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// A gateway to add.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Unique name: 1 to 64 of A-Z a-z 0-9 . _ -
    pub name: String,
    /// What is verified of its calls
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// Address, prefix or host name that its packets come from; may be repeated
    #[arg(long, value_name = "ADDRESS[/LEN]|NAME")]
    pub address: Vec<String>,
    /// Source port of its packets in mode ip-port; may be repeated
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// Digest username in mode password
    #[arg(long)]
    pub username: Option<String>,
    /// Digest realm in mode password [default: that of the agent]
    #[arg(long)]
    pub realm: Option<String>,
    /// The password in mode password.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// How it is challenged in mode password, where that is not as the agent does in general
    #[command(flatten)]
    pub digest: RawDigest,
    /// Where gateways share an address, the higher one is counted
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What to change of a gateway. A list takes the place of the whole list that was there.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name
    pub name: String,
    /// What is verified of its calls
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Address, prefix or host name that its packets come from; may be repeated
    #[arg(long, value_name = "ADDRESS[/LEN]|NAME")]
    pub address: Vec<String>,
    /// It may call from anywhere (mode password)
    #[arg(long, conflicts_with = "address")]
    pub anywhere: bool,
    /// Source port of its packets in mode ip-port; may be repeated
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// Digest username; the password has to be given again with it
    #[arg(long)]
    pub username: Option<String>,
    /// Digest realm; likewise
    #[arg(long)]
    pub realm: Option<String>,
    /// Another password.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// How it is challenged
    #[command(flatten)]
    pub digest: RawDigest,
    /// Where gateways share an address, the higher one is counted
    #[arg(long, allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Added {
    gateway: GatewayInfo,
    warnings: Vec<String>,
    /// The one that was made, and is shown here alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    generated_password: Option<Secret>,
}

pub(super) fn execute(command: GatewayCommand, socket: &Path) -> anyhow::Result<()> {
    match command {
        GatewayCommand::Add(args) => add(*args, socket),
        GatewayCommand::Set(args) => set(*args, socket),
        GatewayCommand::List(output) => list(output, socket),
        GatewayCommand::Show { name, output } => show(name, output, socket),
        GatewayCommand::Remove { name, output } => remove(name, output, socket),
    }
}

fn add(args: AddArgs, socket: &Path) -> anyhow::Result<()> {
    let password = args.password.read(args.username.as_deref())?;
    let generated = password.clone().filter(|_| args.password.generate_password);
    let gateway = RawGateway {
        name: args.name,
        mode: args.mode,
        addresses: args.address,
        ports: args.port,
        username: args.username,
        realm: args.realm,
        password,
        allow_weak_password: args.password.allow_weak_password,
        credentials: None,
        digest: args.digest,
        priority: args.priority,
    };
    // The agent judges; judging here as well answers a slip without one.
    gateway.clone().validate("sipauth", None, |_, _, _| Secret::default())?;
    match ask(socket, &Request::GatewayAdd { gateway })? {
        Response::Added { gateway, warnings } => told("added", gateway, warnings, generated, args.output, socket),
        _ => Err(unexpected()),
    }
}

fn set(args: SetArgs, socket: &Path) -> anyhow::Result<()> {
    let password = args.password.read(args.username.as_deref())?;
    let generated = password.clone().filter(|_| args.password.generate_password);
    let addresses = (args.anywhere || !args.address.is_empty()).then_some(args.address);
    let fields = Box::new(SetGateway {
        mode: args.mode,
        addresses,
        ports: Some(args.port).filter(|ports| !ports.is_empty()),
        username: args.username,
        realm: args.realm,
        password,
        allow_weak_password: args.password.allow_weak_password,
        digest: args.digest,
        priority: args.priority,
    });
    match ask(socket, &Request::GatewaySet { name: args.name, fields })? {
        Response::Changed { gateway, warnings } => told("changed", gateway, warnings, generated, args.output, socket),
        _ => Err(unexpected()),
    }
}

fn told(
    done: &str,
    gateway: GatewayInfo,
    warnings: Vec<String>,
    generated_password: Option<Secret>,
    output: OutputArgs,
    socket: &Path,
) -> anyhow::Result<()> {
    for warning in &warnings {
        output::note(&format!("warning: {warning}"));
    }
    if output.json {
        return output::json(&Added {
            gateway,
            warnings,
            generated_password,
        });
    }
    output::line(&format!(
        "{done} gateway {} (mode {}): {}",
        gateway.name,
        gateway.mode,
        who(&gateway)
    ))?;
    generated_password.map_or(Ok(()), |password| print_generated(&gateway, &password, socket))
}

fn list(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Gateways { gateways } = ask(socket, &Request::GatewayList)? else {
        return Err(unexpected());
    };
    if output.json {
        return output::json(&gateways);
    }
    if gateways.is_empty() {
        return output::line("no gateways; add one with `sipauth gateway add`");
    }
    let rows = gateways.iter().map(|gateway| {
        let addresses = if gateway.addresses.is_empty() {
            "anywhere".to_owned()
        } else {
            output::shortened(&sources(gateway))
        };
        let username = gateway.username.clone().unwrap_or_else(|| "-".to_owned());
        [
            gateway.name.clone(),
            gateway.mode.to_string(),
            addresses,
            output::list(&gateway.ports),
            username,
            gateway.priority.to_string(),
        ]
    });
    output::table(["name", "mode", "addresses", "ports", "username", "priority"], rows, 5)
}

fn show(name: String, output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let report = get(name, socket)?;
    if output.json {
        return output::json(&report);
    }
    lines(&report)?.iter().try_for_each(|line| output::line(line))
}

/// A gateway for a person.
pub(super) fn lines(report: &GatewayReport) -> anyhow::Result<Vec<String>> {
    let GatewayReport { gateway, refusals } = report;
    let addresses = if gateway.addresses.is_empty() {
        "anywhere".to_owned()
    } else {
        output::list(&gateway.addresses)
    };
    let mut lines = vec![
        format!("name       {}", gateway.name),
        format!("id         {}", gateway.id),
        format!("mode       {}", gateway.mode),
        format!("addresses  {addresses}"),
    ];
    for name in &gateway.names {
        let stands_for = status::unresolved(name).unwrap_or_else(|| format!("is {} now", output::list(&name.addresses)));
        lines.push(format!("           {} {stands_for}", name.name));
    }
    if !gateway.ports.is_empty() {
        lines.push(format!("ports      {}", output::list(&gateway.ports)));
    }
    if let (Some(username), Some(realm)) = (&gateway.username, &gateway.realm) {
        lines.push(format!("username   {username}"));
        lines.push(format!("realm      {realm}"));
        let digest = digest_settings(&gateway.digest)?;
        if !digest.is_empty() {
            lines.push(format!("digest     {}", digest.join("; ")));
        }
    }
    lines.push(format!("priority   {}", gateway.priority));
    if !refusals.is_empty() {
        lines.push(String::new());
        lines.push("last refusals of its credentials:".to_owned());
        lines.extend(refusals.iter().map(|refusal| format!("  {}", events::text(refusal))));
    }
    Ok(lines)
}

/// What was set for this gateway alone, by the names of the flags' fields.
fn digest_settings(digest: &RawDigest) -> anyhow::Result<Vec<String>> {
    let serde_json::Value::Object(fields) = serde_json::to_value(digest)? else {
        return Ok(Vec::new());
    };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(all) => all.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    Ok(fields.into_iter().map(|(key, value)| format!("{key} {}", text(value))).collect())
}

/// Says whom it cuts off before it does so.
fn remove(name: String, output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let gateway = get(name.clone(), socket)?.gateway;
    output::note(&format!(
        "removing gateway {} (mode {}) cuts off {}",
        gateway.name,
        gateway.mode,
        who(&gateway)
    ));
    match ask(socket, &Request::GatewayRemove { name })? {
        Response::Removed { gateway } if output.json => output::json(&gateway),
        Response::Removed { gateway } => output::line(&format!("removed gateway {}", gateway.name)),
        _ => Err(unexpected()),
    }
}

fn get(name: String, socket: &Path) -> anyhow::Result<GatewayReport> {
    match ask(socket, &Request::GatewayShow { name })? {
        Response::Gateway(report) => Ok(report),
        _ => Err(unexpected()),
    }
}

/// The addresses of a gateway, each host name with what it stands for.
fn sources(gateway: &GatewayInfo) -> Vec<String> {
    let text = |address: &String| match gateway.names.iter().find(|name| name.name == *address) {
        Some(name) => format!("{address} ({})", output::shortened(&name.addresses)),
        None => address.clone(),
    };
    gateway.addresses.iter().map(text).collect()
}

/// Whose calls a gateway stands for, in words.
pub(super) fn who(gateway: &GatewayInfo) -> String {
    let from = if gateway.addresses.is_empty() {
        "anywhere".to_owned()
    } else {
        output::shortened(&sources(gateway))
    };
    match (gateway.mode, &gateway.username) {
        (Mode::IpPort, _) => format!("calls from {from}, source port {}", output::list(&gateway.ports)),
        (Mode::Password, Some(username)) => format!("calls of user {username} from {from}"),
        (Mode::Peer, _) => format!("responses and in-dialog requests from {from}"),
        _ => format!("calls from {from}"),
    }
}
