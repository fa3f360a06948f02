//! Floods with false source addresses: whose calls go on, and that nobody is banned for what others send in his name.

use std::net::SocketAddrV4;
use std::time::Duration;

use sipauth_tests::agent::{Agent, Stats};
use sipauth_tests::flood::{Flood, Guess, Sent, ask, parameter};
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Outcome, Uas};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, add, digest, lab, observe};

/// As in the design: no gateway has such an address, and the answers go out by a router.
const SOURCES: u32 = 100_000;
/// A debug build, its maps' caches and the buffers of two workers take some 30 MiB; what a hundred thousand sources could add is more.
const MEMORY_KIB: u64 = 128 * 1024;

/// A call lasts longer than a busy agent holds an ACK: a BYE passes in the kernel, and would overtake it.
const HOLD: Duration = Duration::from_millis(500);

/// The way to the false sources while it lives: the stranger, who drops what is not for him.
struct Router<'a>(&'a Lab);

impl<'a> Router<'a> {
    fn new(lab: &'a Lab) -> anyhow::Result<Self> {
        let via = Host::Stranger.v4().to_string();
        lab.run(Host::Softswitch, &["ip", "route", "replace", "10.0.0.0/8", "via", &via])?;
        Ok(Self(lab))
    }
}

impl Drop for Router<'_> {
    fn drop(&mut self) {
        let _ = self.0.run(Host::Softswitch, &["ip", "route", "del", "10.0.0.0/8"]);
    }
}

/// What the flood moved, as (reason or outcome) and by how much.
fn moved(before: &Stats, after: &Stats) -> impl Fn(&str) -> u64 + use<> {
    let all: Vec<(String, u64)> = [after.moved_since(before), after.outcomes_since(before)].concat();
    move |label| all.iter().find(|(name, _)| name == label).map_or(0, |(_, n)| *n)
}

/// The flood came through the decision, was more than the agent's budget for strangers, and left nobody banned.
fn assert_arrived(agent: &Agent<'_>, sent: Sent, moved: impl Fn(&str) -> u64) -> anyhow::Result<()> {
    let labels = ["challenge", "source_rate", "lane_rate", "challenged", "bad_nonce", "authenticated"];
    let figures: Vec<String> = labels.iter().map(|label| format!("{label} {}", moved(label))).collect();
    println!(
        "{} INVITEs with false sources in {:.1} s ({:.0} a second): {}; agent at most {} KiB",
        sent.frames,
        sent.elapsed.as_secs_f64(),
        sent.frames as f64 / sent.elapsed.as_secs_f64(),
        figures.join(", "),
        agent.peak_memory()?
    );
    let judged = moved("challenge") + moved("source_rate") + moved("lane_rate");
    assert!(judged >= sent.frames * 9 / 10, "{judged} of {} met the decision", sent.frames);
    assert!(sent.frames > 2 * u64::from(SOURCES), "each source more than once");
    assert!(moved("lane_rate") > sent.frames / 10, "more than strangers may send together");
    assert!(
        moved("challenged") > 1_000 && moved("bad_nonce") > 1_000,
        "the agent had its share of it"
    );
    assert_eq!(agent.json(&["ban", "list"])?, serde_json::json!([]));
    assert!(agent.peak_memory()? < MEMORY_KIB);
    Ok(())
}

#[test]
fn a_flood_from_100_000_false_sources_costs_no_gateway_a_call() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    for host in [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword, Host::ProviderPeer] {
        match host {
            Host::ProviderPeer => agent.add_password("late", "late", PASSWORD, &[&host.v4().to_string()])?,
            _ => add(&agent, host)?,
        }
    }
    // From anywhere: strangers are challenged, which is the hardest case.
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    let roaming = Call::from(Host::NatPassword).digest("roaming", PASSWORD);
    for call in [&digest(Host::PbxPassword), &roaming] {
        assert!(observe(&lab, &agent, call)?.0.all_answered(), "before the flood");
    }
    let _router = Router::new(&lab)?;
    let realm = agent.json(&["status"])?["realm"].as_str().unwrap_or_default().to_owned();
    let stolen = ask(&lab, Host::Stranger, 5070, None, 1)?.expect("a challenge");
    let nonce = parameter(&stolen, "nonce").expect("a nonce").to_owned();
    let guess = |username: &str, nonce: Option<&str>| {
        let invented = Guess::invented(username, &realm);
        Guess {
            nonce: nonce.map_or(invented.nonce, str::to_owned),
            ..Guess::invented(username, &realm)
        }
    };
    let port = |host: Host| SocketAddrV4::new(host.seen_v4(), 5060);
    let flood = Flood {
        victims: [
            Host::CarrierIp,
            Host::CarrierPort,
            Host::PbxPassword,
            Host::NatPassword,
            Host::ProviderPeer,
        ]
        .map(port)
        .into(),
        every: 2_000,
        guesses: vec![
            guess("pbx-password", None),
            guess("roaming", Some(&nonce)),
            guess("nobody", Some(&nonce)),
        ],
        frames: 6_000_000,
        time: Duration::from_secs(12),
        ..Flood::from(SOURCES)
    };

    let before = agent.stats()?;
    let calls = [
        Call::from(Host::CarrierIp),
        Call::from(Host::CarrierPort),
        digest(Host::PbxPassword),
        roaming,
    ]
    .map(|call| call.times(150, 15).hold(HOLD));
    let running: Vec<_> = calls.iter().map(|call| call.start(&lab)).collect::<anyhow::Result<_>>()?;
    let (sent, late) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood.run(&lab));
        // Gateways that have not called before. The one has an address of its own; of the other nothing is known.
        std::thread::sleep(Duration::from_secs(2));
        let first = |host: Host, user: &str, port: u16| Call::from(host).digest(user, PASSWORD).port(port).hold(HOLD).run(&lab);
        let listed: anyhow::Result<Vec<Outcome>> = (5061..5067).map(|port| first(Host::ProviderPeer, "late", port)).collect();
        let unknown = first(Host::NatPort, "roaming", 5060);
        (flood.join().expect("the flood"), (listed, unknown))
    });
    let outcomes: Vec<Outcome> = running.into_iter().map(|calls| calls.finish()).collect::<anyhow::Result<_>>()?;
    let (listed, unknown) = (late.0?, late.1?);
    println!(
        "a first call from an unknown address under the flood: {} of {}",
        unknown.answered, unknown.tried
    );
    println!("first calls of a listed address: {listed:?}; others {outcomes:?}");
    assert_arrived(&agent, sent?, moved(&before, &agent.stats()?))?;
    for (call, outcome) in calls.iter().zip(&outcomes) {
        assert!(outcome.all_answered(), "{}: {outcome:?}", call.caller().name());
    }
    // Each from a port of its own, so each is a first one.
    assert!(
        listed.iter().all(Outcome::all_answered),
        "first calls of a listed address: {listed:?}"
    );
    Ok(())
}

#[test]
fn wrong_passwords_under_a_false_address_ban_nobody() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    let realm = agent.json(&["status"])?["realm"].as_str().unwrap_or_default().to_owned();
    let victim = Host::CarrierIp;
    let answer = ask(&lab, Host::Stranger, 5070, None, 1)?.expect("a challenge");
    let mut guess = Guess {
        nonce: parameter(&answer, "nonce").expect("a nonce").to_owned(),
        ..Guess::invented("roaming", &realm)
    };
    // Ten times as many as get a source banned; within what one source may send.
    let count = 60;
    for nonce in [guess.clone(), Guess::invented("roaming", &realm)] {
        let before = agent.stats()?;
        let attack = Flood {
            victims: vec![SocketAddrV4::new(victim.v4(), 5060)],
            guesses: vec![nonce],
            frames: 2 * count,
            ..Flood::from(1)
        };
        assert_eq!(attack.run(&lab)?.frames, 2 * count);
        std::thread::sleep(Duration::from_millis(300));
        let moved = moved(&before, &agent.stats()?);
        // Every other INVITE has credentials.
        assert_eq!(
            (moved("bad_nonce"), moved("challenged"), moved("wrong_password")),
            (count, count, 0)
        );
    }
    assert_eq!(agent.json(&["ban", "list"])?, serde_json::json!([]));
    let call = Call::from(victim).digest("roaming", PASSWORD);
    assert!(observe(&lab, &agent, &call)?.0.all_answered());

    // The control: who guesses with a nonce that was issued to him is banned, and nobody else is.
    let before = agent.stats()?;
    for serial in 2..8 {
        let answer = ask(&lab, Host::Stranger, 5070, Some(&guess), serial)?.expect("an answer");
        if let Some(nonce) = parameter(&answer, "nonce") {
            nonce.clone_into(&mut guess.nonce);
        }
    }
    assert_eq!(moved(&before, &agent.stats()?)("wrong_password"), 6);
    let bans = agent.json(&["ban", "list"])?;
    assert_eq!(bans.as_array().map(Vec::len), Some(1), "{bans}");
    assert_eq!(bans[0]["address"], Host::Stranger.v4().to_string());
    assert!(observe(&lab, &agent, &call)?.0.all_answered());
    Ok(())
}
