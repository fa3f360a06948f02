//! `sipauth events`.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use clap::Args;

use super::{OutputArgs, output, understand, unexpected};
use crate::control::{Client, EventRecord, Request, Response};

/// Which events.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with new ones until interrupted
    #[arg(long)]
    pub follow: bool,
    /// How to print: one JSON object a line.
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn execute(args: &EventsArgs, socket: &Path) -> anyhow::Result<()> {
    let mut client = Client::connect(socket)?;
    client.subscribe(&Request::Events { follow: args.follow })?;
    while let Some(response) = client.receive()? {
        match understand(response)? {
            Response::Event(event) if args.output.json => output::json_line(&event)?,
            Response::Event(event) => output::line(&text(&event))?,
            _ => return Err(unexpected()),
        }
    }
    Ok(())
}

pub(super) fn text(event: &EventRecord) -> String {
    let gateway = event.gateway.as_deref().map(|name| format!(" gateway {name}")).unwrap_or_default();
    let monitored = if event.monitored { " (monitored)" } else { "" };
    let head = if event.head.is_empty() {
        String::new()
    } else {
        format!(": {}", event.head)
    };
    let detail = event.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let transport = event.transport.label();
    let EventRecord {
        time,
        verdict,
        source,
        destination,
        reason,
        ..
    } = event;
    let time = SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(*time).unwrap_or_default();
    let time = humantime::format_rfc3339_millis(time);
    format!("{time} {verdict}{monitored} {transport} {source} > {destination} {reason}{gateway}{detail}{head}")
}
