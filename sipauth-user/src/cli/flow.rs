//! `sipauth flow list`.

use std::path::Path;

use clap::Subcommand;

use super::{OutputArgs, ask, output, unexpected};
use crate::control::{FlowInfo, Request, Response};

/// Commands about flows.
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// List the sources that have authenticated, and until when
    List(OutputArgs),
}

pub(super) fn execute(command: &FlowCommand, socket: &Path) -> anyhow::Result<()> {
    let FlowCommand::List(output) = command;
    let Response::Flows { flows } = ask(socket, &Request::FlowList)? else {
        return Err(unexpected());
    };
    if output.json {
        return output::json(&flows);
    }
    if flows.is_empty() {
        return output::line("no flows: nobody has authenticated lately");
    }
    output::table(
        ["address", "port", "transport", "gateway", "ends in", "idle"],
        flows.into_iter().map(row),
        5,
    )
}

fn row(flow: FlowInfo) -> [String; 6] {
    [
        flow.address.to_string(),
        flow.port.to_string(),
        flow.transport.label().to_owned(),
        flow.gateway.unwrap_or_else(|| "(the softswitch)".to_owned()),
        flow.expires_in
            .map_or_else(|| "when idle".to_owned(), |seconds| format!("{seconds} s")),
        format!("{} s", flow.idle),
    ]
}
