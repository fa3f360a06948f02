//! The agent as a user without rights: which capabilities the start needs, and that none is left after it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use sipauth_tests::agent::{Agent, NOBODY};
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{add, assert_admitted, assert_refused, digest, lab};

const METRICS: &str = "127.0.0.1:9161";
const NEEDED: [&str; 4] = ["bpf", "net_admin", "perfmon", "net_raw"];

fn as_setpriv_writes(capabilities: &[&str]) -> String {
    capabilities.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(",")
}

/// The users of all threads of a process, and every capability set of theirs that is not empty, but for the bounding set, which gives none.
fn rights(pid: u32) -> anyhow::Result<(BTreeSet<String>, Vec<String>)> {
    let (mut users, mut sets) = (BTreeSet::new(), Vec::new());
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        threads += 1;
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let name = status.lines().next().unwrap_or_default().to_owned();
        for line in status.lines() {
            if let Some(user) = line.strip_prefix("Uid:") {
                users.extend(user.split_whitespace().map(str::to_owned));
            }
            let set = ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"]
                .iter()
                .find_map(|set| line.strip_prefix(set));
            if set.is_some_and(|set| set.trim().bytes().any(|digit| digit != b'0')) {
                sets.push(format!("{name}: {line}"));
            }
        }
    }
    anyhow::ensure!(threads > 3, "{threads} threads only");
    Ok((users, sets))
}

#[test]
fn without_root_every_mode_works_and_no_capability_is_left_after_the_start() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let make = ["ip", "link", "add", "anew0", "type", "veth", "peer", "name", "anew1"];
    lab.run(Host::Softswitch, &make)?;
    let mut agent = Agent::prepare(&lab, &["--interface", "anew0", "--metrics", METRICS])?
        .with_binary(sipauth_tests::agent::binary()?)
        .as_nobody(&as_setpriv_writes(&NEEDED))?;
    agent.restart()?;
    for host in [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword, Host::ProviderPeer] {
        add(&agent, host)?;
    }
    let (users, sets) = rights(agent.pid().expect("it runs"))?;
    assert_eq!(users, BTreeSet::from([NOBODY.to_string()]));
    // A kernel before 6.6 leaves one thread with CAP_NET_ADMIN; the lab runs on later ones.
    assert_eq!(sets, Vec::<String>::new());
    // The same look at a process with rights finds them.
    assert!(!rights_of_one(std::process::id())?.is_empty());

    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")?;
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierPort), "port_match")?;
    assert!(digest(Host::PbxPassword).run(&lab)?.all_answered(), "mode password");
    assert!(
        digest(Host::PbxPassword).via(Via::Tcp4).run(&lab)?.all_answered(),
        "mode password over TCP"
    );
    assert_refused(&lab, &agent, &Call::from(Host::Stranger), "unknown_source")?;
    let scrape = lab.run(Host::Softswitch, &["curl", "-sf", &format!("http://{METRICS}/metrics")])?;
    assert!(scrape.contains("gateway=\"carrier-ip\""), "maps are read for a scrape: {scrape}");
    agent.cli(&["gateway", "remove", "carrier-ip"])?;
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;

    // An interface that is made anew is protected again, and all is taken off in the end, without a capability.
    lab.run(Host::Softswitch, &["ip", "link", "del", "anew0"])?;
    lab.run(Host::Softswitch, &make)?;
    let has_program = |name: &str| {
        lab.run(Host::Softswitch, &["ip", "link", "show", "dev", name])
            .map(|text| text.contains("xdp"))
    };
    let begin = std::time::Instant::now();
    while !has_program("anew0")? {
        assert!(begin.elapsed() < Duration::from_secs(5), "not protected\n{}", agent.log_tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    agent.stop()?;
    agent.restart()?;
    assert!(digest(Host::PbxPassword).port(5070).run(&lab)?.all_answered(), "after a restart");
    assert_eq!(agent.cli(&["detach"])?.code, 0);
    assert!(!has_program("eth0")? && !has_program("anew0")?, "detached");
    lab.run(Host::Softswitch, &["ip", "link", "del", "anew0"])?;
    Ok(())
}

fn rights_of_one(pid: u32) -> anyhow::Result<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(status
        .lines()
        .filter(|line| line.starts_with("CapEff:") && !line.ends_with("0000000000000000"))
        .map(str::to_owned)
        .collect())
}

#[test]
fn a_capability_that_is_missing_is_named() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    for missing in NEEDED {
        let others: Vec<&str> = NEEDED.into_iter().filter(|name| *name != missing).collect();
        let mut agent = Agent::prepare(&lab, &[])?
            .with_binary(sipauth_tests::agent::binary()?)
            .as_nobody(&as_setpriv_writes(&others))?;
        let refused = agent.expect_exit()?;
        assert_eq!(refused.code, 2, "without {missing}: {refused:?}");
        let named = format!("CAP_{} is missing", missing.to_uppercase());
        assert!(refused.stderr.contains(&named), "{named}: {}", refused.stderr);
        assert!(refused.stderr.contains("setpriv"), "and the remedy: {}", refused.stderr);
    }
    Ok(())
}
