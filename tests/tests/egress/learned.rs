//! What the program learns from what the softswitch sends: peers, connections, answers to registrations.

use std::time::Duration;

use sipauth_common::{
    decide::Lookup as _,
    event::ANSWER_BYTES,
    flow::{Flow, FlowKey},
};
use sipauth_tests::{
    frame::{ACK, Frame, SYN, fragment},
    require_root,
};
use sipauth_user::datapath::{Events, Told};

use crate::{
    bench::{Bench, outgoing},
    support::{OTHER, PUNT, SIP, address},
};

#[test]
fn whom_the_softswitch_sends_a_request_becomes_a_peer() {
    require_root!();
    let mut bench = Bench::new();
    let cases: [(&[u8], u16, bool); 12] = [
        (b"INVITE sip:100@203.0.113.5 SIP/2.0\r\n", SIP, true),
        (b"OPTIONS sip:203.0.113.5 SIP/2.0\r\n", SIP, true),
        (b"BYE sip:100@203.0.113.5 SIP/2.0\r\n", SIP, true),
        (b"NEWMETHOD sip:a@b SIP/2.0\r\n", SIP, true),
        (b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n", SIP, false),
        (b"SIP/2.0 407 Proxy Authentication Required\r\n", SIP, false),
        (b"INVITE sip:100@203.0.113.5 SIP/2.0\r\n", OTHER, false),
        (b"INVITE sip:100@203.0.113.5 SIP/2.0\r\n", PUNT[0], false),
        (b"\r\n\r\n", SIP, false),
        (b"\0\0\0\0", SIP, false),
        (b"", SIP, false),
        (b"\0\x01\0\x08\x21\x12\xa4\x42aaaabbbbccccdddddddd", SIP, false),
    ];
    for (i, (payload, source_port, learned)) in cases.into_iter().enumerate() {
        for prefix in ["198.51.100.", "2001:db8:2::"] {
            let to = format!("{prefix}{}", i + 1);
            let frame = Frame {
                payload: payload.to_vec(),
                source_port,
                ..outgoing(&to)
            };
            let name = format!("{to}: {:?} from {source_port}", String::from_utf8_lossy(payload));
            assert_eq!(bench.peer(address(&to)), None, "{name}: before");
            bench.run(&frame.bytes());
            assert_eq!(bench.peer(address(&to)).is_some(), learned, "{name}");
        }
    }
    // The softswitch itself is nobody's peer.
    assert_eq!(bench.peer(address("192.0.2.1")), None);
}

#[test]
fn a_request_makes_an_old_peer_young_and_a_response_does_not() {
    require_root!();
    let mut bench = Bench::new();
    let at = address("203.0.113.5");
    bench.programs.maps.put_peer(&at, 1).expect("PEERS");
    bench.run(&outgoing("203.0.113.5").bytes());
    assert_eq!(bench.peer(at), Some(1));
    let request = Frame {
        payload: sipauth_tests::frame::INVITE.to_vec(),
        ..outgoing("203.0.113.5")
    };
    bench.run(&request.bytes());
    assert!(bench.peer(at).is_some_and(|seen| seen > 1));
}

#[test]
fn a_later_fragment_of_a_request_teaches_nothing() {
    require_root!();
    let mut bench = Bench::new();
    let request = |to| Frame {
        payload: sipauth_tests::frame::INVITE.to_vec(),
        ..outgoing(to)
    };
    for (fragment, learned) in [(5, false), (0x2000, true)] {
        let frame = Frame {
            fragment,
            ..request("203.0.113.5")
        };
        bench.run(&frame.bytes());
        assert_eq!(bench.peer(address("203.0.113.5")).is_some(), learned);
    }
    for (offset, learned) in [(5, false), (0, true)] {
        let frame = Frame {
            extensions: vec![fragment(offset, true)],
            ..request("2001:db8::5")
        };
        bench.run(&frame.bytes());
        assert_eq!(bench.peer(address("2001:db8::5")).is_some(), learned);
    }
}

#[test]
fn a_connection_that_the_softswitch_opens_is_known() {
    require_root!();
    let mut bench = Bench::new();
    // Flags, from, to: becomes a flow, becomes a peer.
    let cases = [
        (SYN, SIP, 5_070, true, true),
        (SYN | 0xc0, SIP, 5_070, true, true),
        (SYN, 40_000, SIP, false, true),
        (SYN, SIP, SIP, true, true),
        (SYN, 40_000, 5_070, false, false),
        (SYN | ACK, SIP, 5_070, false, false),
        (SYN | ACK, 40_000, SIP, false, false),
        (SYN | ACK, PUNT[0], 5_070, false, false),
        (ACK, SIP, 5_070, false, false),
        (0x14, SIP, 5_070, false, false),
    ];
    for (i, (flags, from, port, flow, peer)) in cases.into_iter().enumerate() {
        for prefix in ["198.51.100.", "2001:db8:2::"] {
            let to = format!("{prefix}{}", i + 1);
            let frame = Frame {
                protocol: 6,
                flags,
                source_port: from,
                destination_port: port,
                payload: vec![],
                ..outgoing(&to)
            };
            let name = format!("flags {flags:#x} from {from} to {to} {port}");
            let wanted = frame.bytes();
            let after = bench.run(&wanted);
            assert_eq!(after == wanted, !PUNT.contains(&from), "{name}: changed");
            assert_eq!(bench.peer(address(&to)).is_some(), peer, "{name}: peer");
            let made = bench.flow(address(&to), port);
            assert_eq!(made.is_some(), flow, "{name}: flow");
            if let Some(made) = made {
                assert_eq!((made.gateway, made.expires), (0, u64::MAX), "{name}");
                assert!(made.seen > 1, "{name}");
            }
        }
    }
}

#[test]
fn a_2xx_to_a_flow_that_is_registering_is_shown_once_and_nothing_else_is() {
    require_root!();
    let mut bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let mut told = Events::open(&bench.programs.maps).expect("the ring");
    let mut read = || {
        let mut all = Vec::new();
        let read = async { tokio::time::timeout(Duration::from_millis(50), told.read(&mut all, 8)).await };
        // Nothing to read is what some of the cases are about.
        let _ = runtime.block_on(read);
        all
    };
    for to in ["203.0.113.5", "2001:db8::5"] {
        let key = FlowKey {
            address: address(to),
            port: 5_070,
            protocol: 17,
            reserved: 0,
        };
        let flow = |registering| Flow {
            expires: u64::MAX - 1,
            seen: 1,
            gateway: 7,
            registering,
        };
        let with = |payload: Vec<u8>| Frame { payload, ..outgoing(to) }.bytes();
        let ok = b"SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\nExpires: 60\r\n\r\n".to_vec();
        bench.run(&with(ok.clone()));
        assert!(read().is_empty(), "no flow");
        bench.programs.maps.put_flow(&key, &flow(0)).expect("a flow");
        bench.run(&with(ok.clone()));
        assert!(read().is_empty(), "not registering");
        bench.programs.maps.put_flow(&key, &flow(1)).expect("a flow");
        bench.run(&with(b"SIP/2.0 100 Trying\r\n\r\n".to_vec()));
        bench.run(&with(b"SIP/2.0 403 Forbidden\r\n\r\n".to_vec()));
        assert!(read().is_empty(), "no 2xx");
        for payload in [ok, [b"SIP/2.0 200 OK\r\n".to_vec(), vec![b'x'; 2_000]].concat()] {
            bench.programs.maps.put_flow(&key, &flow(1)).expect("a flow");
            bench.run(&with(payload.clone()));
            bench.run(&with(payload.clone()));
            let all = read();
            let [Told::Registered(shown)] = all.as_slice() else {
                panic!("{} of {} bytes to {to}", all.len(), payload.len());
            };
            let len = shown.len as usize;
            assert_eq!((shown.flow, len), (key, payload.len().min(ANSWER_BYTES)));
            assert_eq!(shown.answer[..len], payload[..len]);
            assert_eq!(bench.programs.maps.flow(&key).map(|flow| flow.registering), Some(0));
        }
    }
}
