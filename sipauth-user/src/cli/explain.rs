//! `sipauth explain`.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
};

use clap::Args;

use super::{OutputArgs, ask, output, unexpected};
use crate::control::{ExplainRequest, Request, Response, Transport, parse_message};

/// Where a packet comes from: `203.0.113.5`, `203.0.113.5:5060`, `2001:db8::1`, `[2001:db8::1]:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Address.
    pub address: IpAddr,
    /// Port, where given.
    pub port: Option<u16>,
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self { address, port: None });
        }
        let both: SocketAddr = text
            .parse()
            .map_err(|_| "write it like 203.0.113.5, 203.0.113.5:5060 or [2001:db8::1]:5060")?;
        Ok(Self {
            address: both.ip(),
            port: Some(both.port()),
        })
    }
}

/// A packet to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Source address of the packet, and its source port
    #[arg(value_name = "SRC[:PORT]")]
    pub source: Source,
    /// Destination port [default: the first protected port]
    #[arg(long, value_name = "N")]
    pub dst_port: Option<u16>,
    /// Transport protocol
    #[arg(long, value_enum, default_value_t)]
    pub transport: Transport,
    /// A SIP method, `response` or `keep-alive`
    #[arg(long, default_value = "INVITE", value_parser = message)]
    pub method: String,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn message(text: &str) -> Result<String, &'static str> {
    match parse_message(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("give a SIP method such as INVITE, `response` or `keep-alive`"),
    }
}

pub(super) fn execute(args: &ExplainArgs, socket: &Path) -> anyhow::Result<()> {
    let request = ExplainRequest {
        source: args.source.address.to_canonical(),
        source_port: args.source.port,
        destination_port: args.dst_port,
        transport: args.transport,
        message: args.method.clone(),
    };
    let Response::Explanation(answer) = ask(socket, &Request::Explain(request))? else {
        return Err(unexpected());
    };
    if args.output.json {
        return output::json(&answer);
    }
    output::line(&format!("{}: {} ({})", answer.verdict, answer.text, answer.reason))?;
    if let Some(gateway) = &answer.gateway {
        let mode = answer.mode.map(|mode| format!(" (mode {mode})")).unwrap_or_default();
        output::line(&format!("gateway: {gateway}{mode}"))?;
    }
    if answer.reason == "port_mismatch" && args.source.port.is_none() {
        output::line("hint: no source port was given; ask again with SRC:PORT")?;
    }
    if answer.monitor {
        output::line("monitor mode: the packet passes all the same")?;
    }
    Ok(())
}
