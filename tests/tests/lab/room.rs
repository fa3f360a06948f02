//! More sources authenticate than there is room for in the map of flows: whose flows go, and whose calls go on.

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::SIP_PORT;
use sipauth_tests::require_root;

use crate::phone::Phone;
use crate::support::{PASSWORD, add, lab};

/// What the operator sets first, and then: the least.
const ROOM: [usize; 2] = [2_048, 1_024];
/// More than the map has with its head room, so that without the agent the kernel would have to forget the oldest flow.
const MANY: u16 = 3_400;
const FIRST_PORT: u16 = 10_000;

/// Usernames of the greedy. A telephone has its own for as long as the test runs.
fn accounts(count: usize) -> Vec<&'static str> {
    (0..count).map(|number| &*format!("greedy-{number}").leak()).collect()
}

fn address(host: Host, port: u16) -> SocketAddr {
    SocketAddr::from((host.v4(), port))
}

fn bound(lab: &Lab, host: Host, port: u16) -> anyhow::Result<UdpSocket> {
    lab.inside(host, || {
        let socket = UdpSocket::bind(address(host, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(socket)
    })
}

/// A softswitch that only listens.
struct Softswitch(UdpSocket);

impl Softswitch {
    /// Whether a request of this method comes from there.
    fn hears(&self, method: &str, from: SocketAddr) -> anyhow::Result<bool> {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + Duration::from_millis(200);
        while Instant::now() < deadline {
            match self.0.recv_from(&mut buffer) {
                Ok((length, source)) if source == from && buffer[..length].starts_with(method.as_bytes()) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// A gateway's calls from many ports, with one challenge.
struct Caller<'a> {
    lab: &'a Lab,
    host: Host,
    challenge: String,
    used: u32,
}

impl<'a> Caller<'a> {
    fn new(lab: &'a Lab, host: Host) -> anyhow::Result<Self> {
        let socket = bound(lab, host, FIRST_PORT - 1)?;
        let phone = Phone::new("whoever", PASSWORD);
        socket.send_to(phone.invite("first", 1, "").as_bytes(), address(Host::Softswitch, SIP_PORT))?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).context("no challenge")?;
        Ok(Self {
            lab,
            host,
            challenge: String::from_utf8_lossy(&buffer[..length]).into_owned(),
            used: 0,
        })
    }

    /// Places calls from all these ports, each until the softswitch has it.
    fn calls(&mut self, softswitch: &Softswitch, user: &'static str, ports: impl Iterator<Item = u16>) -> anyhow::Result<()> {
        for port in ports {
            let socket = bound(self.lab, self.host, port)?;
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                self.used += 1;
                let phone = Phone {
                    count: self.used,
                    ..Phone::new(user, PASSWORD)
                };
                let invite = phone.invite(&format!("call{}", self.used), 2, &phone.credentials(&self.challenge)?);
                socket.send_to(invite.as_bytes(), address(Host::Softswitch, SIP_PORT))?;
                if softswitch.hears("INVITE", address(self.host, port))? {
                    break;
                }
                ensure!(Instant::now() < deadline, "{user} cannot call from port {port}");
            }
        }
        Ok(())
    }

    /// One call from each of these ports, as fast as they can be sent.
    fn burst(&mut self, user: &'static str, ports: std::ops::Range<u16>) -> anyhow::Result<()> {
        let calls: Vec<(u16, String)> = ports
            .map(|port| {
                self.used += 1;
                let phone = Phone {
                    count: self.used,
                    ..Phone::new(user, PASSWORD)
                };
                Ok((port, phone.invite(&format!("{port}"), 2, &phone.credentials(&self.challenge)?)))
            })
            .collect::<anyhow::Result<_>>()?;
        self.lab.inside(self.host, || {
            for (port, invite) in &calls {
                let socket = UdpSocket::bind(address(self.host, *port))?;
                socket.send_to(invite.as_bytes(), address(Host::Softswitch, SIP_PORT))?;
            }
            Ok(())
        })
    }

    /// Whether the BYE to the call from a port reaches the softswitch.
    fn hangs_up(&self, softswitch: &Softswitch, port: u16) -> anyhow::Result<bool> {
        let bye = format!(
            "BYE sip:100@{} SIP/2.0\r\nVia: SIP/2.0/UDP phone.invalid;branch=z9hG4bKbye{port};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:a@phone.invalid>;tag=a\r\nTo: <sip:100@phone.invalid>;tag=b\r\nCall-ID: {port}@phone.invalid\r\nCSeq: 3 BYE\r\n\
             Content-Length: 0\r\n\r\n",
            address(Host::Softswitch, SIP_PORT)
        );
        let socket = bound(self.lab, self.host, port)?;
        socket.send_to(bye.as_bytes(), address(Host::Softswitch, SIP_PORT))?;
        softswitch.hears("BYE", address(self.host, port))
    }
}

fn warnings(agent: &Agent<'_>) -> anyhow::Result<String> {
    Ok(agent.json(&["status"])?["warnings"].to_string())
}

/// The greedy has these accounts, and calls from more ports than there is room for; then once more, after a restart with less room.
fn others_push_nobody_out(accounts: &[&'static str]) -> anyhow::Result<()> {
    let lab = lab();
    let softswitch = Softswitch(bound(&lab, Host::Softswitch, SIP_PORT)?);
    let mut agent = Agent::start(&lab, &["--max-flows", &ROOM[0].to_string()])?;
    add(&agent, Host::PbxPassword)?;
    let greedy = Host::ProviderPeer;
    for account in accounts {
        agent.add_password(account, account, PASSWORD, &[&greedy.v4().to_string()])?;
    }
    // The oldest flow of all, and quiet from now on.
    let mut victim = Caller::new(&lab, Host::PbxPassword)?;
    victim.calls(&softswitch, Host::PbxPassword.name(), std::iter::once(5070))?;
    let mut attacker = Caller::new(&lab, greedy)?;
    let each = MANY / u16::try_from(accounts.len())?;
    for (number, account) in (0..).zip(accounts) {
        let first = FIRST_PORT + number * each;
        attacker.calls(&softswitch, account, first..first + each)?;
    }

    let newest = FIRST_PORT + each * u16::try_from(accounts.len())? - 1;
    assert!(
        attacker.hangs_up(&softswitch, newest)?,
        "the newest call of who has too many goes on"
    );
    assert!(!attacker.hangs_up(&softswitch, FIRST_PORT)?, "its oldest was pushed out");
    assert!(victim.hangs_up(&softswitch, 5070)?, "the call of another gateway goes on");
    let told = warnings(&agent)?;
    assert!(
        told.contains("were pushed out in the last minute, lately most of greedy-"),
        "{told}"
    );
    assert!(agent.log_tail().contains("flows were pushed out"), "{}", agent.log_tail());

    // A smaller map takes what is fair, too; and an agent that begins anew knows how much room there is left.
    agent.stop()?;
    agent.set_options(&["--max-flows", &ROOM[1].to_string()]);
    agent.restart()?;
    assert!(victim.hangs_up(&softswitch, 5070)?, "the call goes on after a restart");
    let mut attacker = Caller::new(&lab, greedy)?;
    attacker.calls(&softswitch, accounts[0], 20_000..20_000 + MANY / 2)?;
    assert!(victim.hangs_up(&softswitch, 5070)?, "and after another attack");
    assert!(attacker.hangs_up(&softswitch, 20_000 + MANY / 2 - 1)?);
    let flows = agent.json(&["flow", "list"])?;
    let flows = flows.as_array().context("no list")?;
    assert!((ROOM[1] / 2..=ROOM[1] + 1).contains(&flows.len()), "{} flows", flows.len());
    let holders: HashSet<_> = flows.iter().map(|flow| flow["gateway"].to_string()).collect();
    assert_eq!(holders.len(), accounts.len() + 1, "nobody has lost all: {holders:?}");
    Ok(())
}

#[test]
fn a_gateway_that_calls_from_more_ports_than_there_is_room_for_pushes_out_its_own_flows_alone() -> anyhow::Result<()> {
    require_root!(Ok(()));
    others_push_nobody_out(&accounts(1))
}

#[test]
fn nor_do_twenty_accounts_push_out_a_gateway_that_has_few() -> anyhow::Result<()> {
    require_root!(Ok(()));
    others_push_nobody_out(&accounts(20))
}

#[test]
fn nor_does_a_burst_of_calls_as_fast_as_a_gateway_may_send() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let softswitch = Softswitch(bound(&lab, Host::Softswitch, SIP_PORT)?);
    let agent = Agent::start(&lab, &["--max-flows", &ROOM[1].to_string()])?;
    add(&agent, Host::PbxPassword)?;
    let greedy = [Host::ProviderPeer, Host::CarrierPort];
    let addresses = greedy.map(|host| host.v4().to_string());
    let account = accounts(1)[0];
    agent.add_password(account, account, PASSWORD, &[&addresses[0], &addresses[1]])?;
    let mut victim = Caller::new(&lab, Host::PbxPassword)?;
    victim.calls(&softswitch, Host::PbxPassword.name(), std::iter::once(5070))?;
    let mut attackers = [Caller::new(&lab, greedy[0])?, Caller::new(&lab, greedy[1])?];
    let before = agent.stats()?.authentication("authenticated");
    std::thread::scope(|scope| {
        let bursts = attackers.each_mut();
        let bursts = bursts.map(|caller| scope.spawn(|| caller.burst(account, FIRST_PORT..FIRST_PORT + MANY / 2)));
        bursts.into_iter().try_for_each(|burst| burst.join().expect("a burst"))
    })?;
    // The agent has worked off what its queues took.
    let mut admitted = 0;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = agent.stats()?.authentication("authenticated") - before;
        if now == admitted {
            break;
        }
        admitted = now;
    }
    // Its socket is full of calls that nobody has read yet.
    while softswitch.hears("INVITE", address(greedy[0], FIRST_PORT))? {}
    println!("{admitted} of {MANY} calls in one burst were admitted");
    assert!(admitted > 2 * ROOM[1] as u64, "{admitted} flows fill no map");
    assert!(victim.hangs_up(&softswitch, 5070)?, "the call of another gateway goes on");
    let flows = agent.json(&["flow", "list"])?;
    assert!(flows.as_array().context("no list")?.len() <= ROOM[1]);
    Ok(())
}
