//! Real programs as password gateways: each registers and calls, directly and through the NAT, over UDP and TCP, with Kamailio as the softswitch.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sipauth_tests::agent::{Agent, Stats};
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Account, Baresip, Call, Controller, Linphone, Sipsak, Softphone, Switch, Via};
use sipauth_tests::require_root;

use crate::support::{add, lab};

const PASSWORD: &str = "s3cretofthelab";
const HOSTS: [Host; 2] = [Host::PbxPassword, Host::NatPassword];
const VIAS: [Via; 2] = [Via::Udp4, Via::Tcp4];

/// Softswitch and agent as a gateway finds them over one transport, and what has become of it since.
struct Site<'a> {
    agent: &'a Agent<'a>,
    switch: &'a Switch,
    host: Host,
    via: Via,
    before: Stats,
    mark: usize,
}

impl<'a> Site<'a> {
    fn new(agent: &'a Agent<'a>, switch: &'a Switch, host: Host, via: Via) -> anyhow::Result<Self> {
        Ok(Self {
            agent,
            switch,
            host,
            via,
            before: agent.stats()?,
            mark: switch.mark(),
        })
    }

    const fn account(&self) -> Account<'static> {
        Account {
            user: self.host.name(),
            password: PASSWORD,
        }
    }

    const fn impostor(&self) -> Account<'static> {
        Account {
            user: self.host.name(),
            password: "notit",
        }
    }

    fn moved(&self, label: &str) -> anyhow::Result<u64> {
        Ok(self.agent.stats()?.authentication(label) - self.before.authentication(label))
    }

    fn what(&self, program: &str) -> String {
        let now = self.agent.stats();
        let outcomes = now.map(|now| (now.outcomes_since(&self.before), now.moved_since(&self.before)));
        format!(
            "{program} on {} over {}: {outcomes:?}\n{}",
            self.host.name(),
            self.via.label(),
            self.agent.log_tail()
        )
    }

    /// So many passwords were right and none was wrong, the softswitch has seen this and nothing more, and nothing was dropped.
    fn assert_seen(&self, program: &str, authenticated: u64, methods: &[(&str, usize)]) -> anyhow::Result<()> {
        for (method, count) in methods {
            let waited = self.switch.wait_for(self.mark, self.via, method, *count);
            waited.with_context(|| self.what(program))?;
            let seen = self.switch.seen_since(self.mark, self.via, method);
            assert_eq!(seen, *count, "{method}, {}", self.what(program));
        }
        let now = self.agent.stats()?;
        let dropped = now.gateway(self.host.name(), "drop") - self.before.gateway(self.host.name(), "drop");
        assert_eq!(dropped, 0, "{}", self.what(program));
        assert_eq!(self.moved("authenticated")?, authenticated, "{}", self.what(program));
        assert_eq!(self.moved("wrong_password")?, 0, "{}", self.what(program));
        Ok(())
    }

    /// The agent has met a wrong password, and the softswitch nothing at all.
    fn assert_refused(&self, program: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.moved("wrong_password")? == 0 {
            assert!(Instant::now() < deadline, "no wrong password, {}", self.what(program));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.moved("authenticated")?, 0, "{}", self.what(program));
        for via in VIAS {
            for method in ["REGISTER", "INVITE", "OPTIONS"] {
                assert_eq!(
                    self.switch.seen_since(self.mark, via, method),
                    0,
                    "{method}, {}",
                    self.what(program)
                );
            }
        }
        Ok(())
    }
}

/// In every place that a gateway can be in, over every transport: first with the wrong password, then with the right one.
fn everywhere(
    wrong: impl Fn(&Lab, &Site<'_>) -> anyhow::Result<()>,
    right: impl Fn(&Lab, &Site<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let lab = lab();
    let switch = Switch::start(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    for host in HOSTS {
        agent.add_password(host.name(), host.name(), PASSWORD, &[&host.seen_v4().to_string()])?;
        for via in VIAS {
            wrong(&lab, &Site::new(&agent, &switch, host, via)?)?;
            right(&lab, &Site::new(&agent, &switch, host, via)?)?;
        }
    }
    Ok(())
}

fn softphone<P: Softphone>(name: &str) -> anyhow::Result<()> {
    everywhere(
        |lab, site| {
            let mut phone = P::start(lab, site.host, site.via, site.impostor())?;
            assert!(!phone.is_registered()?, "{}", site.what(name));
            site.assert_refused(name)
        },
        |lab, site| {
            let mut phone = P::start(lab, site.host, site.via, site.account())?;
            assert!(phone.is_registered()?, "{}", site.what(name));
            assert!(phone.dial()?, "{}", site.what(name));
            phone.hang_up()?;
            site.assert_seen(name, 2, &[("REGISTER", 1), ("INVITE", 1), ("ACK", 1), ("BYE", 1)])
        },
    )
}

#[test]
fn baresip_registers_and_calls() -> anyhow::Result<()> {
    require_root!(Ok(()));
    softphone::<Baresip>("baresip")
}

#[test]
fn linphone_registers_and_calls() -> anyhow::Result<()> {
    require_root!(Ok(()));
    softphone::<Linphone>("linphone")
}

#[test]
fn sipsak_registers_calls_and_asks() -> anyhow::Result<()> {
    require_root!(Ok(()));
    everywhere(
        |lab, site| {
            let sipsak = Sipsak::new(lab, site.host, site.via, site.impostor());
            assert!(!sipsak.register()?, "{}", site.what("sipsak"));
            assert!(!sipsak.call("wrong")?, "{}", site.what("sipsak"));
            site.assert_refused("sipsak")
        },
        |lab, site| {
            let sipsak = Sipsak::new(lab, site.host, site.via, site.account());
            assert!(sipsak.register()?, "{}", site.what("sipsak"));
            assert!(sipsak.call("right")?, "{}", site.what("sipsak"));
            assert!(sipsak.options()?, "{}", site.what("sipsak"));
            // Over TCP each of its requests has a connection of its own, on which a BYE needs a password as well.
            let authenticated = if site.via.tcp() { 4 } else { 3 };
            let seen = [("REGISTER", 1), ("INVITE", 1), ("ACK", 1), ("BYE", 1), ("OPTIONS", 1)];
            site.assert_seen("sipsak", authenticated, &seen)
        },
    )
}

#[test]
fn kamailio_registers_and_calls_as_a_client() -> anyhow::Result<()> {
    require_root!(Ok(()));
    everywhere(
        |lab, site| {
            let controller = Controller::start(lab, site.host, site.via, site.impostor())?;
            let outcome = controller.call().run(lab)?;
            assert!(outcome.all_refused(), "{outcome:?} {}", site.what("kamailio"));
            site.assert_refused("kamailio")
        },
        |lab, site| {
            let controller = Controller::start(lab, site.host, site.via, site.account())?;
            site.switch.wait_for(site.mark, site.via, "REGISTER", 1)?;
            let outcome = controller.call().times(3, 20).run(lab)?;
            assert!(outcome.all_answered(), "{outcome:?} {}", site.what("kamailio"));
            site.assert_seen("kamailio", 4, &[("REGISTER", 1), ("INVITE", 3), ("ACK", 3), ("BYE", 3)])
        },
    )
}

#[test]
fn sipp_registers_and_calls() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let both = |site: &Site<'_>, password| {
        let (call, user) = (Call::from(site.host).via(site.via), site.host.name());
        [call.clone().register(user, password), call.digest(user, password)]
    };
    everywhere(
        |lab, site| {
            for call in both(site, site.impostor().password) {
                let outcome = call.run(lab)?;
                assert!(outcome.all_refused(), "{outcome:?} {}", site.what("SIPp"));
            }
            site.assert_refused("SIPp")
        },
        |lab, site| {
            for call in both(site, PASSWORD) {
                let outcome = call.run(lab)?;
                assert!(outcome.all_answered(), "{outcome:?} {}", site.what("SIPp"));
            }
            site.assert_seen("SIPp", 2, &[("REGISTER", 1), ("INVITE", 1), ("ACK", 1), ("BYE", 1)])
        },
    )
}

#[test]
fn a_telephone_behind_the_nat_is_called_where_it_registered() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    for via in VIAS {
        let switch = Switch::start(&lab)?;
        let agent = Agent::start(&lab, &[])?;
        add(&agent, Host::CarrierIp)?;
        let (host, user) = (Host::NatPassword, Host::NatPassword.name());
        agent.add_password(user, user, PASSWORD, &[&host.seen_v4().to_string()])?;
        let site = Site::new(&agent, &switch, host, via)?;
        let call = Call::from(Host::CarrierIp);
        let outcome = call.run(&lab)?;
        assert!(outcome.rejected == 1, "nobody is registered: {outcome:?} {}", site.what("baresip"));
        let mut phone = Baresip::start(&lab, host, via, site.account())?;
        assert!(phone.is_registered()?, "{}", site.what("baresip"));
        let outcome = call.run(&lab)?;
        assert!(outcome.all_answered(), "{outcome:?} {}", site.what("baresip"));
        assert_eq!(site.moved("authenticated")?, 1, "{}", site.what("baresip"));
    }
    Ok(())
}

/// What a gateway may be set to, and which of Linphone, baresip and sipsak still register.
const SETTINGS: [(&[&str], [bool; 3]); 6] = [
    (&["--challenge", "407"], [true, true, true]),
    (&["--qop", "none"], [true, true, true]),
    (&["--qop", "both"], [true, true, true]),
    (&["--one-time-nonces"], [true, true, true]),
    (&["--algorithm", "SHA-256"], [true, false, false]),
    (&["--algorithm", "SHA-256", "--algorithm", "MD5"], [true, false, false]),
];

#[test]
fn real_programs_live_with_the_settings_that_their_makers_knew() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let switch = Switch::start(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    let host = Host::PbxPassword;
    let own = host.v4().to_string();
    for (settings, expected) in SETTINGS {
        let mut options = vec!["--username", host.name(), "--password-stdin", "--address", &own];
        options.extend(settings);
        agent.add_with_input(host.name(), "password", &options, &format!("{PASSWORD}\n"))?;
        let site = Site::new(&agent, &switch, host, Via::Udp4)?;
        let registers = [
            Linphone::start(&lab, host, Via::Udp4, site.account())?.is_registered()?,
            Baresip::start(&lab, host, Via::Udp4, site.account())?.is_registered()?,
            Sipsak::new(&lab, host, Via::Udp4, site.account()).register()?,
        ];
        assert_eq!(registers, expected, "{settings:?}: {}", site.what("registration"));
        let right = u64::try_from(expected.iter().filter(|works| **works).count())?;
        assert_eq!(site.moved("authenticated")?, right, "{settings:?}: {}", site.what("registration"));
        assert_eq!(agent.cli(&["gateway", "remove", host.name()])?.code, 0);
    }
    Ok(())
}

/// The agent finds the first call of a client right, and the kernel program those after it.
#[test]
fn calls_of_kamailio_as_a_client_are_found_right_by_the_kernel_program() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    let switch = Switch::start(&lab)?;
    let agent = Agent::start(&lab, &["--challenger", "kernel"])?;
    let host = Host::NatPassword;
    agent.add_password(host.name(), host.name(), PASSWORD, &[&host.seen_v4().to_string()])?;
    let site = Site::new(&agent, &switch, host, Via::Udp4)?;
    let controller = Controller::start(&lab, host, Via::Udp4, site.account())?;
    switch.wait_for(site.mark, site.via, "REGISTER", 1)?;
    let outcome = controller.call().times(5, 20).run(&lab)?;
    assert!(outcome.all_answered(), "{outcome:?} {}", site.what("kamailio"));
    site.assert_seen("kamailio", 6, &[("REGISTER", 1), ("INVITE", 5), ("ACK", 5), ("BYE", 5)])?;
    let by_kernel = agent.stats()?.reason("authenticated") - site.before.reason("authenticated");
    assert_eq!(by_kernel, 4, "{}", site.what("kamailio"));
    Ok(())
}
