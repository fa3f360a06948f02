//! What the program makes of single packets (`BPF_PROG_TEST_RUN`).

use std::{sync::MutexGuard, time::Duration};

use aya::programs::{TestRun, TestRunOptions};
use sipauth_common::{
    address::Address,
    decide::Lookup,
    event::ANSWER_BYTES,
    flow::{Flow, FlowKey},
};
use sipauth_tests::{
    frame::{ACK, Frame, SYN, checksum_holds, fragment},
    require_root,
};
use sipauth_user::datapath::{Events, Programs, Told};

use crate::support::{OTHER, PUNT, SIP, address, load, turn};

/// `TC_ACT_UNSPEC`: on to the next program.
const NEXT: u32 = u32::MAX;

struct Bench {
    programs: Programs,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        let turn = turn();
        Self {
            programs: load(None),
            _turn: turn,
        }
    }

    /// The frame as it leaves.
    fn run(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 4_096];
        let result = self
            .programs
            .egress()
            .expect("the program")
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .expect("a test run");
        assert_eq!(result.return_value, NEXT, "every packet goes on");
        out.truncate(result.data_size_out as usize);
        out
    }

    fn peer(&self, at: Address) -> Option<u64> {
        self.programs.maps.peer(&at)
    }

    fn flow(&self, to: Address, port: u16) -> Option<Flow> {
        self.programs.maps.flow(&FlowKey {
            address: to,
            port,
            protocol: 6,
            reserved: 0,
        })
    }
}

/// From the softswitch to `to`: a 200, which teaches nothing.
fn outgoing(to: &str) -> Frame {
    let base = if to.contains(':') {
        Frame {
            source: "2001:db8:1::1".parse().expect("an address"),
            ..Frame::invite_v6()
        }
    } else {
        Frame {
            source: "192.0.2.1".parse().expect("an address"),
            ..Frame::invite()
        }
    };
    Frame {
        destination: to.parse().expect("an address"),
        source_port: SIP,
        destination_port: 5_070,
        payload: b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n".to_vec(),
        ..base
    }
}

/// Every shape of an answer: the frame, and where its transport header is.
fn answers() -> Vec<(Frame, usize)> {
    let mut all = Vec::new();
    for to in ["203.0.113.5", "2001:db8::5"] {
        let header = if to.contains(':') { 40 } else { 20 };
        for protocol in [17, 6] {
            for tags in [vec![], vec![0x8100], vec![0x88a8, 0x8100]] {
                let at = 14 + tags.len() * 4 + header;
                let frame = Frame {
                    protocol,
                    tags,
                    flags: SYN | ACK,
                    ..outgoing(to)
                };
                if header == 20 {
                    let options = vec![1; 8];
                    all.push((Frame { options, ..frame.clone() }, at + 8));
                }
                let odd = Frame {
                    payload: b"SIP/2.0 100 Trying!".to_vec(),
                    ..frame.clone()
                };
                all.extend([(frame, at), (odd, at)]);
            }
        }
    }
    all
}

#[test]
fn an_answer_leaves_from_the_protected_port_with_a_right_checksum() {
    require_root!();
    let mut bench = Bench::new();
    for (frame, at) in answers() {
        for port in PUNT {
            let before = Frame {
                source_port: port,
                ..frame.clone()
            };
            let after = bench.run(&before.bytes());
            // The same frame, made with the other port: nothing else differs.
            assert_eq!(after, frame.bytes(), "{before:?}");
            assert!(checksum_holds(frame.source, frame.destination, frame.protocol, &after[at..]));
        }
        for port in [OTHER, SIP] {
            let untouched = Frame {
                source_port: port,
                ..frame.clone()
            }
            .bytes();
            assert_eq!(bench.run(&untouched), untouched, "port {port} is none of the agent's");
        }
    }
}

#[test]
fn no_checksum_stays_none_and_one_that_comes_to_zero_does_not_become_none() {
    require_root!();
    let mut bench = Bench::new();
    for to in ["203.0.113.5", "2001:db8::5"] {
        let at = if to.contains(':') { 54 } else { 34 };
        let without = |source_port| Frame {
            source_port,
            no_checksum: true,
            ..outgoing(to)
        };
        assert_eq!(bench.run(&without(PUNT[0]).bytes()), without(SIP).bytes());
        // One of all values of two bytes makes the checksum zero once the port is undone.
        let zero = (0..=u16::MAX)
            .map(|value| {
                let mut frame = outgoing(to);
                frame.payload[8..10].copy_from_slice(&value.to_be_bytes());
                frame
            })
            .find(|frame| frame.bytes()[at + 6..at + 8] == [0xff, 0xff])
            .expect("such a value");
        let punted = Frame {
            source_port: PUNT[1],
            ..zero.clone()
        };
        assert_eq!(bench.run(&punted.bytes()), zero.bytes());
    }
}

#[test]
fn a_later_fragment_is_left_alone() {
    require_root!();
    let mut bench = Bench::new();
    for protocol in [17, 6] {
        let v4 = |fragment| Frame {
            protocol,
            fragment,
            source_port: PUNT[1],
            ..outgoing("203.0.113.5")
        };
        let v6 = |offset, more| Frame {
            protocol,
            extensions: vec![fragment(offset, more)],
            source_port: PUNT[1],
            ..outgoing("2001:db8::5")
        };
        for frame in [v4(0x2005), v4(5), v4(0x1fff), v6(5, true), v6(5, false)] {
            // What looks like ports is payload.
            assert_eq!(bench.run(&frame.bytes()), frame.bytes(), "{frame:?}");
        }
        for frame in [v4(0x2000), v4(0x4000), v6(0, true)] {
            let wanted = Frame {
                source_port: SIP,
                ..frame.clone()
            };
            assert_eq!(bench.run(&frame.bytes()), wanted.bytes(), "the first has the ports");
        }
    }
}

#[test]
fn what_is_cut_or_of_another_protocol_is_left_alone() {
    require_root!();
    let mut bench = Bench::new();
    for to in ["203.0.113.5", "2001:db8::5"] {
        let answer = Frame {
            source_port: PUNT[0],
            ..outgoing(to)
        };
        let other = Frame {
            protocol: 132,
            ..answer.clone()
        };
        let arp = Frame {
            ether_type: Some(0x0806),
            ..answer.clone()
        };
        for frame in [other.bytes(), arp.bytes()] {
            assert_eq!(bench.run(&frame), frame);
        }
        let whole = answer.bytes();
        // Kernel 6.18 runs nothing without a whole IP header.
        let header_ends = if to.contains(':') { 54 } else { 34 };
        let checksum_ends = header_ends + 8;
        for len in header_ends..checksum_ends {
            assert_eq!(bench.run(&whole[..len]), whole[..len], "{len} bytes");
        }
        assert_ne!(bench.run(&whole[..checksum_ends]), whole[..checksum_ends]);
    }
}

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
