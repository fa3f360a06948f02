//! `sipauth explain`.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
};

use clap::Args;

use super::{OutputArgs, ask, duration, events, output, unexpected};
use crate::{
    control::{ExplainRequest, Explanation, Request, Response, Transport, parse_message},
    gateway::Mode,
};

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
    lines(&answer, args.source).iter().try_for_each(|line| output::line(line))
}

/// The answer for a person.
pub(crate) fn lines(answer: &Explanation, source: Source) -> Vec<String> {
    let mut lines = vec![format!("{}: {} ({})", answer.verdict, answer.text, answer.reason)];
    if let Some(gateway) = &answer.gateway {
        let mode = answer.mode.map(|mode| format!(" (mode {mode})")).unwrap_or_default();
        lines.push(format!("gateway: {gateway}{mode}"));
    }
    if answer.monitor {
        lines.push("monitor mode: the packet passes all the same".to_owned());
    }
    lines.push(String::new());
    lines.extend(
        answer
            .steps
            .iter()
            .zip(1..)
            .map(|(step, number)| format!("{number:2}. {}", step.text)),
    );
    lines.push(String::new());
    lines.push(format!("remedy: {}", answer.remedy));
    let about = about(answer);
    if !about.is_empty() {
        lines.push(String::new());
        lines.push(format!("about {}:", source.address));
        lines.extend(about.into_iter().map(|line| format!("  {line}")));
    }
    lines
}

/// What else bears on the source.
fn about(answer: &Explanation) -> Vec<String> {
    let about = &answer.source;
    let mut lines = Vec::new();
    if let Some(ban) = &about.ban {
        let port = ban.port.map(|port| format!(" its port {port}")).unwrap_or_default();
        let until = ban.expires_in.map_or_else(
            || "until it is removed".to_owned(),
            |left| format!("for another {}", duration(left)),
        );
        let spared = matches!(answer.mode, Some(Mode::Ip | Mode::IpPort));
        let effect = if spared { "; no effect on a gateway in this mode" } else { "" };
        lines.push(format!("banned{port} {until} ({}){effect}", ban.cause));
    }
    for flow in &about.flows {
        let whose = flow.gateway.as_deref().unwrap_or("(opened by the softswitch)");
        let until = flow
            .expires_in
            .map_or_else(|| "while it is used".to_owned(), |left| format!("for another {}", duration(left)));
        let idle = duration(flow.idle);
        lines.push(format!(
            "authenticated: port {}/{} as {whose}, {until}, idle for {idle}",
            flow.port,
            flow.transport.label()
        ));
    }
    if let Some(ago) = about.peer {
        lines.push(format!("called by the softswitch {} ago", duration(ago)));
    }
    for rate in &about.rates {
        let full = u64::from(rate.per_second) * 2;
        let dropped = if rate.left == 0 { ": more is dropped (source_rate)" } else { "" };
        if rate.left < full {
            lines.push(format!(
                "rate, lane {}: {} of {full} requests left, {} more each second{dropped}",
                rate.lane, rate.left, rate.per_second
            ));
        }
    }
    if let Some(challenge) = &about.challenge {
        lines.push(format!(
            "challenged with {}: realm \"{}\", {}, qop {}, to be answered within {}",
            challenge.status,
            challenge.realm,
            challenge.algorithms.join(", "),
            challenge.qop,
            duration(challenge.nonce_lifetime)
        ));
    }
    if !about.refusals.is_empty() {
        lines.push("last refusals:".to_owned());
        lines.extend(about.refusals.iter().map(|refusal| format!("  {}", events::text(refusal))));
    }
    lines
}
