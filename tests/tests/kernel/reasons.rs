//! Every reason, by the branch of `decide` that gives it; and monitor mode.

use std::collections::HashSet;

use sipauth_common::{
    config::{DefaultPolicy, flags},
    policy::{FLAG_MORE_PORTS, Policy, PortKey, modes},
    reason::Reason,
    sip::ACK_WINDOW,
};
use sipauth_tests::{
    frame::{ACK as ACK_FLAG, Frame, SYN},
    require_root,
};

use crate::bench::{Bench, ENTRIES, address, policy, populate};

const RESPONSE: &[u8] = b"SIP/2.0 200 OK\r\n\r\n";
const ACK: &[u8] = b"ACK sip:100@192.0.2.1 SIP/2.0\r\n\r\n";
const BYE: &[u8] = b"BYE sip:100@192.0.2.1 SIP/2.0\r\n\r\n";

/// An INVITE from `203.0.113.n` or `2001:db8::n`.
fn from(v6: bool, n: u8) -> Frame {
    let (base, text) = if v6 {
        (Frame::invite_v6(), format!("2001:db8::{n:x}"))
    } else {
        (Frame::invite(), format!("203.0.113.{n}"))
    };
    Frame {
        source: text.parse().expect("an address"),
        ..base
    }
}

fn says(frame: Frame, payload: &[u8]) -> Frame {
    Frame {
        payload: payload.to_vec(),
        ..frame
    }
}

#[test]
fn every_reason_is_reached() {
    require_root!();
    for entry in ENTRIES {
        for v6 in [false, true] {
            let mut bench = Bench::new(entry);
            populate(&mut bench);
            let mut reached = HashSet::new();
            let mut case = |bench: &mut Bench, name: &str, frame: Frame, reason: Reason, gateway: u32| {
                let expected = bench.check(&format!("{entry}, v6 {v6}: {name}"), &frame.bytes());
                assert_eq!((expected.reason, expected.gateway), (reason, gateway), "{name}");
                reached.insert(reason);
            };
            let from = |n| from(v6, n);
            use Reason::*;
            case(&mut bench, "mode ip", from(1), IpMatch, 1);
            case(&mut bench, "mode ip-port", from(2), PortMatch, 2);
            case(
                &mut bench,
                "mode ip-port, another port",
                Frame {
                    source_port: 5061,
                    ..from(2)
                },
                PortMismatch,
                2,
            );
            case(&mut bench, "mode password", from(3), Challenge, 3);
            case(&mut bench, "a response without a flow", says(from(3), RESPONSE), NoFlow, 3);
            case(&mut bench, "BYE without a flow", says(from(3), BYE), Challenge, 3);
            case(&mut bench, "BYE in a flow", says(from(5), BYE), Flow, 5);
            case(&mut bench, "ACK in a flow", says(from(5), ACK), Flow, 5);
            let ack = |before: usize, tag: &[u8]| [&ACK[..ACK.len() - 4], &vec![b'x'; before], tag, b"\r\n\r\n"].concat();
            let ours = b";tag=sa-0badcafe";
            let last = ACK_WINDOW - ACK.len() - ours.len();
            for (name, message, from_flow, without) in [
                ("to the agent's answer", ack(0, ours), OwnAck, OwnAck),
                ("as long as is searched", ack(last, ours), OwnAck, OwnAck),
                ("too long", ack(last + 1, ours), FlowAck, Challenge),
                ("to an earlier agent's answer", ack(0, b";tag=sa-0badcaff"), FlowAck, Challenge),
                (
                    "the mark ends with the message",
                    ack(last, ours)[..ACK_WINDOW - 5].to_vec(),
                    FlowAck,
                    Challenge,
                ),
            ] {
                case(&mut bench, name, says(from(5), &message), from_flow, 5);
                case(&mut bench, &format!("{name}, no flow"), says(from(3), &message), without, 3);
            }
            case(
                &mut bench,
                "BYE with the agent's tag",
                says(from(5), &[BYE, ours].concat()),
                Flow,
                5,
            );
            case(
                &mut bench,
                "ACK with the agent's tag, mode ip",
                says(from(1), &ack(0, ours)),
                IpMatch,
                1,
            );
            let other = [&ACK[..ACK.len() - 4], &[b'x'; ACK_WINDOW - ACK.len()], b";tag=sa"].concat();
            case(
                &mut bench,
                "almost the own tag, as long as can be",
                says(from(5), &other[..ACK_WINDOW]),
                Flow,
                5,
            );
            case(&mut bench, "ACK without a flow", says(from(3), ACK), Challenge, 3);
            case(&mut bench, "INVITE in a flow", from(5), Challenge, 5);
            case(
                &mut bench,
                "TCP in a flow",
                Frame {
                    protocol: 6,
                    flags: ACK_FLAG,
                    ..from(5)
                },
                Flow,
                5,
            );
            case(
                &mut bench,
                "a new connection from the other end of one that the softswitch opened",
                Frame {
                    protocol: 6,
                    flags: SYN,
                    ..from(5)
                },
                Challenge,
                5,
            );
            case(&mut bench, "mode peer, a response", says(from(4), RESPONSE), Peer, 4);
            case(&mut bench, "mode peer, BYE", says(from(4), BYE), Peer, 4);
            case(&mut bench, "mode peer, INVITE", from(4), PeerRequest, 4);
            case(&mut bench, "mode peer, TCP", Frame { protocol: 6, ..from(4) }, PeerRequest, 4);
            case(&mut bench, "banned", from(6), Banned, 6);
            case(&mut bench, "a learned peer's response", says(from(7), RESPONSE), Peer, 0);
            case(&mut bench, "a learned peer's INVITE", from(7), PeerRequest, 0);
            case(&mut bench, "a stranger", from(9), UnknownSource, 0);
            case(
                &mut bench,
                "to a punt port",
                Frame {
                    destination_port: 16_060,
                    ..from(1)
                },
                PuntPort,
                0,
            );
            case(
                &mut bench,
                "to another port",
                Frame {
                    destination_port: 80,
                    ..from(9)
                },
                NotProtected,
                0,
            );
            case(
                &mut bench,
                "an IP version of 5",
                Frame {
                    version: Some(5),
                    ..from(1)
                },
                BadIpHeader,
                0,
            );
            case(
                &mut bench,
                "cut",
                Frame {
                    ip_length: Some(2_000),
                    ..from(1)
                },
                Truncated,
                0,
            );
            case(
                &mut bench,
                "UDP length 3",
                Frame {
                    udp_length: Some(3),
                    ..from(1)
                },
                BadUdpLength,
                0,
            );
            case(
                &mut bench,
                "data offset 0",
                Frame {
                    protocol: 6,
                    data_offset: Some(0),
                    ..from(1)
                },
                BadTcpHeader,
                0,
            );
            let (first, later) = if v6 {
                let with = |offset, more, n| Frame {
                    extensions: vec![sipauth_tests::frame::fragment(offset, more)],
                    ..from(n)
                };
                (
                    Frame {
                        keep: Some(12),
                        ..with(0, true, 1)
                    },
                    [with(4, false, 1), with(4, false, 9)],
                )
            } else {
                let with = |fragment, n| Frame { fragment, ..from(n) };
                (
                    Frame {
                        keep: Some(12),
                        ..with(0x2000, 1)
                    },
                    [with(4, 1), with(4, 9)],
                )
            };
            let [known, stranger] = later;
            case(&mut bench, "a tiny fragment", first, TinyFragment, 0);
            case(&mut bench, "a known later fragment", known, Fragment, 1);
            case(&mut bench, "a stranger's later fragment", stranger, FragmentUnknown, 0);
            if v6 {
                let nine = Frame {
                    extensions: vec![(60, vec![0; 8]); 9],
                    ..from(1)
                };
                case(&mut bench, "nine extensions", nine, BadExtension, 0);
            }
            let net = if v6 {
                (address("2001:db8:77::"), 48, "2001:db8:77::1")
            } else {
                (address("198.51.100.0"), 120, "198.51.100.9")
            };
            bench.net(
                net.0,
                net.1,
                Policy {
                    flags: FLAG_MORE_PORTS,
                    ..policy(8, modes::IP_PORT)
                },
            );
            bench.port(
                PortKey {
                    network: net.0,
                    port: 5070,
                    prefix: net.1,
                    reserved: 0,
                },
                9,
            );
            let inside = Frame {
                source: net.2.parse().expect("an address"),
                source_port: 5070,
                ..from(1)
            };
            case(&mut bench, "a further port of a prefix", inside.clone(), PortMatch, 9);
            case(
                &mut bench,
                "another port of a prefix",
                Frame {
                    source_port: 5071,
                    ..inside.clone()
                },
                PortMismatch,
                8,
            );
            let longer = (address(net.2), net.1 + 4);
            bench.net(longer.0, longer.1, policy(10, modes::IP));
            case(&mut bench, "the longest prefix", inside.clone(), IpMatch, 10);
            bench.host(address(net.2), policy(11, modes::PASSWORD));
            case(&mut bench, "the host before any prefix", inside, Challenge, 11);

            bench.change(|c| c.flags = flags::REPLY_UNAUTHORIZED);
            case(&mut bench, "a stranger is answered", from(9), ReplyUnknown, 0);
            case(
                &mut bench,
                "a wrong port is answered",
                Frame {
                    source_port: 5061,
                    ..from(2)
                },
                ReplyMismatch,
                2,
            );
            bench.change(|c| c.flags = flags::TCP_RESET);
            case(&mut bench, "a datagram gets no reset", from(9), UnknownSource, 0);
            let segment = |flags| Frame {
                protocol: 6,
                flags,
                ..from(9)
            };
            case(&mut bench, "a stranger's connection is reset", segment(SYN), ReplyUnknown, 0);
            case(&mut bench, "what opens none is not answered", segment(ACK_FLAG), UnknownSource, 0);
            bench.change(|c| (c.flags, c.default_policy) = (0, DefaultPolicy::Allow as u32));
            case(&mut bench, "default allow", from(9), DefaultAllow, 0);
            bench.change(|c| c.default_policy = DefaultPolicy::Challenge as u32);
            case(&mut bench, "default challenge", from(9), Challenge, 0);
            bench.change(|c| (c.heartbeat_ns, c.default_policy) = (0, DefaultPolicy::Deny as u32));
            case(&mut bench, "the agent is down", from(3), AgentDown, 3);
            case(&mut bench, "mode ip without the agent", from(1), IpMatch, 1);
            case(&mut bench, "a flow without the agent", says(from(5), BYE), Flow, 5);
            case(&mut bench, "an ACK in it without the agent", says(from(5), ACK), Flow, 5);
            bench.change(|c| c.flags = flags::FAIL_OPEN);
            case(&mut bench, "fail open", from(3), FailOpen, 3);
            case(&mut bench, "a peer never fails open", from(4), AgentDown, 4);
            bench.change(|c| c.layout = 0);
            case(&mut bench, "not configured", from(9), NotConfigured, 0);

            // Budgets and challenges have tests of their own; IPv4 has no extension headers.
            let missing: Vec<Reason> = Reason::ALL
                .iter()
                .copied()
                .filter(|r| ![Challenged, Authenticated].contains(r) && !reached.contains(r))
                .collect();
            let elsewhere = if v6 {
                vec![SourceRate, LaneRate]
            } else {
                vec![BadExtension, SourceRate, LaneRate]
            };
            assert_eq!(missing, elsewhere);
        }
    }
}

#[test]
fn monitor_mode_counts_everything_and_passes_everything_unchanged() {
    require_root!();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        bench.change(|c| c.flags = flags::MONITOR);
        for (frame, reason) in [
            (from(false, 1), Reason::IpMatch),
            (from(false, 3), Reason::Challenge),
            (from(true, 3), Reason::Challenge),
            (from(false, 9), Reason::UnknownSource),
            (
                Frame {
                    destination_port: 15_060,
                    ..from(false, 9)
                },
                Reason::PuntPort,
            ),
            (
                Frame {
                    ihl: Some(3),
                    ..from(false, 9)
                },
                Reason::BadIpHeader,
            ),
        ] {
            let bytes = frame.bytes();
            let expected = bench.check("monitor", &bytes);
            assert_eq!((expected.passes, expected.reason, expected.rewritten), (true, reason, None));
        }
    }
}
