//! Changes while calls flow, what `explain` says about them, and what sipauth has no say in.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{add, assert_admitted, assert_refused, lab};

#[test]
fn gateway_add_and_remove_are_enforced_when_the_command_returns() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    let call = Call::from(Host::CarrierIp);
    assert_refused(&lab, &agent, &call, "unknown_source")?;
    for _ in 0..3 {
        add(&agent, Host::CarrierIp)?;
        assert_admitted(&lab, &agent, &call, "ip_match")?;
        let removed = agent.cli(&["gateway", "remove", Host::CarrierIp.name()])?;
        assert_eq!(removed.code, 0, "{removed:?}");
        assert_refused(&lab, &agent, &call, "unknown_source")?;
    }
    let again = agent.cli(&["gateway", "remove", Host::CarrierIp.name()])?;
    assert_eq!(again.code, 1, "there is none any more: the answer is no: {again:?}");
    Ok(())
}

#[test]
fn explain_agrees_with_what_happens() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    for host in [Host::CarrierIp, Host::CarrierPort, Host::PbxPassword, Host::ProviderPeer] {
        add(&agent, host)?;
    }
    let cases = [
        (Host::CarrierIp, 5060, "pass", "ip_match"),
        (Host::CarrierIp, 4000, "pass", "ip_match"),
        (Host::CarrierPort, 5060, "pass", "port_match"),
        (Host::CarrierPort, 5061, "drop", "port_mismatch"),
        (Host::PbxPassword, 5060, "punt", "challenge"),
        (Host::ProviderPeer, 5060, "punt", "peer_request"),
        (Host::Stranger, 5060, "drop", "unknown_source"),
    ];
    for (host, port, verdict, reason) in cases {
        for v6 in [false, true] {
            let Some(address) = host.address(v6) else { continue };
            let source = SocketAddr::new(address, port);
            let name = (host != Host::Stranger).then(|| host.name().to_owned());
            let said = agent.explain(&[&source.to_string(), "--method", "INVITE"])?;
            assert_eq!(said, (verdict.to_owned(), reason.to_owned(), name), "{source}");
            // And one such packet moves exactly that counter.
            let before = agent.stats()?;
            let to = SocketAddr::new(Host::Softswitch.address(v6).expect("both families"), 5060);
            lab.inside(host, || {
                let socket = UdpSocket::bind(source)?;
                socket.send_to(invite(source).as_bytes(), to)?;
                Ok(())
            })?;
            std::thread::sleep(Duration::from_millis(50));
            let moved = agent.stats()?.reason(reason) - before.reason(reason);
            assert_eq!(moved, 1, "{source}: {reason}");
        }
    }
    Ok(())
}

fn invite(from: SocketAddr) -> String {
    format!(
        "INVITE sip:100@lab SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:a@lab>;tag=1\r\n\
         To: <sip:100@lab>\r\nCall-ID: {from}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{from}>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_datagram_from_the_wire_to_the_agents_own_port_is_dropped() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    let before = agent.stats()?;
    for host in [Host::CarrierIp, Host::Stranger] {
        for port in [61060, 61061, 61062, 61063] {
            lab.inside(host, || {
                let socket = UdpSocket::bind((host.v4(), 5060))?;
                socket.send_to(invite((host.v4(), 5060).into()).as_bytes(), (Host::Softswitch.v4(), port))?;
                Ok(())
            })?;
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(agent.stats()?.reason("punt_port") - before.reason("punt_port"), 8);
    assert_eq!(agent.stats()?.authentication("challenged"), before.authentication("challenged"));
    Ok(())
}

#[test]
fn tcp_to_another_port_is_untouched_under_deny() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &["--default-policy", "deny"])?;
    let bind = |port: u16| lab.inside(Host::Softswitch, move || Ok(TcpListener::bind((Host::Softswitch.v4(), port))?));
    let connect = |port: u16| {
        lab.inside(Host::Stranger, move || {
            Ok(TcpStream::connect_timeout(
                &(Host::Softswitch.v4(), port).into(),
                Duration::from_secs(1),
            )?)
        })
    };
    let (ssh, sip) = (bind(22)?, bind(5060)?);
    let mut client = connect(22)?;
    let (mut server, from) = ssh.accept()?;
    assert_eq!(from.ip(), Host::Stranger.v4());
    let data = vec![7_u8; 300_000];
    let sent = data.clone();
    let writer = std::thread::spawn(move || server.write_all(&sent));
    let mut received = Vec::new();
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    client.read_to_end(&mut received)?;
    assert!(writer.join().is_ok_and(|r| r.is_ok()));
    assert_eq!(received, data);
    // The protected port next to it is closed to the same stranger.
    assert!(connect(5060).is_err());
    drop(sip);
    assert!(agent.stats()?.reason("unknown_source") >= 1);
    Ok(())
}
