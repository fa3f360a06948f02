//! Host names as addresses of gateways, with a real name server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sipauth_tests::agent::{Agent, binary};
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, add, assert_refused, assert_refused_by_agent, lab, observe};

const NAME: &str = "sip.carrier.example";
/// Longer than the shortest time for which an answer is used, 30 s.
const A_ROUND: Duration = Duration::from_secs(50);

/// dnsmasq, authoritative for `example`, with a TTL of one second, in the namespace of the routing gateway.
struct NameServer {
    child: Child,
    hosts: PathBuf,
}

impl NameServer {
    fn start(lab: &Lab, records: &[(Host, &str)]) -> anyhow::Result<Self> {
        let hosts = lab.state().join("dns-hosts");
        write(&hosts, records)?;
        let mut command = lab.command(Host::ProviderPeer, "dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file=",
        ]);
        command.args(["--local=/example/", "--local-ttl=1", "--bind-interfaces"]);
        command.arg(format!("--listen-address={}", Host::ProviderPeer.v4()));
        command.arg(format!("--addn-hosts={}", hosts.display()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("dnsmasq")?;
        Ok(Self { child, hosts })
    }

    /// Other records from now on.
    fn change(&self, records: &[(Host, &str)]) -> anyhow::Result<()> {
        write(&self.hosts, records)?;
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGHUP)?)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &PathBuf, records: &[(Host, &str)]) -> anyhow::Result<()> {
    let lines = records.iter().map(|(host, name)| format!("{} {name}\n", host.seen_v4()));
    let odd = "127.0.0.1 loop.example\n0.0.0.0 zero.example\n";
    Ok(std::fs::write(path, lines.collect::<String>() + odd)?)
}

/// An agent that asks this name server: in a mount namespace of its own, since resolv.conf is one for the whole machine.
fn agent<'a>(lab: &'a Lab, options: &[&str]) -> anyhow::Result<Agent<'a>> {
    let resolv = lab.state().join("resolv.conf");
    std::fs::write(
        &resolv,
        format!("nameserver {}\noptions timeout:1 attempts:1\n", Host::ProviderPeer.v4()),
    )?;
    let script = lab.state().join("sipauth-with-dns");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc/resolv.conf && exec {} \"$@\"' sipauth \"$@\"\n",
        resolv.display(),
        binary()?.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let mut agent = Agent::prepare(lab, options)?.with_binary(script);
    agent.restart()?;
    Ok(agent)
}

/// Until it holds, at most a round.
fn until(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !holds()? {
        anyhow::ensure!(begun.elapsed() < A_ROUND, "{what}: not after {A_ROUND:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("{what}: after {:?}", begun.elapsed());
    Ok(())
}

fn passes(lab: &Lab, agent: &Agent<'_>, host: Host) -> anyhow::Result<()> {
    let (outcome, moved) = observe(lab, agent, &Call::from(host))?;
    assert!(outcome.all_answered() && moved.reason("ip_match") >= 3, "{outcome:?} {moved:?}");
    Ok(())
}

#[test]
fn a_host_name_is_followed_where_it_goes_and_stays_where_it_was_when_nobody_answers() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let server = NameServer::start(&lab, &[(Host::CarrierIp, NAME)])?;
    let mut agent = agent(&lab, &[])?;
    agent.add("fixed", "ip", &["--address", &Host::CarrierPort.v4().to_string()])?;
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;
    until("the name server answers", || {
        let added = agent.cli(&["gateway", "add", "carrier", "--mode", "ip", "--address", "SIP.Carrier.Example"])?;
        Ok(added.code == 0)
    })?;
    let shown = agent.cli(&["gateway", "list"])?.stdout;
    assert!(shown.contains("sip.carrier.example (203.0.113.21)"), "{shown}");
    passes(&lab, &agent, Host::CarrierIp)?;
    assert_refused(&lab, &agent, &Call::from(Host::Stranger), "unknown_source")?;

    // What is not to be trusted is refused, with its name and a remedy, and nothing is added.
    for (name, words) in [
        ("nothere.example", "there is no such name"),
        ("loop.example", "127.0.0.1"),
        ("zero.example", "0.0.0.0"),
    ] {
        let refused = agent.cli(&["gateway", "add", "wrong", "--mode", "ip", "--address", name])?;
        assert!(
            refused.code == 2 && refused.stderr.contains(name) && refused.stderr.contains(words) && refused.stderr.contains("resolv.conf"),
            "{refused:?}"
        );
    }
    assert_eq!(agent.json(&["gateway", "list"])?.as_array().map(Vec::len), Some(2));

    // The record moves: the new address passes, the old one does not, and the neighbour was not touched.
    server.change(&[(Host::Stranger, NAME)])?;
    let stranger = Host::Stranger.v4().to_string();
    until("the new address is enforced", || Ok(agent.explain(&[&stranger])?.1 == "ip_match"))?;
    passes(&lab, &agent, Host::Stranger)?;
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;
    passes(&lab, &agent, Host::CarrierPort)?;
    let audit = std::fs::read_to_string(agent.state().join("log/audit.jsonl"))?;
    let moved: Vec<serde_json::Value> = audit
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|entry: &serde_json::Value| entry["action"] == "host-names")
        .collect();
    assert_eq!(moved.len(), 1, "{audit}");
    let what = serde_json::json!({
        "names": [{"name": NAME, "before": [Host::CarrierIp.v4().to_string()], "after": [stranger]}],
        "gateways": ["carrier"],
    });
    assert_eq!(
        (&moved[0]["what"], moved[0]["command"].as_str(), moved[0]["result"].as_str()),
        (&what, Some("dns"), Some("done"))
    );
    let exported = agent.cli(&["export"])?.stdout;
    assert!(
        exported.contains("# sip.carrier.example is 198.51.100.66 now") && exported.contains("addresses = [\"sip.carrier.example\"]"),
        "{exported}"
    );

    // Nobody answers: what was known last stays, also for the next agent, and it is said.
    drop(server);
    until("the failure is noticed", || {
        Ok(agent.json(&["status"])?["host_names_failing"][0]["name"] == NAME)
    })?;
    passes(&lab, &agent, Host::Stranger)?;
    agent.stop()?;
    agent.restart()?;
    passes(&lab, &agent, Host::Stranger)?;
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;
    until("the next agent notices too", || {
        Ok(agent.cli(&["status"])?.stdout.contains("1, of which 1 cannot be resolved now"))
    })?;
    let shown = agent.cli(&["gateway", "show", "carrier"])?.stdout;
    assert!(shown.contains("its last answer stays in force: 198.51.100.66"), "{shown}");
    // A list that has the name is applied without a question.
    let file = agent.state().join("exported.toml");
    std::fs::write(&file, &exported)?;
    let applied = agent.cli(&["apply", "-f", &file.display().to_string()])?;
    assert!(applied.stdout.contains("0 added, 0 changed, 0 removed, 2 unchanged"), "{applied:?}");
    Ok(())
}

#[test]
fn credentials_are_taken_from_where_the_host_name_points_alone() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _server = NameServer::start(&lab, &[(Host::PbxPassword, "pbx.example")])?;
    let agent = agent(&lab, &["--default-policy", "challenge"])?;
    let add = [
        "gateway",
        "add",
        "pbx",
        "--mode",
        "password",
        "--username",
        "pbx",
        "--password-stdin",
        "--address",
        "pbx.example",
    ];
    until("the name server answers", || {
        Ok(agent.cli_with_input(&add, &format!("{PASSWORD}\n"))?.code == 0)
    })?;
    let right = |host| Call::from(host).digest("pbx", PASSWORD);
    assert!(observe(&lab, &agent, &right(Host::PbxPassword))?.0.all_answered());
    assert_refused_by_agent(&lab, &agent, &right(Host::NatPassword), "wrong_address")?;
    Ok(())
}

#[test]
fn whoever_answers_for_a_name_cannot_change_what_another_gateway_may_do() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let server = NameServer::start(&lab, &[(Host::Stranger, NAME)])?;
    let agent = agent(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    agent.add("wide", "ip", &["--address", "203.0.113.16/28"])?;
    passes(&lab, &agent, Host::CarrierIp)?;
    until("the name server answers", || {
        let added = agent.cli(&["gateway", "add", "named", "--mode", "ip", "--address", NAME])?;
        Ok(added.code == 0)
    })?;
    let status = || Ok::<_, anyhow::Error>(agent.cli(&["status"])?.stdout);

    // The address of a gateway that has to prove a password, for one that need not.
    server.change(&[(Host::PbxPassword, NAME)])?;
    until("a weaker mode is held back", || Ok(status()?.contains(Host::PbxPassword.name())))?;
    assert_refused_by_agent(&lab, &agent, &Call::from(Host::PbxPassword), "challenged")?;
    passes(&lab, &agent, Host::Stranger)?;

    // An address out of another gateway's network, for one that may not call in.
    assert_eq!(agent.cli(&["gateway", "set", "named", "--mode", "peer"])?.code, 0);
    server.change(&[(Host::CarrierIp, NAME)])?;
    until("a part of another network is held back", || {
        Ok(status()?.contains("wide at 203.0.113.16/28"))
    })?;
    passes(&lab, &agent, Host::CarrierIp)?;

    server.change(&[(Host::Stranger, NAME)])?;
    until("all is well again", || Ok(!status()?.contains("wide at 203.0.113.16/28")))
}
