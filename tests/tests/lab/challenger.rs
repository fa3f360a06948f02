//! Challenges from the kernel program: real telephones get through with them, and nobody gets through by them.

use std::net::SocketAddr;

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via, fetch};
use sipauth_tests::require_root;

use crate::phone::{Phone, exchange};
use crate::support::{PASSWORD, add, digest, lab, observe};

const KERNEL: &[&str] = &["--challenger", "kernel"];

#[test]
fn calls_and_registrations_get_through_and_the_agent_sees_their_answers_only() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let mut agent = Agent::start(&lab, &[KERNEL, &["--metrics", "127.0.0.1:9107"]].concat())?;
    add(&agent, Host::PbxPassword)?;
    add(&agent, Host::NatPassword)?;
    for (host, via) in [
        (Host::PbxPassword, Via::Udp4),
        (Host::PbxPassword, Via::Udp6),
        (Host::NatPassword, Via::Udp4),
    ] {
        let what = format!("{} over {}", host.name(), via.label());
        let (outcome, moved) = observe(&lab, &agent, &digest(host).via(via).times(20, 50))?;
        assert!(outcome.all_answered(), "{what}: {outcome:?}");
        let by_kernel = 20 + u64::from(outcome.retransmissions);
        assert_eq!(moved.reason("challenged"), by_kernel, "{what}: {outcome:?}");
        assert_eq!(
            (moved.authentication("challenged"), moved.authentication("authenticated")),
            (by_kernel, 20),
            "{what}: each once"
        );
        assert_eq!(moved.reason("own_ack"), 20, "{what}: the ACKs to it end in the kernel too");
        assert_eq!(moved.reason("authenticated"), 19, "{what}: the agent sees the first call only");
    }
    // Too short for its answer to have room here: veth packs small packets tightly.
    let register = Call::from(Host::PbxPassword).register(Host::PbxPassword.name(), PASSWORD);
    let (outcome, moved) = observe(&lab, &agent, &register)?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_eq!(moved.authentication("challenged"), 1, "by whom ever");
    // Over TCP there is a connection to answer on.
    let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).via(Via::Tcp4))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_eq!((moved.reason("challenged"), moved.authentication("challenged")), (0, 1));
    // The wrong password is nobody's call.
    let wrong = Call::from(Host::PbxPassword).digest(Host::PbxPassword.name(), "not it");
    let (outcome, moved) = observe(&lab, &agent, &wrong)?;
    assert_eq!((outcome.answered, moved.authentication("wrong_password")), (0, 1), "{outcome:?}");
    let (_, metrics) = fetch(&lab, SocketAddr::from(([127, 0, 0, 1], 9_107)), "/metrics", "")?;
    let stats = agent.stats()?;
    let series = format!(
        "sipauth_authentication_total{{outcome=\"challenged\"}} {}",
        stats.authentication("challenged")
    );
    assert!(metrics.lines().any(|line| line == series), "no {series} in\n{metrics}");
    // The kernel program's counters outlive the agent, and these do not: a sum of old and new would look like a rise.
    agent.stop()?;
    agent.restart()?;
    let fresh = agent.stats()?;
    assert_eq!(
        (fresh.reason("challenged"), fresh.authentication("challenged")),
        (stats.reason("challenged"), 0)
    );
    Ok(())
}

#[test]
fn an_answer_that_is_lost_costs_one_retransmission() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    // Without a program at the other end of the veth pair, nothing that XDP sends gets out.
    let agent = Agent::start(&lab, KERNEL)?;
    add(&agent, Host::PbxPassword)?;
    let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_eq!(
        (moved.reason("challenged"), moved.authentication("challenged")),
        (1, 2),
        "{outcome:?}"
    );
    drop(agent);
    // So the agent challenges where nothing is said.
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword))?;
    assert!(outcome.all_answered() && outcome.retransmissions == 0, "{outcome:?}");
    assert_eq!((moved.reason("challenged"), moved.authentication("challenged")), (0, 1));
    Ok(())
}

#[test]
fn the_agent_challenges_where_a_gateway_has_its_own_rules_and_while_somebody_traces() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let agent = Agent::start(&lab, KERNEL)?;
    let address = Host::PbxPassword.v4().to_string();
    let own = [
        "--username",
        "own",
        "--password-stdin",
        "--address",
        &address,
        "--algorithm",
        "SHA-256",
    ];
    agent.add_with_input("own", "password", &own, &format!("{PASSWORD}\n"))?;
    agent.add_password("anywhere", "anywhere", PASSWORD, &[])?;
    let challenged = |from: Host, call: &str| -> anyhow::Result<(u64, String)> {
        let before = agent.stats()?.reason("challenged");
        // As long as one with a session description: the kernel program's answer needs the room.
        let room = format!("Subject: {}\r\n", "x".repeat(400));
        let (statuses, text) = exchange(&lab, from, 5070, &Phone::new("anywhere", PASSWORD).invite(call, 1, &room))?;
        assert_eq!(statuses, [401], "{call}: {text}");
        Ok((agent.stats()?.reason("challenged") - before, text))
    };
    let (by_kernel, text) = challenged(Host::PbxPassword, "c1")?;
    assert!(by_kernel == 0 && text.contains("algorithm=SHA-256"), "{text}");
    let (by_kernel, text) = challenged(Host::Stranger, "c2")?;
    assert!(by_kernel == 1 && text.contains("nonce=\"k"), "{text}");
    assert_eq!(agent.cli(&["gateway", "set", "own", "--algorithm", "MD5"])?.code, 0);
    assert_eq!(
        challenged(Host::PbxPassword, "c5")?.0,
        0,
        "settings of its own, which happen to be the general ones"
    );
    let mut trace = lab.command(Host::Softswitch, sipauth_tests::agent::binary()?);
    trace.arg("--socket").arg(agent.socket()).args(["trace", "--for", "3s", "--json"]);
    let mut trace = trace.arg("anywhere").stdout(std::process::Stdio::piped()).spawn()?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(challenged(Host::Stranger, "c3")?.0, 0, "while somebody traces");
    assert!(trace.wait()?.success());
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(challenged(Host::Stranger, "c4")?.0, 1, "and then no more");
    Ok(())
}
