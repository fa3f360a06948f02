//! Header shapes of one family: frame, expected reason.

use sipauth_common::reason::Reason;
use sipauth_tests::frame::{Frame, fragment};

use crate::tables::{extension, v4, v6};

pub(crate) fn of_v4() -> Vec<(&'static str, Frame, Reason)> {
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

pub(crate) fn of_v6() -> Vec<(&'static str, Frame, Reason)> {
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
