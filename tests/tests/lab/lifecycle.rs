//! The agent stops, dies, comes back, and goes for good.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;
use sipauth_user::config::DEFAULT_PUNT_PORT;

use crate::support::{add, assert_admitted, assert_refused, digest, lab};

/// Longer than the kernel program waits for a heartbeat.
const HEARTBEAT_GONE: Duration = Duration::from_secs(6);

#[test]
fn when_the_agent_is_killed_calls_go_on_and_new_password_calls_are_refused() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::CarrierPort)?;
    add(&agent, Host::PbxPassword)?;
    let established = digest(Host::PbxPassword).hold(Duration::from_secs(4)).start(&lab)?;
    let load = Call::from(Host::CarrierIp)
        .times(120, 30)
        .hold(Duration::from_millis(200))
        .start(&lab)?;
    let load_port = Call::from(Host::CarrierPort).times(120, 30).start(&lab)?;
    std::thread::sleep(Duration::from_millis(1500));
    agent.kill()?;
    let new = digest(Host::PbxPassword).port(5070).run(&lab)?;
    assert!(new.all_refused(), "new password call without agent: {new:?}");
    for (what, calls) in [
        ("mode ip", load),
        ("mode ip-port", load_port),
        ("the established password call", established),
    ] {
        let outcome = calls.finish()?;
        assert!(outcome.all_answered(), "{what}: {outcome:?}");
    }
    agent.restart()?;
    let back = digest(Host::PbxPassword).port(5071).run(&lab)?;
    assert!(back.all_answered(), "after the restart: {back:?}");
    Ok(())
}

#[test]
fn with_fail_open_new_password_calls_are_admitted_without_the_agent() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &["--fail-open"])?;
    add(&agent, Host::PbxPassword)?;
    let plain = Call::from(Host::PbxPassword);
    assert!(plain.run(&lab)?.all_refused(), "with the agent, credentials are needed");
    agent.kill()?;
    std::thread::sleep(HEARTBEAT_GONE);
    assert!(plain.run(&lab)?.all_answered(), "fail open");
    assert!(
        Call::from(Host::Stranger).run(&lab)?.all_refused(),
        "fail open is not for strangers"
    );
    agent.restart()?;
    assert!(agent.stats()?.reason("fail_open") >= 1);
    assert!(plain.run(&lab)?.all_refused(), "the agent is back");
    Ok(())
}

#[test]
fn a_start_that_fails_takes_no_packets() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let mut agent = Agent::start(&lab, &["--fail-open"])?;
    add(&agent, Host::PbxPassword)?;
    agent.stop()?;
    let taken = lab.inside(Host::Softswitch, || Ok(UdpSocket::bind(("0.0.0.0", DEFAULT_PUNT_PORT))?))?;
    let refused = agent.expect_exit()?;
    assert!(refused.stderr.contains("punt-port"), "{refused:?}");
    let outcome = Call::from(Host::PbxPassword).run(&lab)?;
    assert!(outcome.all_answered(), "fail open: {outcome:?}");
    assert_eq!(outcome.retransmissions, 0, "not one packet is handed to nobody: {outcome:?}");
    drop(taken);
    agent.restart()?;
    Ok(())
}

#[test]
fn an_interface_that_is_made_anew_is_protected_again() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let make = ["ip", "link", "add", "anew0", "type", "veth", "peer", "name", "anew1"];
    let has_program = || {
        lab.run(Host::Softswitch, &["ip", "link", "show", "dev", "anew0"])
            .map(|text| text.contains("xdp"))
    };
    lab.run(Host::Softswitch, &make)?;
    let agent = Agent::start(&lab, &["--interface", "anew0"])?;
    assert!(has_program()?, "attached at the start");
    lab.run(Host::Softswitch, &["ip", "link", "del", "anew0"])?;
    std::thread::sleep(Duration::from_secs(2));
    lab.run(Host::Softswitch, &make)?;
    let begin = std::time::Instant::now();
    while !has_program()? {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "the softswitch stands open\n{}",
            agent.log_tail()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(agent.cli(&["detach"])?.code, 0);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!has_program()?, "nothing is put back after a detachment");
    lab.run(Host::Softswitch, &["ip", "link", "del", "anew0"])?;
    Ok(())
}

#[test]
fn a_restart_under_load_loses_no_call_of_mode_ip_and_admits_no_stranger() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::CarrierPort)?;
    let load = Call::from(Host::CarrierIp).times(300, 60).start(&lab)?;
    let load_port = Call::from(Host::CarrierPort).times(300, 60).start(&lab)?;
    let strangers = Call::from(Host::Stranger).times(100, 20).start(&lab)?;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(700));
        agent.stop()?;
        agent.restart()?;
    }
    for (what, calls) in [("mode ip", load), ("mode ip-port", load_port)] {
        let outcome = calls.finish()?;
        assert!(outcome.all_answered(), "{what}: {outcome:?}");
        assert_eq!(outcome.retransmissions, 0, "{what}: not one packet is lost: {outcome:?}");
    }
    let outcome = strangers.finish()?;
    assert!(outcome.all_refused(), "strangers: {outcome:?}");
    Ok(())
}

#[test]
fn counters_and_gateways_survive_a_restart() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")?;
    let before = agent.stats()?;
    agent.stop()?;
    agent.restart()?;
    assert_eq!(agent.stats()?.reason("ip_match"), before.reason("ip_match"));
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")?;
    assert_refused(&lab, &agent, &Call::from(Host::Stranger), "unknown_source")
}

#[test]
fn detach_leaves_nothing_behind() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    assert!(has_xdp(&lab)?, "attached before");
    assert!(!pins(agent.bpffs()).is_empty(), "pinned before");
    assert!(Call::from(Host::Stranger).run(&lab)?.all_refused());
    let detached = agent.cli(&["detach"])?;
    assert_eq!(detached.code, 0, "{detached:?}");
    assert!(!has_xdp(&lab)?, "XDP is gone");
    assert_eq!(pins(agent.bpffs()), Vec::<String>::new(), "pins are gone");
    assert!(Call::from(Host::Stranger).run(&lab)?.all_answered(), "nothing is enforced any more");
    Ok(())
}

#[test]
fn pins_of_another_layout_go_on_enforcing_until_detach_takes_them_off() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let mut agent = Agent::start(&lab, &[])?;
    agent.stop()?;
    let bpffs = agent.bpffs().display().to_string();
    let ours = std::fs::read_dir(agent.bpffs())?.next().expect("a layout")?.path();
    std::fs::rename(&ours, agent.bpffs().join("v1"))?;
    let refused = agent.expect_exit()?;
    assert!(
        refused.stderr.contains("layout 1") && refused.stderr.contains("sipauth detach"),
        "{refused:?}"
    );
    assert!(has_xdp(&lab)?, "it goes on");
    let detached = agent.cli(&["detach", "--bpffs", &bpffs])?;
    assert!(
        detached.code == 0 && detached.stdout.contains("the programs on eth0"),
        "{detached:?}"
    );
    assert!(!has_xdp(&lab)?);
    agent.restart()?;
    Ok(())
}

#[test]
fn a_foreign_xdp_program_is_named_and_left_alone() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    // Another installation's program is as foreign as any: it is not ours to replace.
    let other = Agent::start(&lab, &[])?;
    let mut agent = Agent::prepare(&lab, &["--punt-port", "62060"])?;
    let refused = agent.expect_exit()?;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("sipauth_ingress"),
        "the error names the program: {}",
        refused.stderr
    );
    assert!(refused.stderr.contains("eth0"), "and the interface: {}", refused.stderr);
    assert!(has_xdp(&lab)?, "it is still there");
    assert_eq!(pins(agent.bpffs()), Vec::<String>::new(), "nothing is left of the attempt");
    drop(other);
    agent.restart()?;
    Ok(())
}

#[test]
fn ten_thousand_gateways_are_enforced_soon() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let mut agent = Agent::prepare(&lab, &[])?.with_binary(sipauth_tests::agent::binary()?);
    fill(agent.state())?;
    let time = agent.restart()?;
    println!("10,000 gateways: ready after {} ms", time.as_millis());
    assert!(time < Duration::from_secs(10), "{time:?}");
    let (verdict, _, gateway) = agent.explain(&["10.39.15.1:5060"])?;
    assert_eq!((verdict.as_str(), gateway.as_deref()), ("pass", Some("bulk-9999")));
    add(&agent, Host::CarrierIp)?;
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp), "ip_match")?;
    assert_refused(&lab, &agent, &Call::from(Host::Stranger), "unknown_source")?;
    let again = {
        agent.stop()?;
        agent.restart()?
    };
    println!("10,000 gateways: ready again after {} ms", again.as_millis());
    Ok(())
}

/// 10,000 gateways of three modes in the store, as `gateway add` writes them.
fn fill(state: &Path) -> anyhow::Result<()> {
    use sipauth_user::gateway::{Mode, RawGateway};
    let gateways = (0..10_000_u32).map(|i| {
        let mode = [Mode::Ip, Mode::IpPort, Mode::Ip, Mode::Ip][i as usize % 4];
        let raw = RawGateway {
            name: format!("bulk-{i}"),
            mode,
            addresses: vec![format!("10.{}.{}.1", i / 256, i % 256)],
            ports: if mode == Mode::IpPort { vec![5060] } else { Vec::new() },
            username: None,
            realm: None,
            password: None,
            allow_weak_password: false,
            credentials: None,
            digest: sipauth_user::config::RawDigest::default(),
            priority: 0,
        };
        raw.validate("sipauth", None, |_, _, password| password.clone())
    });
    let gateways: Vec<_> = gateways.collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = sipauth_user::store::Store::open(state).await?;
        let mut change = store.begin().await?;
        change.add_many(&gateways).await?;
        change.commit().await?;
        store.close().await;
        anyhow::Ok(())
    })
}

fn has_xdp(lab: &Lab) -> anyhow::Result<bool> {
    Ok(lab
        .run(Host::Softswitch, &["ip", "-d", "link", "show", "dev", "eth0"])?
        .contains("prog/xdp"))
}

/// Names of the pins under a directory of bpffs, at any depth.
fn pins(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            names.extend(pins(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}
