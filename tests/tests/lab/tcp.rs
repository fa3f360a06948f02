//! Password mode and mode peer over TCP: the agent takes the connection, and relays what it admits.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sipauth_tests::agent::Agent;
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, SIP_PORT, Uas, Via};
use sipauth_tests::require_root;

use crate::phone::Phone;
use crate::support::{PASSWORD, add, assert_refused, assert_refused_by_agent, digest, lab, observe};

const TCP: [Via; 2] = [Via::Tcp4, Via::Tcp6];

#[test]
fn mode_password_over_tcp_admits_right_credentials_and_nothing_else() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    for via in TCP {
        let plain = Call::from(Host::PbxPassword).via(via);
        assert_refused_by_agent(&lab, &agent, &plain, "challenged")?;
        let name = Host::PbxPassword.name();
        assert_refused_by_agent(&lab, &agent, &plain.clone().digest(name, "wrong"), "wrong_password")?;
        assert_refused_by_agent(&lab, &agent, &plain.clone().digest("nobody", PASSWORD), "unknown_user")?;
        let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).via(via))?;
        assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
        for (label, wanted) in [("challenged", 1), ("ack_absorbed", 1), ("authenticated", 1), ("in_dialog", 2)] {
            assert_eq!(moved.authentication(label), wanted, "{}: {label}", via.label());
        }
        assert_eq!(moved.gateway(Host::PbxPassword, "drop"), 0, "{moved:?}");
        let (outcome, _) = observe(&lab, &agent, &plain.clone().register(name, PASSWORD))?;
        assert!(outcome.all_answered(), "REGISTER, {}: {outcome:?}", via.label());
        // What one connection has earned, the next has not.
        assert_refused_by_agent(&lab, &agent, &plain, "challenged")?;
        assert_refused(&lab, &agent, &Call::from(Host::Stranger).via(via), "unknown_source")?;
        let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).via(via).times(20, 20))?;
        assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
        assert_eq!(moved.authentication("authenticated"), 20);
    }
    Ok(())
}

#[test]
fn a_flow_over_udp_is_none_over_tcp_and_a_connection_keeps_its_lane() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    // A call over TCP that lasts, and in the midst of it one over UDP from the same port, which makes a flow of that port.
    let lasting = digest(Host::PbxPassword)
        .via(Via::Tcp4)
        .hold(Duration::from_millis(1500))
        .start(&lab)?;
    std::thread::sleep(Duration::from_millis(500));
    let (outcome, _) = observe(&lab, &agent, &digest(Host::PbxPassword))?;
    assert!(outcome.all_answered(), "UDP: {outcome:?}");
    let outcome = lasting.finish()?;
    assert!(outcome.all_answered(), "TCP: {outcome:?}");
    let (outcome, moved) = observe(&lab, &agent, &digest(Host::PbxPassword).via(Via::Tcp4))?;
    assert!(outcome.all_answered(), "TCP, with a flow: {outcome:?}");
    assert_eq!((moved.reason("flow"), moved.reason("flow_ack")), (0, 0), "{moved:?}");
    assert_eq!(moved.authentication("authenticated"), 1);
    Ok(())
}

#[test]
fn mode_peer_over_tcp_refuses_a_call_and_answers_options() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::ProviderPeer)?;
    for via in TCP {
        assert_refused_by_agent(&lab, &agent, &Call::from(Host::ProviderPeer).via(via), "peer_initial")?;
        let (outcome, moved) = observe(&lab, &agent, &Call::from(Host::ProviderPeer).via(via).options())?;
        assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
        assert_eq!(moved.authentication("peer_options"), 1);
    }
    Ok(())
}

#[test]
fn a_message_in_pieces_is_answered_from_the_protected_port_and_an_endless_one_cut_off() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let answer = in_pieces(&lab)?;
    assert!(answer.starts_with("SIP/2.0 401 "), "{answer}");
    let sent = lab.inside(Host::PbxPassword, || {
        let mut stream = connect()?;
        let mut sent = 0;
        // Far more than socket buffers hold, so that only a reset ends it.
        while sent < 64 << 20 && stream.write_all(&[b'x'; 65_536]).is_ok() {
            sent += 65_536;
        }
        Ok(sent)
    })?;
    assert!(sent < 64 << 20, "nobody stops an endless sender");
    Ok(())
}

#[test]
fn what_a_connection_has_earned_ends_with_its_gateway_though_another_gets_the_id() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let name = Host::PbxPassword.name();
    let elsewhere = ["--address", "192.0.2.77"];
    for (what, kept) in [
        ("nothing", true),
        ("removed and its id given away", false),
        ("moved to another address", false),
    ] {
        let agent = Agent::start(&lab, &[])?;
        // All from anywhere: the connection of an address that is no gateway's any more ends in the kernel program.
        agent.add_password("roaming", "roaming", PASSWORD, &[])?;
        agent.add_password(name, name, PASSWORD, &[])?;
        let phone = Phone::new(name, PASSWORD);
        let in_dialog = lab.inside(Host::PbxPassword, || {
            let mut stream = connect()?;
            let challenge = ask(&mut stream, &phone.invite("kept", 1, ""))?;
            stream.write_all(phone.invite("kept", 2, &phone.credentials(&challenge)?).as_bytes())?;
            let patience = Instant::now() + Duration::from_secs(3);
            while agent.stats()?.authentication("authenticated") == 0 {
                anyhow::ensure!(Instant::now() < patience, "not authenticated");
                std::thread::sleep(Duration::from_millis(20));
            }
            match what {
                "nothing" => {}
                "moved to another address" => drop(agent.cli(&["gateway", "set", name, elsewhere[0], elsewhere[1]])?),
                _ => {
                    agent.cli(&["gateway", "remove", name])?;
                    agent.add_password("another", "another", PASSWORD, &[elsewhere[1]])?;
                }
            }
            let info = phone.invite("kept", 3, "").replace("INVITE", "INFO");
            let info = info.replacen("To: <sip:100@203.0.113.10:5060>", "To: <sip:100@203.0.113.10:5060>;tag=x", 1);
            stream.write_all(info.as_bytes())?;
            std::thread::sleep(Duration::from_millis(300));
            Ok(agent.stats()?.authentication("in_dialog"))
        })?;
        assert_eq!(in_dialog, u64::from(kept), "{what}");
    }
    Ok(())
}

/// Sends a message; answers what comes back first.
fn ask(stream: &mut TcpStream, message: &str) -> anyhow::Result<String> {
    stream.write_all(message.as_bytes())?;
    let mut buffer = [0; 8192];
    let length = stream.read(&mut buffer).with_context(|| format!("no answer to\n{message}"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn a_refused_connection_meets_silence_or_where_so_set_a_reset() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    for (options, expected) in [(&[][..], ErrorKind::TimedOut), (&["--tcp-reset"], ErrorKind::ConnectionRefused)] {
        let agent = Agent::start(&lab, options)?;
        add(&agent, Host::CarrierPort)?;
        for v6 in [false, true] {
            for from in [Host::Stranger, Host::CarrierPort] {
                let to = Host::Softswitch.address(v6).map(|address| SocketAddr::new(address, SIP_PORT));
                let to = to.ok_or_else(|| anyhow::anyhow!("the softswitch has both"))?;
                // From any port but the gateway's.
                let met = lab.inside(from, || {
                    Ok(TcpStream::connect_timeout(&to, Duration::from_millis(700)).map_err(|error| error.kind()))
                })?;
                assert_eq!(met.err(), Some(expected), "{options:?} {from:?} {to}");
            }
        }
        for via in TCP {
            let (outcome, _) = observe(&lab, &agent, &Call::from(Host::CarrierPort).via(via))?;
            assert!(outcome.all_answered(), "{}: {outcome:?}", via.label());
        }
    }
    Ok(())
}

fn connect() -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((Host::Softswitch.v4(), SIP_PORT)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends an OPTIONS in segments of 40 bytes; answers what comes back.
fn in_pieces(lab: &Lab) -> anyhow::Result<String> {
    lab.inside(Host::PbxPassword, || {
        let mut stream = connect()?;
        let request = "OPTIONS sip:x@203.0.113.10 SIP/2.0\r\nVia: SIP/2.0/TCP 203.0.113.23;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
            To: <sip:x@h>\r\nCall-ID: pieces@h\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n";
        for piece in request.as_bytes().chunks(40) {
            stream.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
