//! `sipauth records`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::{No, OutputArgs, ask, output, unexpected};
use crate::{
    config::DEFAULT_LOG_DIR,
    control::{ClientError, Request, Response},
    records::{self, Target},
};

/// Fields of a record that are shown, `-` for `_`.
const COLUMNS: [&str; 9] = [
    "time",
    "count",
    "method",
    "source",
    "gateway",
    "code",
    "termination",
    "reason",
    "call-id",
];

/// Which records.
#[derive(Debug, Args)]
pub struct RecordsArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
    /// Only those of a gateway's address or username
    #[arg(long, value_name = "NAME")]
    pub gateway: Option<String>,
    /// Directory of the records [default: the agent's, else /var/log/sipauth]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// How to print: one JSON object a line.
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn execute(args: &RecordsArgs, socket: &Path) -> anyhow::Result<()> {
    let directory = match &args.log_dir {
        Some(directory) => directory.clone(),
        None => directory(socket)?,
    };
    let last = last(directory.clone(), args.last, args.gateway.as_deref())?;
    if args.output.json {
        return last.iter().try_for_each(output::json_line);
    }
    if last.is_empty() {
        return output::line(&format!(
            "no record in {}; each is written 10 s after its first refusal",
            directory.display()
        ));
    }
    output::table(COLUMNS, last.iter().map(row), 9)
}

/// Where the agent writes; where none runs, where it would.
fn directory(socket: &Path) -> anyhow::Result<PathBuf> {
    let status = match ask(socket, &Request::Status) {
        Ok(Response::Status(status)) => status,
        Ok(_) => return Err(unexpected()),
        Err(error) if matches!(error.downcast_ref(), Some(ClientError::NotRunning { .. })) => {
            return Ok(PathBuf::from(DEFAULT_LOG_DIR));
        }
        Err(error) => return Err(error),
    };
    let log = status.logs.into_iter().find(|log| log.log == "records").ok_or_else(unexpected)?;
    let elsewhere = match log.target.as_str() {
        target if target == Target::Journald.label() => "the records go to the journal: `journalctl -t sipauth` shows them",
        target if target == Target::Syslog.label() => "the records go to syslog, which knows where they are",
        _ => "no records are written; `--records file` (or `records` in the configuration file) has them written",
    };
    log.directory.ok_or_else(|| No(elsewhere.to_owned()).into())
}

/// The last of them, the oldest first.
fn last(directory: PathBuf, wanted: usize, gateway: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for file in records::files(directory).into_iter().rev() {
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let records = text
            .rsplit(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok());
        let fits = |record: &Value| gateway.is_none_or(|name| record["gateway"] == name);
        found.extend(records.filter(fits).take(wanted - found.len()));
        if found.len() == wanted {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

fn row(record: &Value) -> [String; COLUMNS.len()] {
    COLUMNS.map(|column| match &record[column.replace('-', "_").as_str()] {
        Value::Null => "-".to_owned(),
        // A peer's own words: nothing that a terminal would obey.
        Value::String(text) => text.chars().map(|c| if c.is_control() { '.' } else { c }).collect(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, lines: &[(&str, &str)]) {
        let lines = lines
            .iter()
            .map(|(gateway, id)| format!("{{\"gateway\":\"{gateway}\",\"call_id\":\"{id}\",\"count\":3}}\n"));
        fs::write(path, lines.collect::<String>()).expect("written");
    }

    #[test]
    fn the_last_records_are_found_across_files_and_those_of_a_gateway_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        write(&at("records-20261124T000000.000Z.jsonl"), &[("a", "1"), ("b", "2")]);
        write(&at("records-20261125T000000.000Z.jsonl"), &[("a", "3"), ("b", "4")]);
        write(&at("records.jsonl"), &[("a", "5")]);
        fs::write(at("records.jsonl~"), "no record\n").expect("written");
        let ids = |wanted, gateway| {
            let all = last(directory.path().to_owned(), wanted, gateway).expect("records");
            all.iter().map(|record| row(record)[8].clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(3, None), ["3", "4", "5"]);
        assert_eq!(ids(9, None), ["1", "2", "3", "4", "5"]);
        assert_eq!(ids(2, Some("b")), ["2", "4"]);
        assert!(ids(0, None).is_empty() && ids(9, Some("c")).is_empty());
    }

    #[test]
    fn a_peer_cannot_write_to_the_terminal() {
        let record = serde_json::from_str(r#"{"call_id":"\u001b[2Jx","count":3}"#).expect("JSON");
        assert_eq!(
            (row(&record)[8].as_str(), row(&record)[1].as_str(), row(&record)[0].as_str()),
            (".[2Jx", "3", "-")
        );
    }
}
