//! Gateways as a file, and changes of single fields, while calls go on.

use std::time::Instant;

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, assert_admitted, assert_refused, lab, observe};

#[test]
fn a_file_of_gateways_is_shown_then_enforced_and_an_export_gives_it_again() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    agent.add("old", "ip", &["--address", &Host::Stranger.v4().to_string()])?;
    let (carrier, pbx) = (Host::CarrierIp.v4(), Host::PbxPassword.v4());
    let text = format!(
        "[[gateway]]\nname = \"carrier-ip\"\nmode = \"ip\"\naddresses = [\"{carrier}\"]\n\
         [[gateway]]\nname = \"pbx-password\"\nmode = \"password\"\nusername = \"pbx\"\npassword = \"{PASSWORD}\"\naddresses = [\"{pbx}\"]\n"
    );
    let file = agent.state().join("gateways.toml");
    let path = file.display().to_string();
    std::fs::write(&file, &text)?;

    let shown = agent.cli(&["apply", "-f", &path, "--prune", "--dry-run"])?;
    for words in [
        "+ carrier-ip (mode ip)",
        "- old (mode ip)",
        "cut off:\n  old: calls from",
        "2 added, 0 changed, 1 removed",
    ] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;
    assert_eq!(agent.cli(&["apply", "-f", &path, "--prune"])?.code, 0);
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")?;
    assert_refused(&lab, &agent, &Call::from(Host::Stranger), "unknown_source")?;
    let right = Call::from(Host::PbxPassword).digest("pbx", PASSWORD);
    assert!(observe(&lab, &agent, &right)?.0.all_answered());

    // Applied again nothing changes; with an error nothing does either.
    let again = agent.cli(&["apply", "-f", &path, "--prune"])?;
    assert!(
        again.stdout.contains("0 added, 0 changed, 0 removed, 2 unchanged"),
        "{}",
        again.stdout
    );
    std::fs::write(&file, text.replace(&carrier.to_string(), "300.0.0.1"))?;
    let refused = agent.cli(&["apply", "-f", &path, "--prune"])?;
    assert!(
        refused.code == 2 && refused.stderr.contains("gateways.toml:1: gateway carrier-ip"),
        "{refused:?}"
    );
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")?;

    // One field at a time, live.
    let stranger = Host::Stranger.v4().to_string();
    assert_eq!(agent.cli(&["gateway", "set", "carrier-ip", "--address", &stranger])?.code, 0);
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;
    let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::Stranger))?;
    assert!(outcome.all_answered() && moved.reason("ip_match") >= 3, "{outcome:?} {moved:?}");
    assert_eq!(agent.cli(&["gateway", "set", "pbx-password", "--priority", "7"])?.code, 0);
    assert!(observe(&lab, &agent, &right)?.0.all_answered(), "the credentials stay");

    let exported = agent.cli(&["export"])?.stdout;
    assert!(!exported.contains(PASSWORD) && exported.contains("priority = 7"), "{exported}");
    drop(agent);
    let fresh = Agent::start(&lab, &[])?;
    let file = fresh.state().join("exported.toml");
    std::fs::write(&file, &exported)?;
    assert_eq!(fresh.cli(&["apply", "-f", &file.display().to_string()])?.code, 0);
    assert!(observe(&lab, &fresh, &right)?.0.all_answered(), "an export is whole");
    Ok(())
}

#[test]
fn twenty_thousand_gateways_are_applied_at_once_and_one_of_them_is_changed_alone() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    let file = agent.state().join("many.toml");
    let entry = |n: u32| {
        format!(
            "[[gateway]]\nname = \"g{n}\"\nmode = \"ip\"\naddresses = [\"10.{}.{}.{}\"]\n",
            n >> 16,
            (n >> 8) & 255,
            n & 255
        )
    };
    std::fs::write(&file, (1..=20_000).map(entry).collect::<String>())?;
    let begun = Instant::now();
    let applied = agent.cli(&["apply", "-f", &file.display().to_string()])?;
    assert!(
        applied.code == 0 && applied.stdout.contains("applied: 20000 added"),
        "{}",
        applied.stderr
    );
    let all = begun.elapsed();
    assert_eq!(agent.explain(&["10.0.78.32"])?.1, "ip_match");
    let begun = Instant::now();
    assert_eq!(agent.cli(&["gateway", "set", "g77", "--address", "192.0.2.77"])?.code, 0);
    let one = begun.elapsed();
    println!("20,000 gateways in {all:?}, a change of one in {one:?}");
    assert_eq!(
        (agent.explain(&["192.0.2.77"])?.1, agent.explain(&["10.0.0.77"])?.1),
        ("ip_match".to_owned(), "unknown_source".to_owned())
    );
    assert_eq!(agent.explain(&["10.0.0.78"])?.1, "ip_match");
    Ok(())
}
