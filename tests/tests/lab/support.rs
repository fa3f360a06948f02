//! One lab for all tests of this file, one test in it at a time.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sipauth_tests::agent::{Agent, Stats};
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Outcome};

/// Of every password gateway here.
pub(crate) const PASSWORD: &str = "s3cret of the lab";

/// The lab, for the caller alone until the guard is dropped.
pub(crate) fn lab() -> MutexGuard<'static, Lab> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    LAB.get_or_init(|| {
        sipauth_tests::cleanup::on_ctrl_c().expect("signal handlers");
        Mutex::new(Lab::new().expect("the lab"))
    })
    .lock()
    .unwrap_or_else(PoisonError::into_inner)
}

/// Adds the gateway of a host, in its mode, with all its addresses.
pub(crate) fn add(agent: &Agent<'_>, host: Host) -> anyhow::Result<()> {
    let addresses: Vec<String> = [Some(host.seen_v4().to_string()), host.v6().map(|a| a.to_string())]
        .into_iter()
        .flatten()
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut options: Vec<&str> = addresses.iter().flat_map(|a| ["--address", a]).collect();
    match host {
        Host::CarrierPort | Host::NatPort => {
            options.extend(["--port", "5060"]);
            agent.add(host.name(), "ip-port", &options)
        }
        Host::PbxPassword | Host::NatPassword => agent.add_password(host.name(), host.name(), PASSWORD, &addresses),
        Host::ProviderPeer => agent.add(host.name(), "peer", &options),
        _ => agent.add(host.name(), "ip", &options),
    }
}

/// A call with the right credentials of a password gateway.
pub(crate) fn digest(host: Host) -> Call {
    Call::from(host).digest(host.name(), PASSWORD)
}

/// Makes calls; answers how they ended and the counters before and after.
pub(crate) fn observe(lab: &Lab, agent: &Agent<'_>, call: &Call) -> anyhow::Result<(Outcome, Moved)> {
    let before = agent.stats()?;
    let outcome = call.run(lab)?;
    Ok((
        outcome,
        Moved {
            before,
            after: agent.stats()?,
        },
    ))
}

/// Counters before and after.
#[derive(Debug)]
pub(crate) struct Moved {
    before: Stats,
    after: Stats,
}

impl Moved {
    /// Packets with a reason.
    pub(crate) fn reason(&self, label: &str) -> u64 {
        self.after.reason(label) - self.before.reason(label)
    }

    /// Packets of a gateway with a verdict.
    pub(crate) fn gateway(&self, host: Host, verdict: &str) -> u64 {
        self.after.gateway(host.name(), verdict) - self.before.gateway(host.name(), verdict)
    }

    /// The agent's outcomes.
    pub(crate) fn authentication(&self, label: &str) -> u64 {
        self.after.authentication(label) - self.before.authentication(label)
    }
}

/// The calls are answered, and every packet passed for this reason (over UDP: exactly three a call and those sent again).
pub(crate) fn assert_admitted(lab: &Lab, agent: &Agent<'_>, call: &Call, reason: &str) -> anyhow::Result<()> {
    let (outcome, moved) = observe(lab, agent, call)?;
    let what = format!("{} over {}: {outcome:?}", call.caller().name(), call.transport().label());
    assert!(outcome.all_answered(), "{what}");
    let (packets, wanted) = (moved.reason(reason), u64::from(outcome.tried * 3 + outcome.retransmissions));
    assert!(
        if call.transport().tcp() {
            packets >= wanted
        } else {
            packets == wanted
        },
        "{what}: {reason} {packets}, not {wanted}"
    );
    if call.caller() != Host::Stranger {
        assert_eq!(moved.gateway(call.caller(), "pass"), packets, "{what}: packets of the gateway");
        assert_eq!(moved.gateway(call.caller(), "drop"), 0, "{what}: packets of the gateway");
    }
    Ok(())
}

/// No call is answered, and every packet was dropped for this reason.
pub(crate) fn assert_refused(lab: &Lab, agent: &Agent<'_>, call: &Call, reason: &str) -> anyhow::Result<()> {
    let (outcome, moved) = observe(lab, agent, call)?;
    let what = format!("{} over {}: {outcome:?}", call.caller().name(), call.transport().label());
    assert!(outcome.all_refused(), "{what}");
    assert_eq!(outcome.rejected, 0, "{what}: refused in silence");
    let (packets, wanted) = (moved.reason(reason), u64::from(outcome.tried + outcome.retransmissions));
    assert!(
        if call.transport().tcp() { packets >= 1 } else { packets == wanted },
        "{what}: {reason} {packets}, not {wanted}"
    );
    Ok(())
}

/// The agent let nobody in: calls end with an answer of the agent, or silence, and its outcome says why.
pub(crate) fn assert_refused_by_agent(lab: &Lab, agent: &Agent<'_>, call: &Call, outcome_label: &str) -> anyhow::Result<()> {
    let (outcome, moved) = observe(lab, agent, call)?;
    let what = format!("{} over {}: {outcome:?}", call.caller().name(), call.transport().label());
    assert!(outcome.all_refused(), "{what}");
    assert!(moved.authentication(outcome_label) >= 1, "{what}: {outcome_label} did not move");
    assert_eq!(moved.authentication("authenticated"), 0, "{what}");
    Ok(())
}
