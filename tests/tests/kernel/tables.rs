//! Header shapes of either family: frame, expected reason. The source is a gateway in password mode, so that what is read right
//! is punted and rewritten: a pass cannot come from nothing.

use sipauth_common::reason::Reason;
use sipauth_tests::frame::{ACK, Frame, SYN};

use crate::families::{of_v4, of_v6};

pub(crate) fn v4() -> Frame {
    Frame {
        source: "203.0.113.3".parse().expect("an address"),
        ..Frame::invite()
    }
}

pub(crate) fn v6() -> Frame {
    Frame {
        source: "2001:db8::3".parse().expect("an address"),
        ..Frame::invite_v6()
    }
}

pub(crate) fn extension(number: u8) -> (u8, Vec<u8>) {
    if number == 51 {
        (51, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2])
    } else {
        (number, vec![0; 8])
    }
}

/// Of either family; `base` is a valid INVITE.
pub(crate) fn common(base: fn() -> Frame) -> Vec<(&'static str, Frame, Reason)> {
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

pub(crate) fn all() -> Vec<(&'static str, Frame, Reason)> {
    [common(v4), common(v6), of_v4(), of_v6()].concat()
}
