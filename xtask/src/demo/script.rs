//! Who is who in the demo, which calls are made, and what must come of each.

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Outcome, Via};

use super::verdict::Seen;

/// Of the password gateways of the demo.
pub(super) const PASSWORD: &str = "only-for-these-calls";

/// What a host is for, in one line.
pub(super) const fn role(host: Host) -> &'static str {
    match host {
        Host::Softswitch => "protected: XDP on its network card",
        Host::CarrierIp => "mapping gateway, mode ip",
        Host::CarrierPort => "mapping gateway, mode ip-port (5060)",
        Host::PbxPassword => "mapping gateway, mode password",
        Host::ProviderPeer => "routing gateway, mode peer: it is called, it never calls",
        Host::Stranger => "nobody's gateway",
        Host::NatPassword => "mode password, behind NAT: seen as 203.0.113.40",
        Host::NatPort => "mode ip-port, behind NAT: seen as 203.0.113.41, another port each time",
    }
}

/// One line of the demo.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) call: Call,
    /// Name of the gateway; `None` for the stranger.
    pub(super) gateway: Option<&'static str>,
    pub(super) mode: &'static str,
    pub(super) what: &'static str,
    pub(super) outgoing: bool,
    pub(super) expect: Expect,
}

/// What must come of a step, and how many packets the filter must have counted for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expect {
    /// Answered; the filter alone admitted it, for this reason.
    Admitted(&'static str),
    /// Answered in IP fragments: the first for this reason, the others as fragments.
    AdmittedInFragments(&'static str),
    /// Answered after a challenge.
    Authenticated,
    /// Answered: the softswitch called, and what came back passed as from a peer.
    Called,
    /// The filter refused it, for this reason.
    Refused(&'static str),
    /// The agent refused it: the kernel's reason for asking the agent, and the agent's outcome.
    RefusedByAgent(&'static str, &'static str),
}

/// Adds the gateways, and shows the commands.
pub(super) fn add_gateways(agent: &Agent<'_>) -> anyhow::Result<()> {
    let both = |h: Host| [Some(h.seen_v4().to_string()), h.v6().map(|a| a.to_string())];
    let gateways = [
        (Host::CarrierIp, "ip"),
        (Host::CarrierPort, "ip-port"),
        (Host::PbxPassword, "password"),
        (Host::ProviderPeer, "peer"),
        (Host::NatPassword, "password"),
        (Host::NatPort, "ip-port"),
    ];
    for (host, mode) in gateways {
        let addresses: Vec<String> = both(host).into_iter().flatten().collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let mut shown = format!("sipauth gateway add {} --mode {mode}", host.name());
        addresses.iter().for_each(|a| shown += &format!(" --address {a}"));
        if mode == "password" {
            agent.add_password(host.name(), host.name(), PASSWORD, &addresses)?;
            shown += &format!(" --username {} --password-stdin", host.name());
        } else {
            let mut options: Vec<&str> = addresses.iter().flat_map(|a| ["--address", a]).collect();
            if mode == "ip-port" {
                options.extend(["--port", "5060"]);
                shown += " --port 5060";
            }
            agent.add(host.name(), mode, &options)?;
        }
        println!("  {shown}");
    }
    Ok(())
}

/// All calls, in the order of the table.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |mode: &'static str, what: &'static str, call: Call, expect: Expect| {
        let gateway = (call.caller() != Host::Stranger).then(|| call.caller().name());
        steps.push(Step {
            call,
            gateway,
            mode,
            what,
            outgoing: false,
            expect,
        });
    };
    let ip = Call::from(Host::CarrierIp);
    for via in Via::ALL {
        let call = if via == Via::Udp4 {
            ip.clone().times(5, 20)
        } else {
            ip.clone().via(via)
        };
        add("ip", "call", call, Expect::Admitted("ip_match"));
    }
    add(
        "ip",
        "call, INVITE of 4 KB in fragments",
        ip.padding(3600),
        Expect::AdmittedInFragments("ip_match"),
    );

    let port = Call::from(Host::CarrierPort);
    for via in Via::ALL {
        add(
            "ip-port",
            "call from port 5060",
            port.clone().via(via),
            Expect::Admitted("port_match"),
        );
    }
    add("ip-port", "call from port 5099", port.port(5099), Expect::Refused("port_mismatch"));
    add(
        "ip-port",
        "call, port changed by NAT",
        Call::from(Host::NatPort),
        Expect::Refused("port_mismatch"),
    );

    for via in Via::ALL {
        let call = Call::from(Host::PbxPassword).via(via).digest(Host::PbxPassword.name(), PASSWORD);
        add("password", "call, right password", call, Expect::Authenticated);
    }
    let call = Call::from(Host::NatPassword).digest(Host::NatPassword.name(), PASSWORD);
    add("password", "call through NAT, right password", call, Expect::Authenticated);
    let call = Call::from(Host::PbxPassword).port(5061);
    add(
        "password",
        "call, wrong password",
        call.clone().digest(Host::PbxPassword.name(), "guess"),
        Expect::RefusedByAgent("challenge", "wrong_password"),
    );
    add(
        "password",
        "call, wrong password",
        call.clone().via(Via::Tcp4).digest(Host::PbxPassword.name(), "guess"),
        Expect::RefusedByAgent("challenge", "wrong_password"),
    );
    add(
        "password",
        "call, unknown user",
        call.clone().digest("nobody", "guess"),
        Expect::RefusedByAgent("challenge", "unknown_user"),
    );
    add(
        "password",
        "call without credentials",
        call,
        Expect::RefusedByAgent("challenge", "challenged"),
    );

    add(
        "peer",
        "tries to call in",
        Call::from(Host::ProviderPeer),
        Expect::RefusedByAgent("peer_request", "peer_initial"),
    );
    for via in [Via::Udp4, Via::Udp6, Via::Tcp4] {
        add(
            "none",
            "call",
            Call::from(Host::Stranger).via(via),
            Expect::Refused("unknown_source"),
        );
    }
    steps.push(Step {
        call: Call::outgoing(Host::ProviderPeer),
        gateway: Some(Host::ProviderPeer.name()),
        mode: "peer",
        what: "called by the switch, ends the call",
        outgoing: true,
        expect: Expect::Called,
    });
    steps
}

impl Step {
    /// Whether the calls ended as they should.
    pub(super) fn as_expected(&self, outcome: &Outcome) -> bool {
        match self.expect {
            Expect::Refused(_) | Expect::RefusedByAgent(..) => outcome.all_refused(),
            _ => outcome.all_answered(),
        }
    }

    /// One line of the live view.
    pub(super) fn line(&self, outcome: &Outcome, seen: &Seen) -> String {
        let who = if self.outgoing { "softswitch" } else { self.call.caller().name() };
        let ended = match (outcome.answered, outcome.failed) {
            (n, 0) if n > 1 => format!("{n} answered"),
            (_, 0) => "answered".into(),
            (0, _) => "refused".into(),
            (a, f) => format!("{a} yes, {f} no"),
        };
        super::line(who, self.mode, self.call.transport().label(), self.what, &ended, &seen.text())
    }

    /// What is not as it should be, in calls and in counters.
    pub(super) fn complaints(&self, outcome: &Outcome, seen: &Seen) -> Vec<String> {
        let title = format!("{}, {}, {}", self.call.caller().name(), self.call.transport().label(), self.what);
        let mut wrong = Vec::new();
        if !self.as_expected(outcome) {
            wrong.push(format!("{title}: {} of {} answered", outcome.answered, outcome.tried));
        }
        wrong.extend(seen.disagreements(self, outcome).into_iter().map(|w| format!("{title}: {w}")));
        wrong
    }
}
