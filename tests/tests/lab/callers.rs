//! Passwords that the kernel program checks, with the agent beside it: what ends that, and that both remember what was used.

use aya::maps::{Array, Map, MapData};
use sipauth_common::abi;
use sipauth_common::proof::{Slot, USES};
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Uas, Via};
use sipauth_tests::require_root;

use crate::phone::{Phone, exchange};
use crate::support::{PASSWORD, lab};

const KERNEL: &[&str] = &["--challenger", "kernel"];
const USER: &str = "anywhere";
const PORT: u16 = 5070;
const OTHER: &str = "another password of the test";

/// A call from a port of a host: the statuses of the answers, and by whom it was found right.
struct Caller<'a> {
    lab: &'a Lab,
    agent: Agent<'a>,
    calls: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum By {
    Kernel,
    Agent,
    Nobody,
}

impl<'a> Caller<'a> {
    /// Of a gateway that may call from anywhere.
    fn new(lab: &'a Lab, options: &[&str]) -> anyhow::Result<Self> {
        let agent = Agent::start(lab, &[KERNEL, options].concat())?;
        agent.add_password(USER, USER, PASSWORD, &[])?;
        Ok(Self { lab, agent, calls: 0 })
    }

    /// A call as one is made, with its request that has the credentials.
    fn call(&mut self, port: u16, password: &'static str) -> anyhow::Result<(By, Vec<u16>, String)> {
        self.calls += 1;
        let (phone, name) = (Phone::new(USER, password), format!("c{}", self.calls));
        // As long as one with a session description: the kernel program's answer needs the room.
        let room = format!("Subject: {}\r\n", "x".repeat(400));
        let (statuses, challenge) = exchange(self.lab, Host::Stranger, port, &phone.invite(&name, 1, &room))?;
        anyhow::ensure!(statuses == [401], "{name}: {challenge}");
        let request = phone.invite(&name, 2, &format!("{}{room}", phone.credentials(&challenge)?));
        let (by, statuses) = self.send(port, &request)?;
        Ok((by, statuses, request))
    }

    fn send(&self, port: u16, request: &str) -> anyhow::Result<(By, Vec<u16>)> {
        let before = self.agent.stats()?;
        let (statuses, _) = exchange(self.lab, Host::Stranger, port, request)?;
        let after = self.agent.stats()?;
        let kernel = after.reason("authenticated") - before.reason("authenticated");
        let all = after.authentication("authenticated") - before.authentication("authenticated");
        let by = match (kernel, all) {
            (1, 1) => By::Kernel,
            (0, 1) => By::Agent,
            (0, 0) => By::Nobody,
            counts => anyhow::bail!("counted {counts:?}"),
        };
        Ok((by, statuses))
    }

    fn by(&mut self, password: &'static str) -> anyhow::Result<By> {
        let (by, statuses, _) = self.call(PORT, password)?;
        // What is right gets through, and nothing else.
        assert_eq!(statuses.contains(&200), by != By::Nobody, "{by:?}: {statuses:?}");
        Ok(by)
    }
}

#[test]
fn a_new_password_or_a_removed_gateway_or_a_new_agent_ends_what_the_kernel_program_knows() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let mut caller = Caller::new(&lab, &[])?;
    assert_eq!(caller.by(PASSWORD)?, By::Agent);
    assert_eq!(caller.by(PASSWORD)?, By::Kernel);
    // Any change of gateways, of whichever.
    caller.agent.add_password("other", "other", PASSWORD, &[])?;
    assert_eq!(caller.by(PASSWORD)?, By::Agent);
    assert_eq!(caller.by(PASSWORD)?, By::Kernel);

    let set = caller
        .agent
        .cli_with_input(&["gateway", "set", USER, "--password-stdin"], &format!("{OTHER}\n"))?;
    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!(caller.by(PASSWORD)?, By::Nobody, "the old one");
    assert_eq!(caller.by(OTHER)?, By::Agent);
    assert_eq!(caller.by(OTHER)?, By::Kernel);
    assert_eq!(caller.by(PASSWORD)?, By::Nobody);
    assert_eq!(caller.by(OTHER)?, By::Agent);

    // Its counters and flows outlive the agent, and so would what it knows.
    assert_eq!(caller.by(OTHER)?, By::Kernel);
    caller.agent.kill()?;
    caller.agent.restart()?;
    assert_eq!(caller.by(OTHER)?, By::Agent);
    assert_eq!(caller.by(OTHER)?, By::Kernel);
    assert_eq!(caller.agent.cli(&["ban", "add", &Host::Stranger.v4().to_string()])?.code, 0);
    let (by, statuses) = caller.send(PORT, &Phone::new(USER, OTHER).invite("banned", 1, ""))?;
    assert_eq!((by, statuses), (By::Nobody, vec![]));
    assert_eq!(caller.agent.cli(&["ban", "remove", &Host::Stranger.v4().to_string()])?.code, 0);
    assert_eq!(caller.by(OTHER)?, By::Kernel);

    assert_eq!(caller.agent.cli(&["gateway", "remove", USER])?.code, 0);
    assert_eq!(caller.by(OTHER)?, By::Nobody);
    Ok(())
}

#[test]
fn what_either_has_used_no_other_request_can_use() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let mut caller = Caller::new(&lab, &[])?;
    for expected in [By::Agent, By::Kernel, By::Kernel] {
        let (by, statuses, request) = caller.call(PORT, PASSWORD)?;
        assert_eq!(by, expected);
        assert!(statuses.contains(&200), "{statuses:?}");
        // The same datagram again is the softswitch's to answer, as a retransmission.
        let before = caller.agent.stats()?.authentication("retransmission");
        assert_eq!(caller.send(PORT, &request)?.0, By::Nobody);
        assert_eq!(caller.agent.stats()?.authentication("retransmission") - before, 1);
        let name = format!("c{}", caller.calls);
        for (port, other) in [
            (PORT, request.replace(&format!("{name}@"), "stolen@")),
            (PORT, request.replace("CSeq: 2", "CSeq: 3")),
            (PORT + 1, request.clone()),
        ] {
            let (by, statuses) = caller.send(port, &other)?;
            assert_eq!((by, statuses), (By::Nobody, vec![401]), "{other}");
        }
    }
    // Credentials for one number are none for another.
    let (_, _, request) = caller.call(PORT, PASSWORD)?;
    let (by, statuses) = caller.send(PORT, &request.replace("sip:100@", "sip:900@"))?;
    assert_eq!((by, statuses), (By::Nobody, vec![401]));
    Ok(())
}

#[test]
fn who_fails_is_counted_and_locked_out_though_he_is_known() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let mut caller = Caller::new(&lab, &["--ban-limit", "2"])?;
    assert_eq!(caller.by(PASSWORD)?, By::Agent);
    assert_eq!(caller.by(PASSWORD)?, By::Kernel);
    assert_eq!(caller.by("a guess")?, By::Nobody);
    assert_eq!(caller.by(PASSWORD)?, By::Agent, "the agent looks at him again");
    assert_eq!(caller.by(PASSWORD)?, By::Kernel);
    // Guesses between right calls: three limits of two, of which one is used up.
    for guess in 2..=6 {
        assert_eq!(caller.by("a guess")?, By::Nobody, "{guess}");
    }
    let before = caller.agent.stats()?.authentication("locked_out");
    for _ in 0..3 {
        let (by, statuses, _) = caller.call(PORT, PASSWORD)?;
        assert_eq!((by, statuses), (By::Nobody, vec![403]));
    }
    assert_eq!(caller.agent.stats()?.authentication("locked_out") - before, 3);
    Ok(())
}

#[test]
fn settings_that_are_reloaded_count_for_who_is_known_too() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let path = lab.state().join("callers.toml");
    std::fs::write(&path, "")?;
    let mut caller = Caller::new(&lab, &["--config", &path.to_string_lossy()])?;
    assert_eq!(caller.by(PASSWORD)?, By::Agent);
    assert_eq!(caller.by(PASSWORD)?, By::Kernel);
    // Answered with `qop=auth` all the same.
    for (settings, expected) in [
        ("[digest]\nqop = \"auth-int\"\n", [By::Nobody, By::Nobody]),
        ("[digest]\nqop = \"both\"\n", [By::Agent, By::Kernel]),
        ("realm = \"sipauth\"\n", [By::Agent, By::Kernel]),
    ] {
        std::fs::write(&path, settings)?;
        let said = caller.agent.cli(&["reload"])?;
        assert_eq!(said.code, 0, "{said:?}");
        for expected in expected {
            assert_eq!(caller.by(PASSWORD)?, expected, "{settings}");
        }
    }
    Ok(())
}

/// As after a flood, in which more nonces were made than are remembered.
#[test]
fn a_nonce_whose_use_may_be_forgotten_costs_another_challenge_and_no_call() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let mut caller = Caller::new(&lab, &[])?;
    assert_eq!(caller.by(PASSWORD)?, By::Agent);
    let pin = caller.agent.bpffs().join(format!("v{}", abi::LAYOUT)).join(abi::MAP_NONCES);
    let mut nonces = Array::<_, Slot>::try_from(Map::Array(MapData::from_pin(pin)?))?;
    let (phone, room) = (Phone::new(USER, PASSWORD), format!("Subject: {}\r\n", "x".repeat(400)));
    let (statuses, challenge) = exchange(&lab, Host::Stranger, PORT, &phone.invite("forgotten", 1, &room))?;
    assert_eq!(statuses, [401], "{challenge}");
    let made = nonces.get(&0, 0)?;
    nonces.set(
        0,
        Slot {
            claim: made.claim + u64::from(USES),
            ..made
        },
        0,
    )?;
    let request = phone.invite("forgotten", 2, &phone.credentials(&challenge)?);
    let (statuses, again) = exchange(&lab, Host::Stranger, PORT, &request)?;
    assert!(statuses == [401] && again.contains("stale=true"), "{again}");
    let request = phone.invite("forgotten", 3, &phone.credentials(&again)?);
    let (by, statuses) = caller.send(PORT, &request)?;
    assert!(by == By::Agent && statuses.contains(&200), "{by:?} {statuses:?}");
    assert_eq!(caller.by(PASSWORD)?, By::Kernel);
    Ok(())
}
