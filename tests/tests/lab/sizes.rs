//! Maps of the size that is needed: they grow while calls go on, and a restart gives them the size that the settings say.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sipauth_common::abi;
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas};
use sipauth_tests::require_root;
use sipauth_user::datapath::{Pins, cpus, entries_for_flows};

use crate::support::{add, assert_admitted, assert_refused, digest, lab};

/// How many entries a pinned map has room for.
fn room(agent: &Agent<'_>, map: &str) -> u32 {
    Pins::at(agent.bpffs()).entries(map).expect("it is pinned")
}

/// A file with so many gateways in mode `ip`, none of which is in the lab.
fn gateways(agent: &Agent<'_>, count: u32) -> anyhow::Result<PathBuf> {
    let text: String = (0..count)
        .map(|n| {
            let address = Ipv4Addr::from_bits(0x0a40_0000 + n);
            format!("[[gateway]]\nname = \"bulk-{n}\"\nmode = \"ip\"\naddresses = [\"{address}\"]\n")
        })
        .collect();
    let file = agent.state().join(format!("gateways-{count}.toml"));
    std::fs::write(&file, text)?;
    Ok(file)
}

fn apply(agent: &Agent<'_>, count: u32) -> anyhow::Result<()> {
    let file = gateways(agent, count)?;
    agent.json(&["apply", "-f", &file.display().to_string()]).map(drop)
}

/// Makes gateways come in steps while calls of every mode go on.
fn grow_under_load(agent: &Agent<'_>, lab: &sipauth_tests::lab::Lab) -> anyhow::Result<()> {
    let _softswitch = Uas::softswitch_everywhere(lab)?;
    for host in [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword] {
        add(agent, host)?;
    }
    assert_eq!(room(agent, abi::MAP_HOSTS_V4), abi::LEAST_ENTRIES);
    let before = agent.stats()?;
    let (call, port) = (Call::from(Host::CarrierIp), Call::from(Host::CarrierPort));
    let loads = [
        ("mode ip", call.times(300, 60).start(lab)?),
        ("mode ip-port", port.times(300, 60).start(lab)?),
        ("mode password", digest(Host::PbxPassword).times(100, 20).start(lab)?),
        (
            "an established password call",
            digest(Host::PbxPassword).port(5070).hold(Duration::from_secs(5)).start(lab)?,
        ),
    ];
    let strangers = Call::from(Host::Stranger).times(100, 20).start(lab)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let watching = scope.spawn(|| -> anyhow::Result<u32> {
            let (mut last, mut looks) = ((0, 0), 0);
            while !done.load(Ordering::Relaxed) {
                let stats = agent.stats()?;
                let now = (stats.reason("ip_match"), stats.gateway(Host::CarrierIp.name(), "pass"));
                assert!(now.0 >= last.0 && now.1 >= last.1, "counters went back: {last:?}, {now:?}");
                (last, looks) = (now, looks + 1);
            }
            Ok(looks)
        });
        let grown = [2_000, 6_000, 12_000].into_iter().try_for_each(|count| apply(agent, count));
        done.store(true, Ordering::Relaxed);
        assert!(watching.join().expect("no panic")? > 3, "counters were looked at");
        grown
    })?;
    for (what, calls) in loads {
        let outcome = calls.finish()?;
        assert!(outcome.all_answered(), "{what}: {outcome:?}");
        assert_eq!(outcome.retransmissions, 0, "{what}: not one packet is lost: {outcome:?}");
    }
    let outcome = strangers.finish()?;
    assert!(outcome.all_refused(), "strangers: {outcome:?}");
    // Of every gateway, in the maps that are there now.
    let after = agent.stats()?;
    let counted = after.gateway(Host::CarrierIp.name(), "pass") - before.gateway(Host::CarrierIp.name(), "pass");
    assert!((890..=900).contains(&counted), "three packets a call: {counted}");
    assert_eq!(room(agent, abi::MAP_HOSTS_V4), 16_384);
    assert_eq!(room(agent, abi::MAP_GATEWAY_STATS), 16_384);
    assert_eq!(room(agent, abi::MAP_HOSTS_V6), abi::LEAST_ENTRIES, "what need not grow does not");
    let (verdict, _, gateway) = agent.explain(&["10.64.46.223:5060"])?;
    assert_eq!((verdict.as_str(), gateway.as_deref()), ("pass", Some("bulk-11999")));
    assert_admitted(lab, agent, &Call::from(Host::CarrierIp), "ip_match")?;
    assert_refused(lab, agent, &Call::from(Host::Stranger), "unknown_source")
}

#[test]
fn maps_grow_while_calls_go_on_and_not_a_packet_is_lost() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let mut agent = Agent::start(&lab, &[])?;
    grow_under_load(&agent, &lab)?;
    // The next agent finds them, and gives back what is far too much.
    agent.stop()?;
    agent.restart()?;
    assert_eq!(room(&agent, abi::MAP_HOSTS_V4), 16_384);
    let file = gateways(&agent, 1)?;
    agent.json(&["apply", "--prune", "-f", &file.display().to_string()])?;
    assert_eq!(room(&agent, abi::MAP_HOSTS_V4), 16_384, "not while it runs");
    agent.stop()?;
    agent.restart()?;
    assert_eq!(room(&agent, abi::MAP_HOSTS_V4), abi::LEAST_ENTRIES);
    let (verdict, _, gateway) = agent.explain(&["10.64.0.0:5060"])?;
    assert_eq!((verdict.as_str(), gateway.as_deref()), ("pass", Some("bulk-0")));
    Ok(())
}

#[test]
fn maps_grow_under_an_agent_without_root_that_has_given_up_its_capabilities() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let mut agent = Agent::prepare(&lab, &[])?
        .with_binary(sipauth_tests::agent::binary()?)
        .as_nobody("+bpf,+net_admin,+perfmon,+net_raw")?;
    agent.restart()?;
    grow_under_load(&agent, &lab)?;
    let children = |pid| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let maker = children(agent.pid().expect("it runs"))?.trim().to_owned();
    assert!(std::path::Path::new("/proc").join(&maker).join("exe").is_symlink(), "{maker:?}");
    agent.kill()?;
    let begin = Instant::now();
    while std::path::Path::new("/proc").join(&maker).exists() {
        assert!(begin.elapsed() < Duration::from_secs(5), "what makes maps outlives the agent");
        std::thread::sleep(Duration::from_millis(10));
    }
    agent.restart()?;
    assert_admitted_by_name(&agent, Host::CarrierIp)
}

#[test]
fn an_agent_that_is_killed_while_maps_grow_leaves_everything_enforced() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &[])?;
    for host in [Host::CarrierIp, Host::PbxPassword] {
        add(&agent, host)?;
    }
    let load = Call::from(Host::CarrierIp).times(600, 60).start(&lab)?;
    let strangers = Call::from(Host::Stranger).times(200, 20).start(&lab)?;
    let mut half_done = 0;
    for round in 0..6u32 {
        let count = 1_500 << round;
        let file = gateways(&agent, count)?;
        let command = [
            "--socket",
            &agent.socket().display().to_string(),
            "apply",
            "-f",
            &file.display().to_string(),
        ];
        let mut apply = lab
            .command(Host::Softswitch, sipauth_tests::agent::binary()?)
            .args(command)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        // From the first moment at which something is being replaced, a little later each time.
        let begin = Instant::now();
        let before = programs_loaded();
        while programs_loaded() == before && begin.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(round) * 12));
        agent.kill()?;
        half_done += u32::from(!apply.wait()?.success());
        agent.restart()?;
        assert_admitted_by_name(&agent, Host::CarrierIp)?;
        assert!(digest(Host::PbxPassword).port(5071).run(&lab)?.all_answered(), "round {round}");
    }
    assert!(half_done > 0, "every apply was done before the agent was killed");
    let outcome = load.finish()?;
    assert!(outcome.all_answered(), "mode ip: {outcome:?}");
    let outcome = strangers.finish()?;
    assert!(outcome.all_refused(), "strangers: {outcome:?}");
    apply(&agent, 3_000)?;
    assert!(room(&agent, abi::MAP_HOSTS_V4) >= 3_000);
    let leftover = std::fs::read_dir(Pins::at(agent.bpffs()).dir())?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("next-"))
        .count();
    assert_eq!(leftover, 0, "pins of what was half done");
    Ok(())
}

/// Programs of ours in the kernel; the kernel counts ids up.
fn programs_loaded() -> usize {
    aya::programs::loaded_programs()
        .flatten()
        .filter(|program| program.name_as_str().is_some_and(|name| name.starts_with("sipauth_")))
        .count()
}

fn assert_admitted_by_name(agent: &Agent<'_>, host: Host) -> anyhow::Result<()> {
    let source = format!("{}:5060", host.seen_v4());
    let (verdict, _, gateway) = agent.explain(&[&source])?;
    assert_eq!((verdict.as_str(), gateway.as_deref()), ("pass", Some(host.name())));
    Ok(())
}

#[test]
fn other_bounds_count_from_a_restart_on_and_calls_and_bans_go_on() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &[])?;
    for host in [Host::CarrierIp, Host::PbxPassword] {
        add(&agent, host)?;
    }
    assert_eq!(agent.cli(&["ban", "add", "192.0.2.66"])?.code, 0);
    let flows = room(&agent, abi::MAP_FLOWS);
    let established = digest(Host::PbxPassword).hold(Duration::from_secs(4)).start(&lab)?;
    let load = Call::from(Host::CarrierIp).times(180, 60).start(&lab)?;
    std::thread::sleep(Duration::from_millis(800));
    let counted = agent.stats()?.gateway(Host::CarrierIp.name(), "pass");
    agent.stop()?;
    agent.set_options(&["--max-flows", "2048", "--max-peers", "3000", "--max-bans", "4096"]);
    agent.restart()?;
    let head_room = entries_for_flows(2_048, cpus()?);
    assert_ne!(flows, head_room);
    for (map, entries) in [(abi::MAP_FLOWS, head_room), (abi::MAP_PEERS, 3_000), (abi::MAP_BANS, 4_096)] {
        assert_eq!(room(&agent, map), entries, "{map}");
    }
    assert!(agent.stats()?.gateway(Host::CarrierIp.name(), "pass") >= counted, "counters go on");
    for (what, calls) in [("the established call", established), ("mode ip", load)] {
        let outcome = calls.finish()?;
        assert!(outcome.all_answered(), "{what}: {outcome:?}");
        assert_eq!(outcome.retransmissions, 0, "{what}: not one packet is lost: {outcome:?}");
    }
    let bans = agent.json(&["ban", "list"])?;
    assert!(bans.to_string().contains("192.0.2.66"), "{bans}");
    Ok(())
}

#[test]
fn many_prefixes_get_a_prefilter_that_has_room_for_them() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    let network = format!("{}/30", Ipv4Addr::from_bits(Host::CarrierIp.v4().to_bits() & !3));
    agent.add("carrier", "ip", &["--address", &network])?;
    let calls = Call::from(Host::CarrierIp).times(180, 60).start(&lab)?;
    std::thread::sleep(Duration::from_millis(500));
    let before = room(&agent, abi::MAP_PREFILTER);
    // A quarter of a million /24, as the prefilter takes them: several times as many as the first table has room for.
    let text: String = (0..1_000_u32)
        .map(|n| {
            let network = Ipv4Addr::from_bits(0x0a00_0000 + (n << 16));
            format!("[[gateway]]\nname = \"net-{n}\"\nmode = \"ip\"\naddresses = [\"{network}/16\"]\n")
        })
        .collect();
    let file = agent.state().join("nets.toml");
    std::fs::write(&file, text)?;
    agent.json(&["apply", "-f", &file.display().to_string()])?;
    assert!(room(&agent, abi::MAP_PREFILTER) > 2 * before);
    let begun = Instant::now();
    loop {
        let status = agent.json(&["status"])?;
        let strangers = status["prefilter"]["prefix"].as_f64().unwrap_or(1.0);
        if strangers > 0.0 && strangers < 0.1 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{status}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let outcome = calls.finish()?;
    assert!(outcome.all_answered(), "a gateway that has a prefix: {outcome:?}");
    assert_eq!(outcome.retransmissions, 0, "not one packet is lost: {outcome:?}");
    Ok(())
}
