//! What the command line asks a running agent.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Agent;

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code; -1 when it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Agent<'_> {
    /// Runs a command of the CLI against this agent; any exit code is an answer.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn cli(&self, args: &[&str]) -> anyhow::Result<Answer> {
        self.cli_with_input(args, "")
    }

    /// The same, with standard input.
    ///
    /// # Errors
    /// As [`Agent::cli`].
    pub fn cli_with_input(&self, args: &[&str], input: &str) -> anyhow::Result<Answer> {
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket).args(args).env("NO_COLOR", "1");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().context("no stdin")?.write_all(input.as_bytes());
        Ok(answer(&child.wait_with_output()?))
    }

    /// Runs a command that must succeed, with `--json`, and parses what it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        let answer = self.cli(&all)?;
        ensure!(
            answer.code == 0,
            "sipauth {}: exit {}: {}",
            args.join(" "),
            answer.code,
            answer.stderr.trim()
        );
        serde_json::from_str(&answer.stdout).with_context(|| format!("sipauth {}: not JSON: {}", args.join(" "), answer.stdout))
    }

    /// `gateway add NAME --mode MODE …`, which must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn add(&self, name: &str, mode: &str, options: &[&str]) -> anyhow::Result<()> {
        self.add_with_input(name, mode, options, "")
    }

    /// A password gateway; without addresses it may call from anywhere.
    ///
    /// # Errors
    /// When the command fails.
    pub fn add_password(&self, name: &str, user: &str, password: &str, addresses: &[&str]) -> anyhow::Result<()> {
        let mut options = vec!["--username", user, "--password-stdin"];
        options.extend(addresses.iter().flat_map(|a| ["--address", a]));
        self.add_with_input(name, "password", &options, &format!("{password}\n"))
    }

    /// As [`Agent::add`], with standard input.
    ///
    /// # Errors
    /// As [`Agent::add`].
    pub fn add_with_input(&self, name: &str, mode: &str, options: &[&str], input: &str) -> anyhow::Result<()> {
        let mut args = vec!["gateway", "add", name, "--mode", mode];
        args.extend(options);
        let answer = self.cli_with_input(&args, input)?;
        ensure!(
            answer.code == 0,
            "sipauth {}: exit {}: {}",
            args.join(" "),
            answer.code,
            answer.stderr.trim()
        );
        Ok(())
    }

    /// The counters now.
    ///
    /// # Errors
    /// When `stats` fails.
    pub fn stats(&self) -> anyhow::Result<Stats> {
        self.json(&["stats"]).map(Stats)
    }

    /// `explain` as (verdict, reason, gateway).
    ///
    /// # Errors
    /// When it fails.
    pub fn explain(&self, args: &[&str]) -> anyhow::Result<(String, String, Option<String>)> {
        let mut all = vec!["explain"];
        all.extend(args);
        let v = self.json(&all)?;
        let text = |key: &str| v[key].as_str().map(str::to_owned);
        Ok((
            text("verdict").context("no verdict")?,
            text("reason").context("no reason")?,
            text("gateway"),
        ))
    }
}

/// Counters as `stats --json` prints them.
#[derive(Clone, Debug)]
pub struct Stats(Value);

impl Stats {
    /// Packets with this reason.
    #[must_use]
    pub fn reason(&self, label: &str) -> u64 {
        self.0["reasons"][label]["packets"].as_u64().unwrap_or(0)
    }

    /// Packets of a gateway with a verdict: `pass`, `drop`, `punt`.
    #[must_use]
    pub fn gateway(&self, name: &str, verdict: &str) -> u64 {
        self.0["gateways"][name][verdict]["packets"].as_u64().unwrap_or(0)
    }

    /// The agent's outcomes.
    #[must_use]
    pub fn authentication(&self, label: &str) -> u64 {
        self.0["authentication"][label].as_u64().unwrap_or(0)
    }

    /// Reasons whose packets have become more since `before`, with by how many.
    #[must_use]
    pub fn moved_since(&self, before: &Self) -> Vec<(String, u64)> {
        self.more(before, "reasons", Self::reason)
    }

    /// The agent's outcomes that have become more since `before`.
    #[must_use]
    pub fn outcomes_since(&self, before: &Self) -> Vec<(String, u64)> {
        self.more(before, "authentication", Self::authentication)
    }

    fn more(&self, before: &Self, table: &str, count: impl Fn(&Self, &str) -> u64) -> Vec<(String, u64)> {
        let labels = self.0[table].as_object().into_iter().flat_map(|map| map.keys());
        labels
            .map(|label| (label.clone(), count(self, label).saturating_sub(count(before, label))))
            .filter(|(_, more)| *more > 0)
            .collect()
    }
}

pub(super) fn answer(out: &std::process::Output) -> Answer {
    Answer {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}
