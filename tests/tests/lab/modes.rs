//! Each mode: what it admits, what it refuses, and for which reason.

use std::time::Duration;

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{PASSWORD, add, assert_admitted, assert_refused, assert_refused_by_agent, digest, lab, observe};

#[test]
fn mode_ip_admits_the_address_from_any_port_and_no_other_address() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    for via in Via::ALL {
        assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp).via(via), "ip_match")?;
        assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp).via(via).port(5099), "ip_match")?;
        assert_refused(&lab, &agent, &Call::from(Host::Stranger).via(via), "unknown_source")?;
    }
    assert_admitted(&lab, &agent, &Call::from(Host::CarrierIp).times(40, 40), "ip_match")
}

#[test]
fn mode_ip_port_admits_its_port_and_refuses_every_other() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierPort)?;
    add(&agent, Host::NatPort)?;
    for via in Via::ALL {
        assert_admitted(&lab, &agent, &Call::from(Host::CarrierPort).via(via), "port_match")?;
        assert_refused(&lab, &agent, &Call::from(Host::CarrierPort).via(via).port(5099), "port_mismatch")?;
    }
    // The gateway sends from its port; the NAT does not.
    assert_refused(&lab, &agent, &Call::from(Host::NatPort), "port_mismatch")
}

#[test]
fn mode_password_admits_right_credentials_and_nothing_else() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    // First the refusals: afterwards the source has a flow.
    let plain = Call::from(Host::PbxPassword);
    assert_refused_by_agent(&lab, &agent, &plain, "challenged")?;
    assert_refused_by_agent(
        &lab,
        &agent,
        &plain.clone().digest(Host::PbxPassword.name(), "wrong"),
        "wrong_password",
    )?;
    assert_refused_by_agent(&lab, &agent, &plain.clone().digest("nobody", PASSWORD), "unknown_user")?;
    // Right credentials from the wrong address: no gateway is there, so not even a challenge.
    assert_refused(
        &lab,
        &agent,
        &Call::from(Host::Stranger).digest(Host::PbxPassword.name(), PASSWORD),
        "unknown_source",
    )?;
    for via in [Via::Udp4, Via::Udp6] {
        let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).via(via))?;
        assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
        assert_eq!(moved.authentication("authenticated"), 1, "{}", via.label());
        assert!(moved.reason("flow") >= 1, "BYE passes in the kernel: {moved:?}");
        assert_eq!(moved.gateway(Host::PbxPassword, "drop"), 0);
    }
    let (outcome, _) = observe(
        &lab,
        &agent,
        &Call::from(Host::PbxPassword).register(Host::PbxPassword.name(), PASSWORD),
    )?;
    assert!(outcome.all_answered(), "REGISTER: {outcome:?}");
    // A flow does not excuse a new call from authentication.
    assert_refused_by_agent(&lab, &agent, &plain, "challenged")?;
    let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).times(20, 20))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_eq!(moved.authentication("authenticated"), 20);
    assert_eq!(
        moved.reason("own_ack"),
        20,
        "the ACK to each challenge ends in the kernel: {moved:?}"
    );
    assert_eq!(moved.authentication("ack_absorbed"), 0, "{moved:?}");
    Ok(())
}

#[test]
fn mode_password_works_through_a_nat_that_changes_ports() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::NatPassword)?;
    let (outcome, moved) = observe(&lab, &agent, &digest(Host::NatPassword))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_eq!(moved.authentication("authenticated"), 1);
    let wrong = Call::from(Host::NatPassword).digest(Host::NatPassword.name(), "wrong");
    assert_refused_by_agent(&lab, &agent, &wrong, "wrong_password")
}

#[test]
fn a_password_gateway_without_addresses_may_call_from_anywhere() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    agent.add_password("roaming", "roaming", PASSWORD, &[])?;
    let (outcome, _) = observe(&lab, &agent, &Call::from(Host::Stranger).digest("roaming", PASSWORD))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_refused_by_agent(
        &lab,
        &agent,
        &Call::from(Host::Stranger).digest("roaming", "wrong"),
        "wrong_password",
    )
}

#[test]
fn mode_peer_admits_what_belongs_to_calls_of_the_softswitch() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::ProviderPeer)?;
    for via in [Via::Udp4, Via::Udp6] {
        let _peer = Uas::hangs_up(&lab, Host::ProviderPeer, via, Duration::from_millis(100))?;
        let (outcome, moved) = observe(&lab, &agent, &Call::outgoing(Host::ProviderPeer).via(via))?;
        assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
        assert!(moved.gateway(Host::ProviderPeer, "pass") >= 3, "180, 200 and BYE: {moved:?}");
    }
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    assert_refused_by_agent(&lab, &agent, &Call::from(Host::ProviderPeer), "peer_initial")
}

#[test]
fn a_peer_is_learned_from_a_call_of_the_softswitch() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    // Unknown before, with no gateway at all.
    assert_eq!(
        agent.explain(&[&Host::ProviderPeer.v4().to_string(), "--method", "response"])?.1,
        "unknown_source"
    );
    let _peer = Uas::hangs_up(&lab, Host::ProviderPeer, Via::Udp4, Duration::from_millis(100))?;
    let (outcome, moved) = observe(&lab, &agent, &Call::outgoing(Host::ProviderPeer))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert!(moved.reason("peer") >= 3, "180, 200 and BYE: {moved:?}");
    // Having been called is no right to call.
    drop(_peer);
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let (outcome, _) = observe(&lab, &agent, &Call::from(Host::ProviderPeer))?;
    assert!(outcome.all_refused(), "{outcome:?}");
    Ok(())
}

#[test]
fn monitor_passes_a_stranger_and_counts_what_would_have_been_dropped() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &["--monitor"])?;
    let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::Stranger))?;
    assert!(outcome.all_answered(), "{outcome:?}");
    assert_eq!(moved.reason("unknown_source"), u64::from(3 + outcome.retransmissions));
    Ok(())
}

#[test]
fn an_invite_of_4_kb_arrives_in_fragments() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::PbxPassword)?;
    for via in [Via::Udp4, Via::Udp6] {
        let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::CarrierIp).via(via).padding(3600))?;
        assert!(outcome.all_answered(), "mode ip, {}: {outcome:?} {moved:?}", via.label());
        assert!(moved.reason("fragment") >= 2, "{moved:?}");
        let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).via(via).padding(3600))?;
        assert!(outcome.all_answered(), "mode password, {}: {outcome:?} {moved:?}", via.label());
        assert!(moved.reason("fragment") >= 4, "{moved:?}");
        let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::Stranger).via(via).padding(3600))?;
        assert!(outcome.all_refused(), "{outcome:?}");
        assert!(moved.reason("fragment_unknown") >= 2, "{moved:?}");
    }
    Ok(())
}
