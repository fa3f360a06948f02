//! The store is damaged: what is enforced stays, no change is taken, and the remedy that is named works.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas};
use sipauth_tests::require_root;

use crate::support::{add, digest, lab};

const METRICS: &str = "127.0.0.1:9160";

/// Overwrites all pages but the first, which says that it is a database, and what it should have.
fn damage(state: &Path) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).open(state.join("sipauth.db"))?;
    let length = usize::try_from(file.metadata()?.len())?;
    anyhow::ensure!(length > 8192, "the database has {length} bytes only");
    file.write_all_at(&vec![0x5a; length - 4096], 4096)?;
    Ok(())
}

/// The agent is up, and has said that it only keeps what is pinned.
fn keeps_what_is_pinned(line: &str) -> bool {
    line.contains("attached what was pinned")
}

#[test]
fn with_a_damaged_store_what_is_pinned_goes_on_no_change_is_taken_and_the_remedy_works() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &["--metrics", METRICS])?;
    for host in [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword, Host::ProviderPeer] {
        add(&agent, host)?;
    }
    // It leaves a copy that has them all.
    agent.stop()?;
    agent.restart()?;
    let established = digest(Host::PbxPassword).hold(Duration::from_secs(6)).start(&lab)?;
    std::thread::sleep(Duration::from_millis(700));
    agent.stop()?;
    damage(agent.state())?;
    agent.restart_until(keeps_what_is_pinned)?;

    let (ip, port) = (Call::from(Host::CarrierIp), Call::from(Host::CarrierPort));
    assert!(ip.run(&lab)?.all_answered(), "mode ip");
    assert!(port.run(&lab)?.all_answered(), "mode ip-port");
    assert!(Call::from(Host::Stranger).run(&lab)?.all_refused(), "strangers");
    let new = digest(Host::PbxPassword).port(5070).run(&lab)?;
    assert!(new.all_refused(), "credentials are not known: {new:?}");
    let outcome = established.finish()?;
    assert!(outcome.all_answered(), "the call that was up: {outcome:?}");

    for change in [
        &["gateway", "add", "another", "--mode", "ip", "--address", "192.0.2.1"][..],
        &["gateway", "remove", "carrier-ip"],
        &["gateway", "list"],
        &["export"],
        &["ban", "add", "192.0.2.2"],
    ] {
        let refused = agent.cli(change)?;
        assert_eq!(refused.code, 2, "{change:?}: {refused:?}");
        for part in ["sipauth.db is damaged", "sipauth.db.bak", "sipauth restore --state-dir"] {
            assert!(refused.stderr.contains(part), "{change:?} names {part}: {}", refused.stderr);
        }
    }
    let status = agent.cli(&["status", "--json"])?.stdout;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    assert!(
        status["store"]["health"].as_str().is_some_and(|text| text.contains("damaged")),
        "{status}"
    );
    assert!(agent.cli(&["status"])?.stdout.contains("is damaged"));
    let readyz = lab.run(Host::Softswitch, &["curl", "-s", &format!("http://{METRICS}/readyz")])?;
    assert!(readyz.starts_with("not ready: ") && readyz.contains("sipauth restore"), "{readyz}");
    assert!(agent.log_tail().contains("is damaged"), "the log says so too");

    let state = agent.state().display().to_string();
    let running = agent.cli(&["restore", "--state-dir", &state])?;
    assert_eq!(running.code, 2, "not under a running agent: {running:?}");
    agent.stop()?;
    let restored = agent.cli(&["restore", "--state-dir", &state])?;
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(restored.stdout.contains("4 gateways"), "{restored:?}");
    agent.restart()?;
    assert!(
        digest(Host::PbxPassword).port(5071).run(&lab)?.all_answered(),
        "the password is known again"
    );
    assert!(ip.run(&lab)?.all_answered(), "mode ip, after the restoration");
    agent.add("another", "ip", &["--address", "192.0.2.1"])?;
    let readyz = lab.run(Host::Softswitch, &["curl", "-s", &format!("http://{METRICS}/readyz")])?;
    assert_eq!(readyz, "ready\n");
    Ok(())
}

#[test]
fn with_a_damaged_or_lost_store_and_nothing_pinned_the_agent_does_not_start() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    agent.stop()?;

    // With maps that are in force, a database that is gone is not a new one.
    fs::rename(agent.state().join("sipauth.db"), agent.state().join("elsewhere"))?;
    agent.restart_until(keeps_what_is_pinned)?;
    let (verdict, reason, _) = agent.explain(&["203.0.113.21:5060"])?;
    assert_eq!((verdict.as_str(), reason.as_str()), ("pass", "ip_match"));
    fs::rename(agent.state().join("elsewhere"), agent.state().join("sipauth.db"))?;
    assert_eq!(agent.cli(&["detach"])?.code, 0);
    agent.stop()?;

    // After a boot neither, as long as a copy shows that there were gateways.
    fs::rename(agent.state().join("sipauth.db"), agent.state().join("elsewhere"))?;
    let refused = agent.expect_exit()?;
    assert!(refused.code == 2 && refused.stderr.contains("sipauth restore"), "{refused:?}");
    fs::rename(agent.state().join("elsewhere"), agent.state().join("sipauth.db"))?;

    damage(agent.state())?;
    let refused = agent.expect_exit()?;
    assert_eq!(refused.code, 2, "{refused:?}");
    for part in ["not started", "every call reaches the softswitch", "is damaged", "sipauth restore"] {
        assert!(refused.stderr.contains(part), "it says {part}: {}", refused.stderr);
    }
    let pinned: Vec<_> = fs::read_dir(agent.bpffs())?
        .flatten()
        .flat_map(|layout| fs::read_dir(layout.path()))
        .flatten()
        .collect();
    assert!(pinned.is_empty(), "nothing was pinned: {pinned:?}");
    let shown = lab.run(Host::Softswitch, &["ip", "-d", "link", "show", "dev", "eth0"])?;
    assert!(!shown.contains("prog/xdp"), "nor attached: {shown}");
    Ok(())
}
