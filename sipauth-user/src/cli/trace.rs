//! `sipauth trace`.

mod pcap;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use self::pcap::Capture;
use super::{OutputArgs, events, output, understand, unexpected};
use crate::{
    config::parse_duration,
    control::{Client, Request, Response, TraceField, TraceLine, TraceRecord, TraceRequest},
};

/// Whose dialogue, and for how long.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Name of a gateway, or an address
    #[arg(value_name = "GATEWAY|ADDRESS")]
    pub subject: String,
    /// Write the messages to a capture file for Wireshark or tcpdump too; what proves a password is replaced by x
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// End after this time [default: when interrupted]
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub lasts: Option<Duration>,
    /// End after so many messages and refusals
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How to print: one JSON object a line.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("write it like 30s, 5m or 12h")
}

pub(super) fn execute(args: &TraceArgs, socket: &Path) -> anyhow::Result<()> {
    // Before anything is traced: a file that cannot be written should be heard of at once.
    let mut capture = match &args.pcap {
        Some(path) => Some(Capture::create(path).with_context(|| format!("cannot write {}; choose another --pcap", path.display()))?),
        None => None,
    };
    let mut client = Client::connect(socket)?;
    client.subscribe(&Request::Trace(TraceRequest {
        subject: args.subject.clone(),
        seconds: args.lasts.map(|time| time.as_secs()),
        count: args.count,
        messages: capture.is_some(),
    }))?;
    while let Some(response) = client.receive()? {
        let Response::Trace(mut line) = understand(response)? else {
            return Err(unexpected());
        };
        if let TraceLine::Message(record) = &mut line {
            let (message, reply) = (record.message.take(), record.reply_message.take());
            if let (Some(capture), Some(message)) = (&mut capture, message) {
                capture
                    .dialogue(record, &message, reply.as_deref())
                    .with_context(|| format!("cannot write {}", args.pcap.as_deref().unwrap_or(Path::new("")).display()))?;
            }
        }
        if args.output.json {
            output::json_line(&line)?;
        } else {
            text(&line).iter().try_for_each(|line| output::line(line))?;
        }
    }
    Ok(())
}

fn text(line: &TraceLine) -> Vec<String> {
    match line {
        TraceLine::Begin { notes } => notes.clone(),
        TraceLine::Message(record) => message(record),
        TraceLine::Refusal(refusal) => vec![format!(
            "{} kernel program: {}",
            clock(refusal.time),
            after_time(&events::text(refusal))
        )],
        TraceLine::Lost { count } => vec![format!("({count} more were left out: they came faster than they can be told)")],
    }
}

/// The line of `events` has the time in its own form.
fn after_time(event: &str) -> &str {
    event.split_once(' ').map_or(event, |(_, rest)| rest)
}

fn message(record: &TraceRecord) -> Vec<String> {
    let TraceRecord {
        source, destination, head, ..
    } = record;
    let transport = record.transport.label();
    let mut lines = vec![format!("{} {transport} {source} > {destination} {head}", clock(record.time))];
    let flow = if record.trusted {
        ", from a source that has authenticated"
    } else {
        ""
    };
    let credentials = match (record.credentials, &record.gateway) {
        (false, _) => "no credentials".to_owned(),
        (true, Some(gateway)) => format!("credentials of gateway {gateway}"),
        (true, None) => "credentials of nobody".to_owned(),
    };
    if !record.method.is_empty() {
        lines.push(format!("    Call-ID {}, CSeq {}, {credentials}{flow}", record.call_id, record.cseq));
    }
    lines.extend(record.fields.iter().map(field));
    let text = format!("{}: {}", record.outcome, record.text);
    lines.push(match (record.action.as_str(), &record.reply) {
        (_, Some(reply)) => format!("  < {reply}   {text}"),
        ("release", None) => format!("  > to the softswitch   {text}"),
        _ => format!("  - not answered   {text}"),
    });
    lines.extend(record.challenges.iter().map(|challenge| format!("    {challenge}")));
    lines
}

fn field(field: &TraceField) -> String {
    let verdict = match field.right {
        Some(true) => "right",
        Some(false) => "WRONG",
        None => "?",
    };
    let note = if field.note.is_empty() {
        String::new()
    } else {
        format!(": {}", field.note)
    };
    format!("      {verdict:<6} {:<10} {}{note}", field.field, field.sent)
}

/// Time of day, UTC, with milliseconds.
fn clock(seconds: f64) -> String {
    let milliseconds = Duration::from_secs_f64(seconds.max(0.0)).as_millis();
    let (hours, minutes) = (milliseconds / 3_600_000 % 24, milliseconds / 60_000 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}Z",
        milliseconds / 1_000 % 60,
        milliseconds % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_told_in_utc() {
        assert_eq!(clock(1_764_059_592.25), "08:33:12.250Z");
        assert_eq!(clock(-1.0), "00:00:00.000Z");
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let line = field(&TraceField {
            field: "realm".to_owned(),
            sent: "\"asterisk\"".to_owned(),
            right: Some(false),
            note: "expected \"sipauth\"".to_owned(),
        });
        assert_eq!(line.trim(), "WRONG  realm      \"asterisk\": expected \"sipauth\"");
    }
}
