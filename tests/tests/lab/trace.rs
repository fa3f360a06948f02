//! `sipauth trace`: the dialogue of one gateway as it happens.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;
use sipauth_tests::agent::{Agent, binary};
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, SIP_PORT, Uas, Via};
use sipauth_tests::require_root;

use crate::phone::{Phone, exchange};
use crate::support::{PASSWORD, add, digest, lab};

/// A trace that runs.
struct Trace {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    /// What it said first.
    notes: String,
}

impl Trace {
    fn start(agent: &Agent<'_>, options: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary()?);
        command
            .arg("--socket")
            .arg(agent.socket())
            .args(["trace", "--json", "--for", "30s"])
            .args(options);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("no output")?;
        let mut trace = Self {
            child,
            lines: BufReader::new(out).lines(),
            notes: String::new(),
        };
        let begin = trace.next()?;
        assert_eq!(begin["kind"], "begin");
        trace.notes = begin["notes"].to_string();
        Ok(trace)
    }

    fn next(&mut self) -> anyhow::Result<Value> {
        let line = self.lines.next().context("the trace has ended")??;
        Ok(serde_json::from_str(&line)?)
    }

    /// What is left, once it ends by itself.
    fn finish(mut self) -> anyhow::Result<Vec<Value>> {
        let rest = self
            .lines
            .by_ref()
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(self.child.wait()?.success());
        Ok(rest)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a field is right, by its name.
fn judged(line: &Value, field: &str) -> Option<bool> {
    let fields = line["fields"].as_array()?;
    fields.iter().find(|one| one["field"] == field)?["right"].as_bool()
}

#[test]
fn a_trace_judges_every_field_and_its_capture_has_no_secret() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    add(&agent, Host::CarrierIp)?;
    let capture = agent.state().join("dialogue.pcap");
    let file = capture.to_str().context("a path")?;
    let mut trace = Trace::start(&agent, &[Host::PbxPassword.name(), "--count", "4", "--pcap", file])?;
    let ask =
        |phone: &Phone, cseq: u32, credentials: &str| exchange(&lab, Host::PbxPassword, 5070, &phone.invite("told", cseq, credentials));

    let wrong = Phone::new(Host::PbxPassword.name(), "not it");
    let (_, challenge) = ask(&wrong, 1, "")?;
    let guess = wrong.credentials(&challenge)?;
    ask(&wrong, 2, &guess)?;
    ask(&wrong, 3, &guess.replace("realm=\"sipauth\"", "realm=\"asterisk\""))?;
    let right = Phone::new(Host::PbxPassword.name(), PASSWORD).credentials(&challenge)?;
    ask(&wrong, 4, &right)?;

    let first = trace.next()?;
    assert_eq!(
        (first["method"].as_str(), first["credentials"].as_bool()),
        (Some("INVITE"), Some(false)),
        "{first}"
    );
    assert_eq!(
        (first["call_id"].as_str(), first["outcome"].as_str()),
        (Some("told@phone.invalid"), Some("challenged")),
        "{first}"
    );
    assert_eq!(first["reply"], "SIP/2.0 401 Unauthorized", "{first}");
    assert!(
        first["challenges"][0]
            .as_str()
            .is_some_and(|text| text.contains("realm=\"sipauth\"") && !text.contains("nonce")),
        "{first}"
    );
    let guessed = trace.next()?;
    assert_eq!(guessed["gateway"], Host::PbxPassword.name(), "{guessed}");
    for (field, expected) in [
        ("username", true),
        ("realm", true),
        ("algorithm", true),
        ("qop", true),
        ("nonce", true),
        ("nc", true),
        ("uri", true),
        ("response", false),
    ] {
        assert_eq!(judged(&guessed, field), Some(expected), "{field}: {guessed}");
    }
    let realm = trace.next()?;
    assert_eq!(
        (judged(&realm, "realm"), judged(&realm, "uri")),
        (Some(false), Some(true)),
        "{realm}"
    );
    let admitted = trace.next()?;
    assert_eq!(
        (judged(&admitted, "response"), admitted["action"].as_str()),
        (Some(true), Some("release")),
        "{admitted}"
    );
    assert_eq!(trace.finish()?, Vec::<Value>::new(), "it ends with its count");
    let told = format!("{first}{guessed}{realm}{admitted}");
    for secret in [response_of(&guess)?, response_of(&right)?] {
        assert!(!told.contains(secret), "{told}");
        assert!(!String::from_utf8_lossy(&std::fs::read(&capture)?).contains(secret));
    }
    let shown = read_capture(&capture)?;
    for (words, count) in [
        ("INVITE sip:100@", 4),
        ("SIP/2.0 401", 3),
        ("response=\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"", 3),
        ("bad udp", 0),
    ] {
        assert_eq!(shown.matches(words).count(), count, "{words}:\n{shown}");
    }
    assert!(shown.contains("203.0.113.23.5070 > 203.0.113.10.5060"), "{shown}");
    Ok(())
}

/// What proves the password.
fn response_of(credentials: &str) -> anyhow::Result<&str> {
    credentials
        .split("response=\"")
        .nth(1)
        .and_then(|rest| rest.get(..32))
        .context("no response")
}

/// The packets and their text, as tcpdump reads them.
fn read_capture(file: &Path) -> anyhow::Result<String> {
    let out = Command::new("tcpdump").args(["-n", "-vv", "-r"]).arg(file).output()?;
    anyhow::ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn a_trace_tells_its_own_subject_only_and_what_the_kernel_program_refuses() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    add(&agent, Host::PbxPassword)?;
    add(&agent, Host::CarrierPort)?;
    let nobody = agent.cli(&["trace", "no-such-gateway"])?;
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.stderr.contains("gateway list"), "{nobody:?}");

    let mut port = Trace::start(&agent, &[Host::CarrierPort.name(), "--count", "1"])?;
    assert!(port.notes.contains("only refusals are seen"), "{}", port.notes);
    // Who may call from anywhere is known by the username; what came before it in the same call is told then.
    let mut roaming = Trace::start(&agent, &["roaming", "--count", "2"])?;
    assert!(digest(Host::PbxPassword).run(&lab)?.all_answered(), "another gateway's call");
    assert!(Call::from(Host::Stranger).digest("roaming", PASSWORD).run(&lab)?.all_answered());
    assert!(Call::from(Host::CarrierPort).port(5099).run(&lab)?.all_refused());

    let refusal = port.next()?;
    assert_eq!(
        (refusal["kind"].as_str(), refusal["reason"].as_str()),
        (Some("refusal"), Some("port_mismatch")),
        "{refusal}"
    );
    let (challenged, admitted) = (roaming.next()?, roaming.next()?);
    assert_eq!(
        (challenged["outcome"].as_str(), admitted["outcome"].as_str()),
        (Some("challenged"), Some("authenticated")),
        "{challenged} {admitted}"
    );
    assert_eq!(challenged["call_id"], admitted["call_id"]);

    let mut tcp = Trace::start(&agent, &[&Host::PbxPassword.v4().to_string(), "--count", "2"])?;
    assert!(digest(Host::PbxPassword).via(Via::Tcp4).run(&lab)?.all_answered());
    let over_tcp = tcp.next()?;
    assert_eq!(
        (over_tcp["transport"].as_str(), over_tcp["outcome"].as_str()),
        (Some("tcp"), Some("challenged")),
        "{over_tcp}"
    );
    Ok(())
}

#[test]
fn a_trace_of_a_flood_is_bounded_and_says_what_it_left_out() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let mut trace = Trace::start(&agent, &[Host::PbxPassword.name()])?;
    let before = agent.stats()?.authentication("challenged");
    let invite = Phone::new(Host::PbxPassword.name(), PASSWORD).invite("flood", 1, "");
    lab.inside(Host::PbxPassword, || {
        let socket = UdpSocket::bind(SocketAddr::from((Host::PbxPassword.v4(), 5070)))?;
        for n in 0..1_500 {
            socket.send_to(invite.as_bytes(), (Host::Softswitch.v4(), SIP_PORT))?;
            if n % 100 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        Ok(())
    })?;
    let (mut told, mut lost) = (0, 0);
    while lost == 0 {
        let line = trace.next()?;
        match line["kind"].as_str() {
            Some("message") => told += 1,
            Some("lost") => lost = line["count"].as_u64().context("no count")?,
            other => anyhow::bail!("{other:?}"),
        }
        assert!(told <= 1_000, "not bounded");
    }
    let challenged = agent.stats()?.authentication("challenged") - before;
    assert!(challenged >= told + lost, "the flood itself was dealt with: {challenged}");
    Ok(())
}
