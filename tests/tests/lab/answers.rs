//! What the command line answers an operator who asks why.

use serde_json::json;
use sipauth_tests::agent::{Agent, binary};
use sipauth_tests::lab::Host;
use sipauth_tests::peers::Call;
use sipauth_tests::require_root;

use crate::phone::{Phone, exchange};
use crate::support::{add, lab};

#[test]
fn explain_tells_the_steps_of_the_decision_and_the_remedy() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierPort)?;
    let source = format!("{}:40123", Host::CarrierPort.v4());
    let told = agent.cli(&["explain", &source])?.stdout;
    for words in [
        "drop: ",
        "source 203.0.113.22 matches gateway carrier-port (mode ip-port, port 5060)",
        "port 40123 is not 5060",
        "remedy: the gateway is probably behind NAT",
        "use mode password, or map the port statically",
    ] {
        assert!(told.contains(words), "{words}:\n{told}");
    }
    let right = agent.json(&["explain", &format!("{}:5060", Host::CarrierPort.v4())])?;
    let steps: Vec<&str> = right["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step["text"].as_str())
        .collect();
    assert!(steps.contains(&"port 5060 is a port of carrier-port"), "{right}");
    assert!(
        steps.last().is_some_and(|last| last.starts_with("INVITE → pass (port_match)")),
        "{right}"
    );
    Ok(())
}

#[test]
fn explain_says_what_else_is_known_of_the_source() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let source = Host::PbxPassword.v4().to_string();
    let before = agent.json(&["explain", &source])?;
    assert_eq!(before["source"]["refusals"].as_array().map(Vec::len), Some(0), "{before}");
    assert_eq!(before["source"]["challenge"]["status"], 401, "{before}");
    let phone = Phone::new(Host::PbxPassword.name(), "not it");
    let (_, challenge) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite("why", 1, ""))?;
    exchange(
        &lab,
        Host::PbxPassword,
        5070,
        &phone.invite("why", 2, &phone.credentials(&challenge)?),
    )?;
    let after = agent.json(&["explain", &source])?;
    assert_eq!(after["source"]["refusals"][0]["reason"], "wrong_password", "{after}");
    assert_eq!(after["source"]["rates"][0]["lane"], "known", "{after}");
    assert!(after["source"]["ban"].is_null(), "{after}");
    assert_eq!(agent.cli(&["ban", "add", &source, "--for", "1h"])?.code, 0);
    let told = agent.cli(&["explain", &format!("{source}:5070")])?.stdout;
    for words in ["is banned for another", "(manual)", "wrong_password", "ban remove"] {
        assert!(told.contains(words), "{words}:\n{told}");
    }
    Ok(())
}

#[test]
fn status_says_whether_it_enforces_and_what_was_refused_lately() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let mut agent = Agent::start(&lab, &[])?;
    let fresh = agent.json(&["status"])?;
    assert_eq!(
        (fresh["enforcing"].as_bool(), fresh["gateways"].as_u64()),
        (Some(true), Some(0)),
        "{fresh}"
    );
    assert_eq!(
        (fresh["last_change"].as_u64(), fresh["refused"].as_array().map(Vec::len)),
        (None, Some(0)),
        "{fresh}"
    );
    add(&agent, Host::CarrierPort)?;
    add(&agent, Host::PbxPassword)?;
    assert_eq!(agent.cli(&["ban", "add", "198.51.100.77"])?.code, 0);
    assert!(Call::from(Host::Stranger).run(&lab)?.all_refused());
    let phone = Phone::new(Host::PbxPassword.name(), "not it");
    let (_, challenge) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite("late", 1, ""))?;
    exchange(
        &lab,
        Host::PbxPassword,
        5070,
        &phone.invite("late", 2, &phone.credentials(&challenge)?),
    )?;
    let status = agent.json(&["status"])?;
    assert_eq!(status["refused"][0]["reason"], "unknown_source", "{status}");
    assert_eq!(status["refused_by_agent"][0]["reason"], "wrong_password", "{status}");
    assert_eq!(
        status["gateways_by_mode"],
        json!({"ip": 0, "ip-port": 1, "password": 1, "peer": 0}),
        "{status}"
    );
    assert_eq!(
        (status["bans"]["manual"].as_u64(), status["store"]["health"].as_str()),
        (Some(1), Some("ok")),
        "{status}"
    );
    assert!(status["last_change"].as_u64().is_some_and(|ago| ago < 30), "{status}");
    let map = |name: &str| {
        status["maps"]
            .as_array()
            .and_then(|maps| maps.iter().find(|map| map["map"] == name))
            .cloned()
    };
    for (name, entries) in [
        ("hosts_v4", Some(2)),
        ("gateway_stats", Some(2)),
        ("bans", Some(1)),
        ("port_roles", None),
    ] {
        let map = map(name).unwrap_or_default();
        assert_eq!(map["entries"].as_u64(), entries, "{name}: {status}");
        assert!(
            map["bytes"].as_u64() > Some(50_000) && map["most"].as_u64() >= map["room"].as_u64(),
            "{map}"
        );
    }
    assert!(status["prefilter"]["bits"].as_f64() > Some(0.0), "{status}");
    let told = agent.cli(&["status", "--maps"])?.stdout;
    for words in ["MB of kernel memory", "of strangers cost a look-up", "AT MOST", "hosts_v4"] {
        assert!(told.contains(words), "{words}:\n{told}");
    }
    assert!(!agent.cli(&["status"])?.stdout.contains("hosts_v4"), "one screen");
    assert_eq!(
        status["interfaces"][0],
        json!({"name": "eth0", "xdp_mode": "native", "link": "up"}),
        "{status}"
    );

    agent.stop()?;
    let mut monitor = Agent::prepare(&lab, &["--monitor"])?.with_binary(binary()?);
    assert_eq!(agent.cli(&["status"])?.code, 2, "no agent");
    drop(agent);
    monitor.restart()?;
    let watching = monitor.cli(&["status"])?;
    assert_eq!(watching.code, 1, "{watching:?}");
    assert!(
        watching.stdout.contains("NO: monitor mode") && watching.stderr.contains("not enforcing"),
        "{watching:?}"
    );
    Ok(())
}
