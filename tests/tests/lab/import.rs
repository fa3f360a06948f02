//! Gateways from a dump of Kamailio's database.

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{assert_refused, assert_refused_by_agent, lab, observe};

const DUMP: &str = include_str!("../../dumps/mariadb.sql");

#[test]
fn the_subscribers_and_addresses_of_a_kamailio_dump_call_with_what_they_had() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &["--realm", "sip.example.com"])?;
    let file = agent.state().join("kamailio.sql");
    std::fs::write(
        &file,
        DUMP.replace("203.0.113.5'", &format!("{}'", Host::CarrierIp.v4()))
            .replace("203.0.113.6'", &format!("{}'", Host::CarrierPort.v4())),
    )?;
    let path = file.display().to_string();

    let refused = agent.cli(&["import", &path])?;
    assert!(
        refused.code == 2
            && refused
                .stderr
                .contains("(id 7): gateway wrong: \"203.0.113.300\" is not an address"),
        "{refused:?}"
    );
    let shown = agent.cli(&["import", &path, "--skip-bad", "--dry-run"])?;
    assert!(
        shown.code == 0 && shown.stdout.contains("+ carrier-b (mode ip-port)") && shown.stdout.contains("8 added"),
        "{shown:?}"
    );
    assert_refused(&lab, &agent, &Call::from(Host::CarrierIp), "unknown_source")?;

    let imported = agent.cli(&["import", &path, "--skip-bad"])?;
    assert!(
        imported.code == 0 && imported.stderr.contains("weak1: it has fewer than 10"),
        "{imported:?}"
    );
    assert!(!imported.stderr.contains("agent's own realm"), "{imported:?}");
    let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::CarrierIp))?;
    assert!(outcome.all_answered() && moved.reason("ip_match") >= 3, "{outcome:?}");
    let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::CarrierPort))?;
    assert!(outcome.all_answered() && moved.reason("port_match") >= 3, "{outcome:?} {moved:?}");
    let caller = Call::from(Host::PbxPassword);
    for (user, password) in [
        ("gw-ha1", "lab password of gw-ha1"),
        ("both", "lab password of both"),
        ("weak1", "1234"),
    ] {
        assert!(
            observe(&lab, &agent, &caller.clone().digest(user, password))?.0.all_answered(),
            "{user}"
        );
    }
    assert_refused_by_agent(&lab, &agent, &caller.digest("gw-ha1", "not its own"), "wrong_password")?;
    let again = agent.cli(&["import", &path, "--skip-bad", "--prune"])?;
    assert!(again.stdout.contains("0 added, 0 changed, 0 removed, 8 unchanged"), "{again:?}");
    Ok(())
}
