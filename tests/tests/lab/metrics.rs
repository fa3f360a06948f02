//! The metrics as the distribution's Prometheus sees them, and what `dist/` makes of them: dashboard and alert rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sipauth_common::{
    abi,
    address::Address,
    decide::UDP,
    flow::{Ban, Flow, FlowKey},
};
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Prometheus, Uas, Via, fetch, forgetful_proxy};
use sipauth_tests::require_root;
use sipauth_user::datapath::{self, Pins, Sizes};

use crate::support::{add, digest, lab};

const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_107);
/// The same agent, seen by a scraper that does not know OpenMetrics.
const PLAIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_108);

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Calls of every mode, over both transports, and refusals.
fn traffic(lab: &Lab) -> anyhow::Result<()> {
    let right = digest(Host::PbxPassword);
    let calls = [
        Call::from(Host::CarrierIp).times(30, 6),
        Call::from(Host::CarrierPort).times(30, 6),
        right.clone().times(30, 6),
        Call::from(Host::Stranger).times(5, 2),
        Call::from(Host::PbxPassword).digest(Host::PbxPassword.name(), "wrong").port(5070),
        Call::from(Host::ProviderPeer),
        right.via(Via::Tcp4).times(10, 3).port(5071),
    ];
    let running: Vec<_> = calls.iter().map(|call| call.start(lab)).collect::<anyhow::Result<_>>()?;
    let mut answered = 0;
    for calls in running {
        answered += calls.finish()?.answered;
    }
    ensure!(answered == 100, "{answered} calls answered");
    Ok(())
}

/// All expressions of the dashboard, with its variables filled in.
fn expressions() -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(in_repository("dist/grafana/sipauth.json"))?;
    let dashboard: Value = serde_json::from_str(&text).context("dist/grafana/sipauth.json")?;
    let mut found = Vec::new();
    let filled = |expression: &str| {
        expression
            .replace("$__rate_interval", "30s")
            .replace("$__range", "1m")
            .replace("$instance", ".*")
            .replace("$gateway", ".*")
    };
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("no title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            ensure!(target["datasource"]["uid"] == "${datasource}", "{title}: a data source of its own");
            let expression = target["expr"].as_str().with_context(|| format!("{title}: no expression"))?;
            found.push((title.to_owned(), filled(expression)));
        }
    }
    for (_, expression) in &found {
        ensure!(!expression.contains('$'), "an unknown variable: {expression}");
    }
    // The values of the variables themselves.
    for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
        if let Some(query) = variable["definition"].as_str() {
            let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (selector, label) = inner.and_then(|q| q.rsplit_once(", ")).with_context(|| query.to_owned())?;
            found.push((query.to_owned(), format!("count by ({label}) ({})", filled(selector))));
        }
    }
    Ok(found)
}

/// The rules with no time to wait in them: what fires then has been true at one evaluation. But for those of which a machine that is busy
/// with other tests may make one true for a moment.
fn impatient_rules(lab: &Lab) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(in_repository("dist/prometheus/sipauth-alerts.yml"))?;
    let mut patient = false;
    let mut rules = String::new();
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            patient = ["SipauthLatencyHigh", "SipauthQueueDrops"].contains(&name);
        }
        if patient || !line.trim_start().starts_with("for: ") {
            rules += line;
            rules += "\n";
        }
    }
    let path = lab.state().join("sipauth-alerts.yml");
    std::fs::write(&path, rules)?;
    Ok(path)
}

fn promtool(args: &[&str]) -> anyhow::Result<String> {
    let out = Command::new("promtool")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("promtool (Debian: prometheus)")?;
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    ensure!(out.status.success(), "promtool {args:?}: {text}");
    Ok(text)
}

#[test]
fn the_alert_rules_load_and_each_fires_in_its_unit_test_and_not_in_the_good_state() -> anyhow::Result<()> {
    // Promtool is installed with what the lab needs.
    require_root!(Ok(()));
    let rules = in_repository("dist/prometheus/sipauth-alerts.yml");
    println!("{}", promtool(&["check", "rules", "--lint-fatal", &rules.display().to_string()])?);
    let tests = in_repository("tests/prometheus/sipauth-alerts-test.yml");
    promtool(&["test", "rules", &tests.display().to_string()])?;
    let (rules, tests) = (std::fs::read_to_string(rules)?, std::fs::read_to_string(tests)?);
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no unit test");
    }
    Ok(())
}

#[test]
fn prometheus_scrapes_both_formats_and_every_query_of_the_dashboard_has_data_and_alerts_fire_when_they_should() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &["--metrics", &METRICS.to_string()])?;
    for host in [
        Host::CarrierIp,
        Host::CarrierPort,
        Host::PbxPassword,
        Host::ProviderPeer,
        Host::NatPort,
    ] {
        add(&agent, host)?;
    }
    let ended = AtomicBool::new(false);
    let lab = &*lab;
    std::thread::scope(|scope| {
        let proxy = scope.spawn(|| lab.inside(Host::Softswitch, || forgetful_proxy(PLAIN, METRICS, &ended)));
        let observed = {
            let _end = Ends(&ended);
            observe(lab, &mut agent)
        };
        let proxied = proxy.join().map_err(|_| anyhow::anyhow!("the proxy panicked"))?;
        observed.and(proxied)
    })
}

/// Ends the proxy when a test fails, too: the scope waits for it.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn observe(lab: &Lab, agent: &mut Agent<'_>) -> anyhow::Result<()> {
    let prometheus = Prometheus::start(lab, &[("sipauth", METRICS), ("plain", PLAIN)], &impatient_rules(lab)?)?;
    prometheus.wait_for("count(up == 1) == 2")?;
    traffic(lab)?;
    // Two more scrapes, and a count of the maps.
    std::thread::sleep(Duration::from_secs(6));
    let quiet = prometheus.alerts()?;
    assert!(quiet.is_empty(), "in the good state: {quiet:?}");
    // A gateway behind a NAT that changes its port.
    let refused = Call::from(Host::NatPort).run(lab)?;
    assert!(refused.all_refused(), "{refused:?}");
    prometheus.wait_for("ALERTS{alertname=\"SipauthGatewayCutOff\",gateway=\"nat-port\",alertstate=\"firing\"}")?;

    let mut empty = Vec::new();
    for (what, expression) in expressions()? {
        let series = prometheus.query(&expression)?;
        if !series.iter().any(|(_, value)| value.is_finite()) {
            empty.push(format!("{what}: {expression}"));
        }
    }
    assert!(empty.is_empty(), "without data:\n{}", empty.join("\n"));
    assert_same(lab, &prometheus, agent)?;

    agent.stop()?;
    prometheus.wait_for("ALERTS{alertname=\"SipauthAgentDown\",alertstate=\"firing\"}")?;
    let firing: BTreeSet<String> = prometheus.alerts()?.into_iter().collect();
    assert_eq!(
        firing,
        ["SipauthAgentDown", "SipauthGatewayCutOff"].map(str::to_owned).into(),
        "and no others"
    );
    Ok(())
}

/// Both jobs have the same series, the counters are what `stats` says, and types are known in both formats.
fn assert_same(lab: &Lab, prometheus: &Prometheus<'_>, agent: &Agent<'_>) -> anyhow::Result<()> {
    let count = |job: &str| prometheus.query(&format!("count({{job=\"{job}\",__name__=~\"sipauth_.*|process_.*\"}})"));
    let (open, plain) = (count("sipauth")?, count("plain")?);
    assert_eq!(
        open[0].1.to_bits(),
        plain[0].1.to_bits(),
        "series of both formats: {open:?} {plain:?}"
    );
    assert!(open[0].1 > 150.0, "{open:?}");
    let one = |expression: &str| -> anyhow::Result<f64> { Ok(prometheus.query(expression)?.first().context("no series")?.1) };
    let stats = agent.stats()?;
    for job in ["sipauth", "plain"] {
        for (expression, expected) in [
            (
                format!("sipauth_packets_total{{reason=\"ip_match\",job=\"{job}\"}}"),
                stats.reason("ip_match"),
            ),
            (
                format!("sipauth_authentication_total{{outcome=\"authenticated\",job=\"{job}\"}}"),
                stats.authentication("authenticated"),
            ),
            (
                format!("sipauth_gateway_packets_total{{gateway=\"carrier-port\",verdict=\"pass\",job=\"{job}\"}}"),
                stats.gateway("carrier-port", "pass"),
            ),
            (format!("sipauth_gateways{{mode=\"ip-port\",job=\"{job}\"}}"), 2),
            (format!("sipauth_map_entries{{map=\"hosts_v4\",job=\"{job}\"}}"), 5),
        ] {
            let value = one(&expression)?;
            assert!(
                expected > 0 && (value - expected as f64).abs() < 0.5,
                "{expression}: {value}, not {expected}"
            );
        }
    }
    // The 30 calls over UDP with right credentials; on a slow machine some were sent again.
    let released = one("sum(sipauth_agent_latency_seconds_count{action=\"release\",job=\"sipauth\"})")?;
    assert!(released >= 30.0, "{released}");
    for (name, kind) in [("sipauth_packets_total", "counter"), ("sipauth_agent_latency_seconds", "histogram")] {
        let metadata = prometheus.api(&format!("/api/v1/metadata?metric={name}"))?;
        assert_eq!(metadata[name][0]["type"], kind, "{metadata}");
    }
    let (head, text) = fetch(lab, METRICS, "/metrics", "")?;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let (head, _) = fetch(lab, METRICS, "/readyz", "")?;
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    // Prometheus' own linter, of names, types and help texts.
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(&mut check.stdin.take().context("no stdin")?, text.as_bytes())?;
    let out = check.wait_with_output()?;
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat())
    );
    Ok(())
}

/// Gateways in the store.
const MANY: u32 = 10_000;

#[test]
fn a_scrape_with_10_000_gateways_and_full_maps_is_quick_and_tells_how_full_they_are() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let metrics = METRICS.to_string();
    let sizes = ["--max-flows", "262144", "--max-peers", "65536", "--max-bans", "131072"];
    let agent = Agent::start(&lab, &[&["--metrics", &metrics], &sizes[..]].concat())?;
    let gateways: String = (0..MANY)
        .map(|n| {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
            format!("[[gateway]]\nname = \"gateway-{n}\"\nmode = \"ip\"\naddresses = [\"{address}\"]\n")
        })
        .collect();
    let file = agent.state().join("gateways.toml");
    std::fs::write(&file, gateways)?;
    agent.json(&["apply", "-f", &file.display().to_string()])?;
    fill(&agent)?;
    let value = |text: &str, series: &str| -> anyhow::Result<f64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series))
            .with_context(|| series.to_owned())?;
        Ok(line.trim().parse()?)
    };
    let begin = Instant::now();
    let text = loop {
        let (_, text) = fetch(&lab, METRICS, "/metrics", "")?;
        // They were filled last, so what was counted before them was full.
        if value(&text, "sipauth_map_entries{map=\"bans\"}")? > 120_000.0 {
            break text;
        }
        assert!(begin.elapsed() < Duration::from_secs(40), "the bans have not been counted");
        std::thread::sleep(Duration::from_millis(500));
    };
    for (series, least) in [
        ("sipauth_map_entries{map=\"hosts_v4\"}", f64::from(MANY)),
        ("sipauth_map_entries{map=\"peers\"}", 60_000.0),
        ("sipauth_map_entries{map=\"flows\"}", 200_000.0),
        ("sipauth_flows{transport=\"udp\"}", 200_000.0),
        ("sipauth_peers", 60_000.0),
    ] {
        assert!(value(&text, series)? >= least, "{series}: {}", value(&text, series)?);
    }
    // Bans that are over are entries still.
    assert_eq!(value(&text, "sipauth_bans{cause=\"failures\"}")?.to_bits(), 0.0_f64.to_bits());
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series > MANY as usize * 6, "{series} series");
    let release = sipauth_tests::agent::binary()?
        .components()
        .any(|part| part.as_os_str() == "release");
    // A debug build takes far longer, and its figure says nothing.
    let (limit, times) = if release {
        (Duration::from_millis(50), 20)
    } else {
        (Duration::from_secs(5), 3)
    };
    for (what, accept) in [("text", ""), ("OpenMetrics", "Accept: application/openmetrics-text\r\n")] {
        let times: Vec<Duration> = (0..times)
            .map(|_| {
                let begin = Instant::now();
                fetch(&lab, METRICS, "/metrics", accept).map(|_| begin.elapsed())
            })
            .collect::<anyhow::Result<_>>()?;
        let (best, worst) = (times.iter().min().context("none")?, times.iter().max().context("none")?);
        println!("{what}: {series} series, {} KiB, in {best:.1?} to {worst:.1?}", text.len() / 1024);
        assert!(*best < limit, "{what}: {best:?}");
    }
    let cpu = value(&fetch(&lab, METRICS, "/metrics", "")?.1, "process_cpu_seconds_total")?;
    let begin = Instant::now();
    std::thread::sleep(Duration::from_secs(12));
    let spent = value(&fetch(&lab, METRICS, "/metrics", "")?.1, "process_cpu_seconds_total")? - cpu;
    println!(
        "counting full maps takes {:.1} % of a core",
        100.0 * spent / begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// As many flows, peers and bans as there is room for; the bans are over.
fn fill(agent: &Agent<'_>) -> anyhow::Result<()> {
    let pins = Pins::at(agent.bpffs());
    let maps = datapath::load(Some(&pins), &Sizes::kept(|map| pins.entries(map)))?.maps;
    let now = datapath::monotonic_ns();
    let address = |n: u32| Address::from_v4((0x0b00_0000 + n).to_be());
    for n in 0..maps.capacity(abi::MAP_FLOWS) {
        let key = FlowKey {
            address: address(n),
            port: 5060,
            protocol: UDP,
            reserved: 0,
        };
        let flow = Flow {
            expires: u64::MAX,
            seen: now,
            gateway: 1,
            registering: 0,
        };
        maps.put_flow(&key, &flow)?;
    }
    for n in 0..maps.capacity(abi::MAP_PEERS) {
        maps.put_peer(&address(n), now)?;
    }
    for n in 0..maps.capacity(abi::MAP_BANS) {
        let over = Ban {
            expires: 1,
            port: 0,
            cause: 2,
            reserved: 0,
        };
        maps.put_ban(&address(n), &over)?;
    }
    Ok(())
}
