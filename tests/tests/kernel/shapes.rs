//! Every header shape: frame, expected reason. The source is a gateway in password mode, so that what is read right is punted
//! and rewritten: a pass cannot come from nothing.

use sipauth_common::reason::Reason;
use sipauth_tests::{
    frame::{ACK, Frame, SYN, fragment},
    require_root,
};

use crate::bench::{Bench, ENTRIES, address, populate, whole_checksum};

fn v4() -> Frame {
    Frame {
        source: "203.0.113.3".parse().expect("an address"),
        ..Frame::invite()
    }
}

fn v6() -> Frame {
    Frame {
        source: "2001:db8::3".parse().expect("an address"),
        ..Frame::invite_v6()
    }
}

fn extension(number: u8) -> (u8, Vec<u8>) {
    if number == 51 {
        (51, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2])
    } else {
        (number, vec![0; 8])
    }
}

/// Of either family; `base` is a valid INVITE.
fn common(base: fn() -> Frame) -> Vec<(&'static str, Frame, Reason)> {
    use Reason::{BadExtension, BadTcpHeader, BadUdpLength, Challenge, NoFlow, NotProtected, Truncated};
    let tcp = || Frame { protocol: 6, ..base() };
    vec![
        ("an INVITE", base(), Challenge),
        (
            "802.1Q",
            Frame {
                tags: vec![0x8100],
                ..base()
            },
            Challenge,
        ),
        (
            "802.1ad",
            Frame {
                tags: vec![0x88a8],
                ..base()
            },
            Challenge,
        ),
        (
            "QinQ",
            Frame {
                tags: vec![0x88a8, 0x8100],
                ..base()
            },
            Challenge,
        ),
        (
            "three tags are too many",
            Frame {
                tags: vec![0x8100; 3],
                ..base()
            },
            BadExtension,
        ),
        (
            "ARP",
            Frame {
                ether_type: Some(0x0806),
                ..base()
            },
            NotProtected,
        ),
        (
            "another port",
            Frame {
                destination_port: 22,
                ..base()
            },
            NotProtected,
        ),
        (
            "the second protected port",
            Frame {
                destination_port: 5080,
                ..base()
            },
            Challenge,
        ),
        (
            "no UDP checksum",
            Frame {
                no_checksum: true,
                ..base()
            },
            Challenge,
        ),
        ("padding behind the packet", Frame { padding: 7, ..base() }, Challenge),
        (
            "an odd payload",
            Frame {
                payload: b"INVITE sip:a@b S".iter().chain(b"x").copied().collect(),
                ..base()
            },
            Challenge,
        ),
        (
            "a short unknown method",
            Frame {
                payload: b"X".to_vec(),
                ..base()
            },
            Challenge,
        ),
        ("an empty datagram", Frame { payload: vec![], ..base() }, NoFlow),
        (
            "a response",
            Frame {
                payload: b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
                ..base()
            },
            NoFlow,
        ),
        (
            "UDP length 7",
            Frame {
                udp_length: Some(7),
                ..base()
            },
            BadUdpLength,
        ),
        (
            "UDP length beyond",
            Frame {
                udp_length: Some(500),
                ..base()
            },
            BadUdpLength,
        ),
        (
            "UDP length 0 elsewhere",
            Frame {
                udp_length: Some(0),
                destination_port: 22,
                ..base()
            },
            NotProtected,
        ),
        (
            "UDP shorter than IP",
            Frame {
                udp_length: Some(40),
                ..base()
            },
            Challenge,
        ),
        ("UDP header cut", Frame { keep: Some(7), ..base() }, Truncated),
        ("ports cut", Frame { keep: Some(3), ..base() }, Truncated),
        (
            "IP length beyond the frame",
            Frame {
                ip_length: Some(900),
                ..base()
            },
            Truncated,
        ),
        ("SYN", tcp(), Challenge),
        ("a segment", Frame { flags: ACK, ..tcp() }, Challenge),
        ("SYN and ACK", Frame { flags: SYN | ACK, ..tcp() }, Challenge),
        (
            "TCP to another port",
            Frame {
                destination_port: 22,
                ..tcp()
            },
            NotProtected,
        ),
        (
            "data offset 4",
            Frame {
                data_offset: Some(4),
                ..tcp()
            },
            BadTcpHeader,
        ),
        (
            "data offset beyond",
            Frame {
                data_offset: Some(15),
                payload: vec![],
                ..tcp()
            },
            BadTcpHeader,
        ),
        (
            "data offset 4 elsewhere",
            Frame {
                data_offset: Some(4),
                destination_port: 22,
                ..tcp()
            },
            NotProtected,
        ),
        ("TCP header cut", Frame { keep: Some(19), ..tcp() }, Truncated),
        ("another protocol", Frame { protocol: 132, ..base() }, NotProtected),
        (
            "a punt port",
            Frame {
                destination_port: 15060,
                ..base()
            },
            Reason::PuntPort,
        ),
        (
            "a punt port over TCP",
            Frame {
                destination_port: 17080,
                ..tcp()
            },
            Reason::PuntPort,
        ),
    ]
}

fn of_v4() -> Vec<(&'static str, Frame, Reason)> {
    use Reason::{BadIpHeader, Challenge, Fragment, FragmentUnknown, NotProtected, TinyFragment, Truncated};
    let tcp = || Frame { protocol: 6, ..v4() };
    vec![
        (
            "options",
            Frame {
                options: vec![1; 4],
                ..v4()
            },
            Challenge,
        ),
        (
            "40 bytes of options",
            Frame {
                options: vec![1; 40],
                ..v4()
            },
            Challenge,
        ),
        ("IHL of 4 words", Frame { ihl: Some(4), ..v4() }, BadIpHeader),
        ("version 6 in IPv4", Frame { version: Some(6), ..v4() }, BadIpHeader),
        (
            "total length below the header",
            Frame {
                ip_length: Some(19),
                ..v4()
            },
            BadIpHeader,
        ),
        (
            "total length 0",
            Frame {
                ip_length: Some(0),
                ..v4()
            },
            BadIpHeader,
        ),
        (
            "IHL beyond the total length",
            Frame {
                ihl: Some(15),
                ip_length: Some(40),
                ..v4()
            },
            BadIpHeader,
        ),
        ("don't-fragment is not a fragment", Frame { fragment: 0x4000, ..v4() }, Challenge),
        (
            "a first fragment",
            Frame {
                fragment: 0x2000,
                keep: Some(32),
                ..v4()
            },
            Challenge,
        ),
        ("a later fragment", Frame { fragment: 0x2001, ..v4() }, Fragment),
        ("the last fragment", Frame { fragment: 5, ..v4() }, Fragment),
        ("a later fragment of TCP", Frame { fragment: 5, ..tcp() }, Fragment),
        (
            "a later fragment of another protocol",
            Frame {
                fragment: 5,
                protocol: 1,
                ..v4()
            },
            NotProtected,
        ),
        (
            "a later fragment of a stranger",
            Frame {
                fragment: 5,
                source: "198.51.100.1".parse().expect("an address"),
                ..v4()
            },
            FragmentUnknown,
        ),
        (
            "a tiny first fragment",
            Frame {
                fragment: 0x2000,
                keep: Some(16),
                ..v4()
            },
            TinyFragment,
        ),
        (
            "a tiny first fragment elsewhere",
            Frame {
                fragment: 0x2000,
                keep: Some(16),
                destination_port: 53,
                ..v4()
            },
            NotProtected,
        ),
        (
            "a tiny first fragment of TCP",
            Frame {
                fragment: 0x2000,
                keep: Some(16),
                ..tcp()
            },
            TinyFragment,
        ),
        (
            "a first fragment without ports",
            Frame {
                fragment: 0x2000,
                keep: Some(0),
                ..tcp()
            },
            Truncated,
        ),
    ]
}

fn of_v6() -> Vec<(&'static str, Frame, Reason)> {
    use Reason::{BadExtension, BadIpHeader, Challenge, Fragment, NotProtected, TinyFragment, Truncated};
    let with = |extensions: Vec<(u8, Vec<u8>)>| Frame { extensions, ..v6() };
    vec![
        ("version 4 in IPv6", Frame { version: Some(4), ..v6() }, BadIpHeader),
        (
            "an IPv4-mapped source",
            Frame {
                source: std::net::Ipv4Addr::new(203, 0, 113, 1).to_ipv6_mapped().into(),
                ..v6()
            },
            BadIpHeader,
        ),
        ("hop-by-hop", with(vec![extension(0)]), Challenge),
        ("routing", with(vec![extension(43)]), Challenge),
        ("destination options", with(vec![extension(60)]), Challenge),
        ("authentication", with(vec![extension(51)]), Challenge),
        ("all of them", with([0, 60, 43, 51].map(extension).to_vec()), Challenge),
        ("a long one", with(vec![(60, [vec![0, 31], vec![0; 254]].concat())]), Challenge),
        ("eight", with(vec![extension(60); 8]), Challenge),
        ("nine", with(vec![extension(60); 9]), BadExtension),
        (
            "nine, the last a later fragment",
            with([vec![extension(60); 8], vec![fragment(3, false)]].concat()),
            BadExtension,
        ),
        (
            "more than a kilobyte",
            with(vec![(60, [vec![0, 128], vec![0; 1_030]].concat())]),
            BadExtension,
        ),
        (
            "an extension beyond the packet",
            with(vec![(60, [vec![0, 200], vec![0; 6]].concat())]),
            Truncated,
        ),
        ("ESP", with(vec![(50, vec![0; 8])]), NotProtected),
        ("nothing next", with(vec![(59, vec![0; 8])]), NotProtected),
        ("an atomic fragment", with(vec![fragment(0, false)]), Challenge),
        (
            "a first fragment",
            Frame {
                keep: Some(32),
                ..with(vec![fragment(0, true)])
            },
            Challenge,
        ),
        (
            "a tiny first fragment",
            Frame {
                keep: Some(16),
                ..with(vec![fragment(0, true)])
            },
            TinyFragment,
        ),
        ("a later fragment", with(vec![fragment(9, true)]), Fragment),
        (
            "a later fragment behind hop-by-hop",
            with(vec![extension(0), fragment(9, false)]),
            Fragment,
        ),
        (
            "a later fragment that may hide UDP",
            with(vec![fragment(9, true), extension(60)]),
            Fragment,
        ),
        (
            "a later fragment of ICMPv6",
            Frame {
                protocol: 58,
                ..with(vec![fragment(9, true)])
            },
            NotProtected,
        ),
    ]
}

fn all() -> Vec<(&'static str, Frame, Reason)> {
    [common(v4), common(v6), of_v4(), of_v6()].concat()
}

#[test]
fn every_header_shape_has_its_reason() {
    require_root!(());
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for (name, frame, reason) in all() {
            let bytes = frame.bytes();
            let name = format!("{entry}, {}: {name}", frame.source);
            let expected = bench.check(&name, &bytes);
            assert_eq!(expected.reason, reason, "{name}: the model");
            // Fragments and cut datagrams have no checksum that could be counted.
            let whole =
                frame.keep.is_none() && frame.udp_length.is_none() && !frame.no_checksum && frame.extensions.iter().all(|e| e.0 != 43);
            if let (Some((at, _)), true) = (expected.rewritten, whole) {
                let after = bench.run(&bytes).frame;
                assert!(whole_checksum(&frame, &after, at), "{name}: checksum over the whole packet");
            }
        }
    }
}

#[test]
fn every_prefix_of_every_frame_moves_exactly_one_counter() {
    require_root!(());
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for (name, frame, _) in all() {
            let bytes = frame.bytes();
            // The kernel takes nothing shorter than an Ethernet header; of a long packet the headers matter.
            for len in 14..bytes.len().min(150) {
                bench.check(&format!("{entry}: the first {len} bytes of {name}"), &bytes[..len]);
            }
        }
    }
}

#[test]
fn a_jumbo_frame_is_read_like_any_other() {
    require_root!(());
    // A driver gives the plain entry point one buffer only; a test run of more would give it the first of several.
    for (entry, size) in [(ENTRIES[0], 3_000), (ENTRIES[1], 8_900)] {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for base in [v4(), v6()] {
            let mut payload = base.payload.clone();
            payload.resize(size, b'x');
            let frame = Frame { payload, ..base };
            let bytes = frame.bytes();
            let expected = bench.check(&format!("{entry}: {} bytes", bytes.len()), &bytes);
            assert_eq!(expected.reason, Reason::Challenge);
            let after = bench.run(&bytes).frame;
            let (at, _) = expected.rewritten.expect("a punt");
            assert!(whole_checksum(&frame, &after, at), "{entry}");
        }
    }
}

#[test]
fn a_checksum_that_comes_to_zero_is_written_as_all_ones() {
    require_root!(());
    let mut bench = Bench::new(ENTRIES[0]);
    populate(&mut bench);
    assert!(bench.tables.hosts.contains_key(&address("203.0.113.3")));
    let mut seen = false;
    // One of all values of two bytes makes the punted datagram's checksum zero.
    for value in 0..=u16::MAX {
        let mut frame = v4();
        frame.payload[40..42].copy_from_slice(&value.to_be_bytes());
        frame.destination_port = 16_060;
        let bytes = frame.bytes();
        if bytes[40..42] == [0xff, 0xff] {
            frame.destination_port = 5060;
            let bytes = frame.bytes();
            bench.check("checksum zero", &bytes);
            let after = bench.run(&bytes).frame;
            assert_eq!(after[40..42], [0xff, 0xff]);
            seen = true;
        }
    }
    assert!(seen);
}
