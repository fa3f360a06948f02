//! Wrong passwords: whom they get banned, and whom not.

use std::time::{Duration, Instant};

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, assert_admitted, assert_refused, lab, observe};

#[test]
fn wrong_passwords_get_the_port_banned_and_not_its_neighbour_behind_the_same_nat() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &["--ban-time", "20s"])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    let right = Call::from(Host::NatPassword).digest("roaming", PASSWORD);
    let wrong = Call::from(Host::NatPassword).digest("roaming", "wrong");

    // The control: below the limit nothing happens.
    let (outcome, moved) = observe(&lab, &agent, &wrong.clone().times(5, 10))?;
    assert!(outcome.all_refused(), "{outcome:?}");
    // More than five datagrams: SIPp sends again what was refused, which is no further failure.
    assert!(moved.authentication("wrong_password") >= 5, "{moved:?}");
    assert_eq!((moved.authentication("locked_out"), moved.reason("banned")), (0, 0));
    let (outcome, _) = observe(&lab, &agent, &right)?;
    assert!(outcome.all_answered(), "{outcome:?}");

    // A call has left a flow, which is never banned: from another port, then.
    let (wrong, same_port) = (wrong.port(5070), right.clone().port(5070));
    let (outcome, moved) = observe(&lab, &agent, &wrong.times(6, 10))?;
    let begun = Instant::now();
    assert!(outcome.all_refused(), "{outcome:?}");
    assert!(moved.authentication("wrong_password") >= 6, "{moved:?}");
    assert_refused(&lab, &agent, &same_port, "banned")?;
    let (outcome, moved) = observe(&lab, &agent, &right.clone().port(5080))?;
    assert!(outcome.all_answered(), "another port behind the same NAT: {outcome:?}");
    assert_eq!(moved.reason("banned"), 0);

    // It ends by itself.
    std::thread::sleep(Duration::from_secs(21).saturating_sub(begun.elapsed()));
    let (outcome, _) = observe(&lab, &agent, &same_port)?;
    assert!(outcome.all_answered(), "after the ban: {outcome:?}");
    Ok(())
}

#[test]
fn a_gateway_in_mode_ip_is_not_hurt_by_a_ban_of_its_address() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    let wrong = Call::from(Host::CarrierIp).digest("roaming", "wrong");
    observe(&lab, &agent, &wrong.clone().times(6, 10))?;
    assert_refused(&lab, &agent, &wrong, "banned")?;
    agent.add("carrier-ip", "ip", &["--address", &Host::CarrierIp.v4().to_string()])?;
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")
}

#[test]
fn the_operator_bans_and_lifts_bans() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    agent.add("carrier-ip", "ip", &["--address", &Host::CarrierIp.v4().to_string()])?;
    let (call, address) = (
        Call::from(Host::Stranger).digest("roaming", PASSWORD),
        Host::Stranger.v4().to_string(),
    );

    assert_eq!(agent.cli(&["ban", "remove", &address])?.code, 1, "there is none yet");
    assert_eq!(agent.cli(&["ban", "add", &address, "--for", "1h", "--reason", "scans"])?.code, 0);
    let bans = agent.json(&["ban", "list"])?;
    assert_eq!(
        (&bans[0]["address"], &bans[0]["cause"], &bans[0]["reason"]),
        (&address.as_str().into(), &"manual".into(), &"scans".into())
    );
    assert_refused(&lab, &agent, &call, "banned")?;
    assert_eq!(agent.cli(&["ban", "remove", &address])?.code, 0);
    assert!(observe(&lab, &agent, &call)?.0.all_answered());

    // A ban by failures is lifted in the kernel and in the worker that remembers them; from a port without a flow.
    let wrong = Call::from(Host::Stranger).digest("roaming", "wrong").port(5070);
    observe(&lab, &agent, &wrong.times(6, 10))?;
    assert_eq!(agent.json(&["ban", "list"])?[0]["cause"], "failures");
    assert_eq!(agent.cli(&["ban", "remove", &address])?.code, 0);
    assert!(observe(&lab, &agent, &call.clone().port(5070))?.0.all_answered());

    let refused = agent.cli(&["ban", "add", &Host::CarrierIp.v4().to_string()])?;
    assert!(refused.code == 1 && refused.stderr.contains("no effect"), "{refused:?}");

    // A list of any length, all of it or nothing.
    let file = agent.state().join("list.txt");
    let list = |extra: &str| {
        (0..20_000_u32)
            .map(|n| format!("10.{}.{}.9\n", n >> 8, n & 255))
            .collect::<String>()
            + extra
    };
    std::fs::write(&file, list("nonsense\n"))?;
    let import = ["ban", "import", &file.display().to_string(), "--for", "1h"];
    let refused = agent.cli(&import)?;
    assert!(refused.code == 2 && refused.stderr.contains("line 20001"), "{refused:?}");
    assert_eq!(agent.json(&["ban", "list"])?.as_array().map(Vec::len), Some(0));
    std::fs::write(&file, list(&format!("{address} # a scanner\n")))?;
    assert_eq!(agent.cli(&import)?.code, 0);
    assert_eq!(agent.json(&["ban", "list"])?.as_array().map(Vec::len), Some(20_001));
    assert_refused(&lab, &agent, &call.port(5090), "banned")
}
