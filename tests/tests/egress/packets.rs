//! What the program makes of single packets (`BPF_PROG_TEST_RUN`).

use sipauth_tests::{
    frame::{ACK, Frame, SYN, checksum_holds, fragment},
    require_root,
};

use crate::{
    bench::{Bench, outgoing},
    support::{OTHER, PUNT, SIP},
};

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
