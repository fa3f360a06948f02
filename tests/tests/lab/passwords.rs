//! Passwords that sipauth makes, and those that it does not like.

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, assert_refused_by_agent, lab, observe};

#[test]
fn a_generated_password_is_shown_once_and_calls_pass_with_it_alone() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    let added = agent.json(&[
        "gateway",
        "add",
        "office",
        "--mode",
        "password",
        "--username",
        "office1",
        "--generate-password",
    ])?;
    let password = added["generated_password"].as_str().unwrap_or_default().to_owned();
    assert_eq!(password.len(), 22, "{added}");
    let caller = Call::from(Host::PbxPassword);
    let right = caller.clone().digest("office1", &password);
    assert!(observe(&lab, &agent, &right)?.0.all_answered());
    assert_refused_by_agent(&lab, &agent, &caller.clone().digest("office1", PASSWORD), "wrong_password")?;
    for command in [&["gateway", "show", "office"][..], &["gateway", "list"], &["export"]] {
        let answer = agent.cli(command)?;
        assert!(
            answer.stdout.contains("office1") && !answer.stdout.contains(&password),
            "{answer:?}"
        );
    }

    let changed = agent.cli(&["gateway", "set", "office", "--generate-password"])?;
    let line = changed.stdout.lines().find_map(|line| line.trim().strip_prefix("password  "));
    let fresh = line.unwrap_or_default().to_owned();
    assert!(changed.stdout.contains("port 5060") && fresh != password, "{changed:?}");
    assert_refused_by_agent(&lab, &agent, &right, "wrong_password")?;
    assert!(observe(&lab, &agent, &caller.digest("office1", &fresh))?.0.all_answered());
    Ok(())
}

#[test]
fn a_weak_password_is_refused_by_name_and_taken_where_that_is_said() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    let add = [
        "gateway",
        "add",
        "office",
        "--mode",
        "password",
        "--username",
        "office1",
        "--password-stdin",
    ];
    let refused = agent.cli_with_input(&add, "office1-2024\n")?;
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("the username with little else") && refused.stderr.contains("--allow-weak-password"),
        "{refused:?}"
    );
    assert!(!refused.stderr.contains("office1-2024") && agent.json(&["gateway", "list"])? == serde_json::json!([]));
    let allowed = [&add[..], &["--allow-weak-password"]].concat();
    assert_eq!(agent.cli_with_input(&allowed, "office1-2024\n")?.code, 0);

    // As another product has them: such gateways go on calling.
    let file = agent.state().join("old.csv");
    std::fs::write(
        &file,
        "name,mode,username,password\nold,password,old,1234\nstrong,password,st,a good one of its own\n",
    )?;
    let imported = agent.cli(&["import", &file.display().to_string()])?;
    assert!(
        imported.code == 0 && imported.stderr.contains("old: it has fewer than 10") && !imported.stderr.contains("strong:"),
        "{imported:?}"
    );
    // In a file it has to be said.
    let file = agent.state().join("weak.toml");
    let text = "[[gateway]]\nname = \"weak\"\nmode = \"password\"\nusername = \"weak\"\npassword = \"1234\"\n";
    std::fs::write(&file, text)?;
    let path = file.display().to_string();
    let refused = agent.cli(&["apply", "-f", &path])?;
    assert!(
        refused.code == 2 && refused.stderr.contains("weak.toml:1: gateway weak: the password is weak"),
        "{refused:?}"
    );
    std::fs::write(&file, format!("{text}allow-weak-password = true\n"))?;
    assert_eq!(agent.cli(&["apply", "-f", &path])?.code, 0);
    Ok(())
}
