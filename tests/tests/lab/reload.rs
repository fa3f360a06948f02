//! Settings that change while calls flow: `sipauth reload` and SIGHUP.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, add, assert_refused, assert_refused_by_agent, digest, lab};

/// A configuration file of this test alone.
fn file(lab: &Lab, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = lab.state().join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Sends SIGHUP and waits until the log has these words.
fn hang_up(agent: &Agent<'_>, words: &str) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(agent.pid().unwrap_or_default())?);
    kill(pid, Signal::SIGHUP)?;
    let begin = Instant::now();
    while !agent.log_tail().contains(words) {
        ensure!(begin.elapsed() < Duration::from_secs(5), "no {words:?} in\n{}", agent.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_reload_puts_settings_into_force_under_load_and_names_those_that_need_a_restart() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let path = file(&lab, "reload.toml", "realm = \"one\"\n")?;
    let agent = Agent::start(&lab, &["--config", &path.to_string_lossy(), "--ban-limit", "0"])?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::PbxPassword)?;
    let stranger = Call::from(Host::Stranger);
    assert_refused(&lab, &agent, &stranger, "unknown_source")?;

    let load = Call::from(Host::CarrierIp).times(160, 40).start(&lab)?;
    std::thread::sleep(Duration::from_millis(500));
    file(
        &lab,
        "reload.toml",
        "realm = \"one\"\nmonitor = true\npunt-port = 40000\nban-limit = 9\nmetrics = \"127.0.0.1:1\"\n",
    )?;
    let said = agent.cli(&["reload"])?;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (
            0,
            "applied: monitor\nneeds a restart: punt-port, metrics\noverruled by a flag of `sipauth run`: ban-limit\n"
        ),
        "{said:?}"
    );
    assert!(stranger.run(&lab)?.all_answered(), "monitor mode passes a stranger");
    let status = agent.cli(&["status"])?;
    assert!(status.code == 1 && status.stdout.contains("monitor mode"), "{status:?}");

    file(&lab, "reload.toml", "realm = \"one\"\nreply-unauthorized = true\n")?;
    // Not before: in monitor mode nobody is challenged.
    let report = agent.json(&["reload"])?;
    let proven = digest(Host::PbxPassword).times(40, 40).start(&lab)?;
    assert_eq!(report["applied"], serde_json::json!(["monitor", "reply-unauthorized"]));
    assert_eq!(report["restart"], serde_json::json!([]));
    let outcome = stranger.run(&lab)?;
    assert_eq!(outcome.rejected, 1, "answered 403 now: {outcome:?}");
    for lifetime in ["200s", "100s", "200s"] {
        let text = format!("realm = \"one\"\nreply-unauthorized = true\n[digest]\nnonce-lifetime = \"{lifetime}\"\n");
        file(&lab, "reload.toml", &text)?;
        assert_eq!(agent.cli(&["reload"])?.stdout, "applied: digest.nonce-lifetime\n");
    }
    for (what, calls) in [("mode ip", load), ("mode password", proven)] {
        let outcome = calls.finish()?;
        assert!(outcome.all_answered(), "{what}: {outcome:?}");
        assert_eq!(outcome.retransmissions, 0, "{what}: not one packet is lost: {outcome:?}");
    }
    let again = agent.cli(&["reload"])?;
    assert_eq!(again.stdout, "nothing changed that can be applied while the agent runs\n");
    Ok(())
}

#[test]
fn a_reload_reaches_the_workers() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let path = file(&lab, "workers.toml", "[digest]\nqop = \"auth\"\n")?;
    let agent = Agent::start(&lab, &["--config", &path.to_string_lossy()])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    let call = Call::from(Host::Stranger).digest("roaming", PASSWORD);
    for via in [Via::Udp4, Via::Tcp4] {
        assert!(call.clone().via(via).run(&lab)?.all_answered(), "{}", via.label());
    }
    file(&lab, "workers.toml", "realm = \"another\"\n[digest]\nqop = \"both\"\n")?;
    let said = agent.cli(&["reload"])?;
    assert_eq!(said.stdout, "applied: realm, digest.qop\n", "{said:?}");
    assert!(
        said.stderr.contains("roaming") && said.stderr.contains("realm"),
        "who cannot call any more is named: {said:?}"
    );
    for via in [Via::Udp4, Via::Tcp4] {
        let call = call.clone().via(via).port(5070);
        assert_refused_by_agent(&lab, &agent, &call, "realm_mismatch")?;
    }
    file(&lab, "workers.toml", "")?;
    assert_eq!(agent.cli(&["reload"])?.code, 0);
    assert!(call.clone().port(5071).run(&lab)?.all_answered(), "as it was");
    Ok(())
}

#[test]
fn a_bad_file_is_named_with_line_and_key_and_changes_nothing() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let path = file(&lab, "bad.toml", "monitor = true\n")?;
    let agent = Agent::start(&lab, &["--config", &path.to_string_lossy()])?;
    for (text, words) in [
        ("monitor = false\nban-tme = \"1s\"\n", "bad.toml:2: unknown field `ban-tme`"),
        (
            "monitor = false\n\nban-time = \"1y\"\n",
            "bad.toml:3: ban-time: \"1y\" is not a time",
        ),
        ("monitor = maybe\n", "bad.toml:1:"),
    ] {
        file(&lab, "bad.toml", text)?;
        let said = agent.cli(&["reload"])?;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(
            said.stderr.contains(words) && said.stderr.contains("nothing was applied"),
            "{said:?}"
        );
        assert!(Call::from(Host::Stranger).run(&lab)?.all_answered(), "still in monitor mode");
    }
    std::fs::remove_file(&path)?;
    let said = agent.cli(&["reload"])?;
    assert!(said.code == 2 && said.stderr.contains("bad.toml"), "{said:?}");
    Ok(())
}

#[test]
fn sighup_reloads_and_logs_the_result() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let path = file(&lab, "hangup.toml", "")?;
    let agent = Agent::start(&lab, &["--config", &path.to_string_lossy()])?;
    let stranger = Call::from(Host::Stranger);
    assert!(stranger.run(&lab)?.all_refused());
    file(&lab, "hangup.toml", "default-policy = \"allow\"\nxdp-mode = \"generic\"\n")?;
    hang_up(&agent, "{\"applied\":[\"default-policy\"]")?;
    hang_up(&agent, "only after a restart settings=\"xdp-mode\"")?;
    assert!(stranger.run(&lab)?.all_answered(), "the policy is in force");
    file(&lab, "hangup.toml", "default-policy = \"nobody\"\n")?;
    hang_up(&agent, "hangup.toml:1:")?;
    assert!(stranger.run(&lab)?.all_answered(), "and stays");
    file(&lab, "hangup.toml", "default-policy = \"deny\"\n")?;
    hang_up(&agent, "{\"applied\":[\"default-policy\"]")?;
    // The log has these words from before, so wait for what follows from them.
    let begin = Instant::now();
    while agent.json(&["status"])?["default_policy"] != "deny" {
        ensure!(begin.elapsed() < Duration::from_secs(5), "{}", agent.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stranger.run(&lab)?.all_refused());
    Ok(())
}
