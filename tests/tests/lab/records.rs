//! Records of real refused calls, and what becomes of them where they cannot be written.

use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, add, digest, lab};

/// All records so far; those that are open are written when the agent stops.
fn records(agent: &mut Agent<'_>) -> anyhow::Result<Vec<Value>> {
    agent.stop()?;
    let text = std::fs::read_to_string(agent.state().join("log/records.jsonl")).unwrap_or_default();
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// The record with this reason and method, which is the only one.
fn one<'r>(records: &'r [Value], reason: &str, method: &str) -> anyhow::Result<&'r Value> {
    let mut all = records
        .iter()
        .filter(|record| record["reason"] == reason && record["method"] == method);
    let first = all.next().with_context(|| format!("no {reason} in {records:#?}"))?;
    ensure!(all.next().is_none(), "more than one {reason} in {records:#?}");
    Ok(first)
}

#[test]
fn every_kind_of_refused_call_has_its_record_and_no_other_call_has() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &[])?;
    for host in [
        Host::CarrierIp,
        Host::CarrierPort,
        Host::PbxPassword,
        Host::ProviderPeer,
        Host::NatPassword,
    ] {
        add(&agent, host)?;
    }
    let plain = Call::from(Host::PbxPassword);
    // No refusals: answered, challenged and never answered, and what is no call.
    assert!(Call::from(Host::CarrierIp).run(&lab)?.all_answered());
    assert!(digest(Host::PbxPassword).run(&lab)?.all_answered());
    assert!(plain.clone().port(5080).run(&lab)?.all_refused());
    assert!(Call::from(Host::Stranger).options().run(&lab)?.all_refused());
    let none = records(&mut agent)?;
    assert!(none.is_empty(), "{none:#?}");
    agent.restart()?;

    let unknown = Call::from(Host::Stranger).run(&lab)?;
    assert!(Call::from(Host::Stranger).via(Via::Tcp4).run(&lab)?.all_refused());
    assert!(Call::from(Host::CarrierPort).port(5099).run(&lab)?.all_refused());
    let user = Host::PbxPassword.name();
    for (port, via, call) in [
        (5081, Via::Udp4, plain.clone().digest(user, "wrong")),
        (5082, Via::Tcp4, plain.clone().digest("nobody", PASSWORD)),
        (5083, Via::Udp6, plain.clone().digest(Host::NatPassword.name(), PASSWORD)),
        (5084, Via::Udp4, plain.clone().register(user, "wrong")),
        (5060, Via::Udp4, Call::from(Host::ProviderPeer)),
    ] {
        assert!(call.via(via).port(port).run(&lab)?.all_refused());
    }
    lab.inside(Host::PbxPassword, || {
        let socket = UdpSocket::bind((Host::PbxPassword.v4(), 5085))?;
        let broken = b"INVITE sip:100@lab SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.23:5085;branch=z9hG4bK7\r\nFrom: <sip:\xff@lab>;tag=1\r\n\
            To: <sip:100@lab>\r\nCall-ID: broken@lab\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n";
        socket.send_to(broken, (Host::Softswitch.v4(), 5060))?;
        Ok(())
    })?;
    assert_eq!(agent.cli(&["ban", "add", &Host::NatPort.seen_v4().to_string()])?.code, 0);
    assert!(Call::from(Host::NatPort).run(&lab)?.all_refused());
    std::thread::sleep(Duration::from_millis(200));

    let all = records(&mut agent)?;
    for (reason, method, gateway, transport, code, cause, sampled) in [
        ("unknown_source", "INVITE", None, "udp", None, 57, true),
        ("port_mismatch", "INVITE", Some(Host::CarrierPort.name()), "udp", None, 57, true),
        ("wrong_password", "INVITE", Some(user), "udp", Some(401), 21, false),
        ("wrong_password", "REGISTER", Some(user), "udp", Some(401), 21, false),
        ("unknown_user", "INVITE", Some(user), "tcp", Some(401), 21, false),
        (
            "wrong_address",
            "INVITE",
            Some(Host::NatPassword.name()),
            "udp",
            Some(401),
            57,
            false,
        ),
        (
            "peer_initial",
            "INVITE",
            Some(Host::ProviderPeer.name()),
            "udp",
            Some(403),
            55,
            false,
        ),
        ("bad_request", "INVITE", Some(user), "udp", Some(400), 111, false),
        ("banned", "INVITE", None, "udp", None, 21, true),
    ] {
        let record = one(&all, reason, method)?;
        let said = [
            &record["gateway"],
            &record["transport"],
            &record["code"],
            &record["cause"],
            &record["sampled"],
        ];
        let wanted = [json!(gateway), json!(transport), json!(code), json!(cause), json!(sampled)];
        assert_eq!(said, wanted.each_ref(), "{record}");
        let call_id = record["call_id"].as_str();
        assert!(call_id.map_or(sampled, |id| id.contains('@')), "{record}");
        assert!(record["uri"].as_str().is_some_and(|uri| uri.starts_with("sip:")), "{record}");
        assert_eq!(
            record["detail"].is_string(),
            reason.contains("wrong") || reason == "unknown_user",
            "{record}"
        );
    }
    assert_eq!(all.len(), 9, "{all:#?}");
    let stranger = one(&all, "unknown_source", "INVITE")?;
    assert_eq!(
        stranger["count"],
        u64::from(1 + unknown.retransmissions),
        "folded, over TCP there is no request: {stranger}"
    );
    assert_eq!(stranger["source"], format!("{}:5060", Host::Stranger.v4()));
    let directory = agent.state().join("log");
    let shown = agent.cli(&[
        "records",
        "--log-dir",
        &directory.to_string_lossy(),
        "--gateway",
        user,
        "--last",
        "2",
    ])?;
    assert_eq!(shown.stdout.lines().count(), 3, "a header and two of the four: {shown:?}");
    let broken = one(&all, "bad_request", "INVITE")?;
    assert_eq!(
        (&broken["from"], &broken["call_id"]),
        (&json!("<sip:\u{fffd}@lab>;tag=1"), &json!("broken@lab"))
    );
    Ok(())
}

#[test]
fn a_call_that_is_refused_while_the_agent_is_down_is_recorded_by_the_next_one() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    agent.stop()?;
    assert!(Call::from(Host::PbxPassword).run(&lab)?.all_refused());
    agent.restart()?;
    std::thread::sleep(Duration::from_millis(500));
    let all = records(&mut agent)?;
    let down = one(&all, "agent_down", "INVITE")?;
    assert_eq!((&down["cause"], &down["gateway"]), (&json!(41), &json!(Host::PbxPassword.name())));
    Ok(())
}

#[test]
fn answered_refusals_and_those_of_monitor_mode_say_so() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let mut agent = Agent::start(&lab, &["--reply-unauthorized"])?;
    add(&agent, Host::CarrierPort)?;
    assert_eq!(Call::from(Host::Stranger).run(&lab)?.rejected, 1);
    assert_eq!(Call::from(Host::CarrierPort).port(5099).run(&lab)?.rejected, 1);
    let all = records(&mut agent)?;
    for (reason, gateway) in [("unknown_source", None), ("port_mismatch", Some(Host::CarrierPort.name()))] {
        let record = one(&all, reason, "INVITE")?;
        let said = (&record["code"], &record["gateway"], &record["sampled"]);
        assert_eq!(said, (&json!(403), &json!(gateway), &json!(false)), "{record}");
        assert!(
            record["call_id"].is_string() && record["from"].is_string() && record["to"].is_string(),
            "{record}"
        );
    }
    drop(agent);
    let mut agent = Agent::start(&lab, &["--monitor"])?;
    assert!(Call::from(Host::Stranger).run(&lab)?.all_answered());
    std::thread::sleep(Duration::from_millis(200));
    let all = records(&mut agent)?;
    assert_eq!(one(&all, "unknown_source", "INVITE")?["monitored"], true);
    drop(agent);
    let mut agent = Agent::start(&lab, &["--records", "off"])?;
    assert!(Call::from(Host::Stranger).run(&lab)?.all_refused());
    assert_eq!(agent.json(&["status"])?["logs"][0]["target"], "off");
    let said = agent.cli(&["records"])?;
    assert!(said.code == 1 && said.stderr.contains("--records file"), "{said:?}");
    assert!(records(&mut agent)?.is_empty());
    Ok(())
}

/// A file system that is full soon.
struct Tiny(PathBuf);

impl Tiny {
    fn new(at: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
        Ok(Self(at.to_owned()))
    }

    /// Fills it to the last byte.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler)?;
        for piece in [4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        Ok(filler)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_counted_and_said_once_and_calls_go_on_and_records_too_when_there_is_room() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::prepare(&lab, &["--ban-limit", "0"])?.with_binary(sipauth_tests::agent::binary()?);
    let disk = Tiny::new(&agent.state().join("log"))?;
    agent.restart()?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::PbxPassword)?;
    let filler = disk.fill()?;
    let wrong = Call::from(Host::PbxPassword).digest(Host::PbxPassword.name(), "wrong");
    let state = || -> anyhow::Result<(u64, u64, bool)> {
        let status = agent.json(&["status"])?;
        let records = &status["logs"][0];
        let number = |key: &str| records[key].as_u64().context("a number");
        Ok((number("written")?, number("lost")?, records["failing"].is_string()))
    };
    let wait_for = |what: &str, wanted: &dyn Fn((u64, u64, bool)) -> bool| -> anyhow::Result<()> {
        let begin = Instant::now();
        while !wanted(state()?) {
            ensure!(
                begin.elapsed() < Duration::from_secs(25),
                "{what}: {:?}\n{}",
                state()?,
                agent.log_tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    for port in [5081, 5082] {
        // The address is the same, so these are one record.
        assert!(wrong.clone().port(port).run(&lab)?.all_refused());
    }
    assert!(wrong.clone().via(Via::Udp6).run(&lab)?.all_refused());
    wait_for("two records are lost", &|(written, lost, failing)| {
        (written, lost, failing) == (0, 2, true)
    })?;
    assert!(Call::from(Host::CarrierIp).run(&lab)?.all_answered(), "calls go on");
    assert!(digest(Host::PbxPassword).port(5090).run(&lab)?.all_answered(), "calls go on");
    add(&agent, Host::ProviderPeer)?;
    let said = agent.cli(&["status"])?.stdout;
    assert!(
        said.contains("log/records.jsonl, 0 written, 2 lost; the last at ") && said.contains("No space left on device"),
        "{said}"
    );
    let log = agent.log_tail();
    assert_eq!(log.matches("log=\"records\"").count(), 1, "said once: {log}");
    std::fs::remove_file(filler)?;
    assert!(wrong.clone().port(5083).run(&lab)?.all_refused());
    wait_for("one is written", &|(written, lost, failing)| {
        (written, lost, failing) == (1, 2, false)
    })?;
    assert!(agent.log_tail().contains("written again log=\"records\""), "{}", agent.log_tail());
    let all = records(&mut agent)?;
    assert_eq!(one(&all, "wrong_password", "INVITE")?["count"], 1);
    // Nothing of what was lost is there in part.
    let audit = std::fs::read_to_string(agent.state().join("log/audit.jsonl"))?;
    assert_eq!(
        audit.lines().map(serde_json::from_str::<Value>).filter(Result::is_ok).count(),
        audit.lines().count()
    );
    Ok(())
}

#[test]
fn who_is_locked_out_or_sends_too_much_has_a_record_too() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let path = lab.state().join("records.toml");
    std::fs::write(&path, "ban-limit = 1\n[source-rate]\nuntrusted = 1\n")?;
    let mut agent = Agent::start(&lab, &["--config", &path.to_string_lossy()])?;
    add(&agent, Host::PbxPassword)?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    // A listed address is never banned; its username is locked out there.
    for port in 5081..5085 {
        let wrong = Call::from(Host::PbxPassword).digest(Host::PbxPassword.name(), "wrong").port(port);
        assert!(wrong.run(&lab)?.all_refused());
    }
    lab.inside(Host::Stranger, || {
        let socket = UdpSocket::bind((Host::Stranger.v4(), 5060))?;
        for number in 0..50 {
            let invite = format!(
                "INVITE sip:100@lab SIP/2.0\r\nCall-ID: {number}@lab\r\nVia: SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bK{number}\r\n\
                 From: <sip:a@lab>;tag=1\r\nTo: <sip:100@lab>\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
            );
            socket.send_to(invite.as_bytes(), (Host::Softswitch.v4(), 5060))?;
        }
        Ok(())
    })?;
    std::thread::sleep(Duration::from_millis(300));
    let all = records(&mut agent)?;
    let locked = one(&all, "locked_out", "INVITE")?;
    let said = [&locked["code"], &locked["cause"], &locked["gateway"], &locked["termination"]];
    let wanted = [json!(403), json!(21), json!(Host::PbxPassword.name()), json!("caller barred")];
    assert_eq!(said, wanted.each_ref(), "{locked}");
    let rate = one(&all, "source_rate", "INVITE")?;
    assert_eq!((&rate["cause"], &rate["sampled"]), (&json!(42), &json!(true)), "{rate}");
    assert!(
        rate["count"].as_u64().is_some_and(|count| count > 10) && rate["call_id"].is_string(),
        "{rate}"
    );
    Ok(())
}
