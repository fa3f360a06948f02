//! Who changed what: the audit of a real agent.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;
use serde_json::{Value, json};
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::require_root;

use crate::support::{PASSWORD, add, lab};

/// The lines of the audit.
fn audit(agent: &Agent<'_>) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(agent.state().join("log/audit.jsonl"))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[test]
fn every_change_is_in_the_audit_when_its_command_returns_and_no_secret_is() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let name = Host::PbxPassword.name();
    let said = agent.cli_with_input(&["gateway", "set", name, "--priority", "4", "--password-stdin"], "another s3cret\n")?;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(agent.cli(&["ban", "remove", "192.0.2.8"])?.code, 1);
    let list = lab.state().join("audit.toml");
    std::fs::write(&list, "[[gateway]]\nname = \"a\"\nmode = \"ip\"\naddresses = [\"10.9.9.9\"]\n")?;
    let list = list.to_string_lossy().into_owned();
    for args in [
        &["apply", "-f", &list, "--prune", "--dry-run"][..],
        &["apply", "-f", &list, "--prune"],
        &["ban", "add", "192.0.2.7", "--for", "1h", "--reason", "scans"],
        &["ban", "remove", "192.0.2.7"],
        &["gateway", "list"],
        &["export"],
        &["reload"],
        &["detach"],
    ] {
        assert_eq!(agent.cli(args)?.code, 0, "{args:?}");
    }
    let lines = audit(&agent)?;
    let said: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| {
            (
                line["action"].as_str().unwrap_or_default(),
                line["result"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let wanted = [
        ("gateway-add", "done"),
        ("gateway-set", "done"),
        ("ban-remove", "refused"),
        ("apply", "done"),
        ("ban-add", "done"),
        ("ban-remove", "done"),
        ("reload", "done"),
        ("detach", "done"),
    ];
    assert_eq!(said, wanted);
    assert_eq!(lines[1]["what"], json!({ "gateway": name, "fields": ["password", "priority"] }));
    assert_eq!(
        (&lines[3]["what"]["added"], &lines[3]["what"]["removed"]),
        (&json!(["a"]), &json!([name]))
    );
    for line in &lines {
        let who = (&line["uid"], &line["user"], &line["command"]);
        assert_eq!(who, (&json!(0), &json!("root"), &json!("sipauth")), "{line}");
        assert!(line["pid"].as_u64().is_some_and(|pid| pid > 1), "{line}");
    }
    let path = agent.state().join("log/audit.jsonl");
    assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o640);
    let (text, log) = (std::fs::read_to_string(path)?, agent.log_tail());
    for (what, text) in [("the audit", text), ("the log", log)] {
        assert!(text.contains("gateway-add"), "{what}: {text}");
        for secret in [PASSWORD, "s3cret", "MD5:"] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
    agent.stop()
}

#[test]
fn an_audit_that_cannot_be_written_is_no_reason_to_refuse_a_change() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    let directory = agent.state().join("log");
    std::fs::write(&directory, "no directory")?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::CarrierPort)?;
    assert_eq!(
        agent.log_tail().matches("the log cannot be written").count(),
        1,
        "{}",
        agent.log_tail()
    );
    std::fs::remove_file(&directory)?;
    add(&agent, Host::ProviderPeer)?;
    assert_eq!(
        audit(&agent)?.first().context("a line")?["what"]["gateway"],
        Host::ProviderPeer.name()
    );
    assert!(agent.log_tail().contains("written again"));
    Ok(())
}
