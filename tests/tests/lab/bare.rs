//! The lab without sipauth: every call must go through, or a refusal in the other tests would prove nothing.

use std::time::Duration;

use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::lab;

#[test]
fn without_sipauth_every_host_is_answered() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    for via in Via::ALL {
        for host in Host::ALL
            .into_iter()
            .filter(|h| *h != Host::Softswitch && h.address(via.v6()).is_some())
        {
            let outcome = Call::from(host).via(via).run(&lab)?;
            assert!(outcome.all_answered(), "{} over {}: {outcome:?}", host.name(), via.label());
        }
    }
    let large = Call::from(Host::CarrierIp).padding(4000);
    assert!(large.run(&lab)?.all_answered(), "4 KB INVITE over IPv4");
    assert!(large.via(Via::Udp6).run(&lab)?.all_answered(), "4 KB INVITE over IPv6");
    assert!(Call::from(Host::CarrierIp).options().run(&lab)?.all_answered(), "OPTIONS");
    Ok(())
}

#[test]
fn without_sipauth_a_called_gateway_can_hang_up() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    for via in Via::ALL {
        let _peer = Uas::hangs_up(&lab, Host::ProviderPeer, via, Duration::from_millis(200))?;
        let outcome = Call::outgoing(Host::ProviderPeer).via(via).run(&lab)?;
        assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
    }
    Ok(())
}

#[test]
fn without_a_softswitch_no_call_is_answered() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let outcome = Call::from(Host::CarrierIp).run(&lab)?;
    assert!(outcome.all_refused(), "{outcome:?}");
    Ok(())
}
