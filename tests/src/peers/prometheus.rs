//! The distribution's Prometheus, on the softswitch's own machine: scrapes the agent over loopback and evaluates rules.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::program::{self, PATIENCE, Program};
use crate::lab::{Host, Lab};

/// Where it answers.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// What a scrape may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A target: name of the job, and address.
pub type Job<'a> = (&'a str, SocketAddr);

/// A running Prometheus that scrapes and evaluates every second.
pub struct Prometheus<'a> {
    lab: &'a Lab,
    _program: Program,
}

impl<'a> Prometheus<'a> {
    /// Starts it with these jobs and rules.
    ///
    /// # Errors
    /// When it does not become ready in time, as with rules that it does not take.
    pub fn start(lab: &'a Lab, jobs: &[Job<'_>], rules: &Path) -> anyhow::Result<Self> {
        let host = Host::Softswitch;
        let dir = program::directory(lab, host, "prometheus")?;
        let mut text = String::from("global: { scrape_interval: 1s, evaluation_interval: 1s }\n");
        writeln!(text, "rule_files: [{}]\nscrape_configs:", rules.display())?;
        for (name, address) in jobs {
            writeln!(text, "  - {{ job_name: {name}, static_configs: [{{ targets: ['{address}'] }}] }}")?;
        }
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, text)?;
        let mut command = lab.command(host, "prometheus");
        command
            .arg("--config.file")
            .arg(&config)
            .arg("--storage.tsdb.path")
            .arg(dir.join("data"))
            .args(["--web.listen-address", &ADDRESS.to_string()]);
        let mut started = Program::start(&mut command, &dir).context("prometheus (Debian: prometheus)")?;
        started.wait_for_output(&["Server is ready to receive web requests"])?;
        Ok(Self { lab, _program: started })
    }

    /// Asks an expression as of now: labels and value of each series.
    ///
    /// # Errors
    /// When it is no valid expression.
    pub fn query(&self, expression: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let data = self
            .api(&format!("/api/v1/query?query={}", encoded(expression)))
            .with_context(|| expression.to_owned())?;
        let series = data["result"].as_array().context("no result")?;
        series
            .iter()
            .map(|one| {
                let value = one["value"][1]
                    .as_str()
                    .with_context(|| format!("{expression}: no vector: {one}"))?;
                Ok((one["metric"].clone(), value.parse()?))
            })
            .collect()
    }

    /// Waits until an expression has a series.
    ///
    /// # Errors
    /// When it has none in time.
    pub fn wait_for(&self, expression: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.query(expression)?.is_empty() {
            ensure!(Instant::now() < deadline, "no series in time: {expression}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Names of the alerts that fire.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub fn alerts(&self) -> anyhow::Result<Vec<String>> {
        let alerts = self.api("/api/v1/alerts")?;
        let firing = alerts["alerts"].as_array().context("no alerts")?.iter();
        Ok(firing
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// The `data` of an answer of its API.
    ///
    /// # Errors
    /// When it refuses the request.
    pub fn api(&self, path: &str) -> anyhow::Result<Value> {
        let (_, body) = fetch(self.lab, ADDRESS, path, "")?;
        let answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        if answer["status"] != "success" {
            bail!("{path}: {body}");
        }
        Ok(answer["data"].clone())
    }
}

/// A GET on the softswitch's machine: head and body.
///
/// # Errors
/// When nobody answers.
pub fn fetch(lab: &Lab, address: SocketAddr, path: &str, headers: &str) -> anyhow::Result<(String, String)> {
    lab.inside(Host::Softswitch, || get(address, path, headers))
}

/// Of HTTP 1.0, so that the body is not cut into chunks.
fn get(address: SocketAddr, path: &str, headers: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: lab\r\n{headers}\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Passes scrapes on to `agent` without saying which formats the scraper knows, as an old one would: Prometheus 2.42 always asks for
/// OpenMetrics. Serves until `ended` is set.
///
/// # Errors
/// When the address is taken.
pub fn forgetful_proxy(listen: SocketAddr, agent: SocketAddr, ended: &std::sync::atomic::AtomicBool) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
        let Ok((mut client, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(LIMIT))?;
        let mut request = [0; 4_096];
        let _ = client.read(&mut request)?;
        // A scraper that has gone is none of ours.
        if let Ok((head, body)) = get(agent, "/metrics", "") {
            let _ = client.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        }
    }
    Ok(())
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() {
            all.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}
