//! Every decision is told as it was made: over generated packets and maps, what the steps say and the reason agree.

use std::collections::HashSet;

use proptest::prelude::*;
use sipauth_common::{
    address::Address,
    config::{Config, LANES, PortRole, flags, port},
    decide::{Content, Lookup, PacketView, decide},
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Possible,
    reason::Reason,
    sip::{Class, Method},
};

use super::*;
use crate::{
    compile::Snapshot,
    config::RawDigest,
    gateway::{Gateway, Mode, RawGateway, Secret},
};

const NOW: u64 = 1_000_000_000_000;
const SOURCE: &str = "203.0.113.6";

/// One source, as the maps may know it.
#[derive(Clone, Debug)]
struct World {
    snapshot: Snapshot,
    config: Option<Config>,
    flow: Option<Flow>,
    peer: Option<u64>,
    ban: Option<Ban>,
}

impl Lookup for World {
    fn config(&self) -> Option<Config> {
        self.config
    }
    fn port_role(&self, number: u16) -> PortRole {
        PortRole {
            punt: [61_060; LANES],
            protected: 5060,
            flags: match number {
                5060 => port::PROTECTED,
                61_060 => port::PUNT,
                _ => 0,
            },
            reserved: 0,
        }
    }
    fn possible(&self, _: &Address) -> Possible {
        Possible::ALL
    }
    fn host(&self, address: &Address) -> Option<Policy> {
        self.snapshot.tables().host(address)
    }
    fn net(&self, address: &Address) -> Option<Policy> {
        self.snapshot.tables().net(address)
    }
    fn port(&self, key: &PortKey) -> Option<u32> {
        self.snapshot.tables().port(key)
    }
    fn flow(&self, _: &FlowKey) -> Option<Flow> {
        self.flow
    }
    fn peer(&self, _: &Address) -> Option<u64> {
        self.peer
    }
    fn ban(&self, _: &Address) -> Option<Ban> {
        self.ban
    }
    fn now(&self) -> u64 {
        NOW
    }
}

fn gateway(mode: Mode, address: &str, ports: &[u16]) -> Gateway {
    let raw = RawGateway {
        name: format!("{mode}-gateway"),
        mode,
        addresses: vec![address.to_owned()],
        ports: if mode == Mode::IpPort { ports.to_vec() } else { Vec::new() },
        username: (mode == Mode::Password).then(|| "user".to_owned()),
        realm: None,
        password: (mode == Mode::Password).then(|| Secret::new("a password of the tests".to_owned())),
        allow_weak_password: true,
        credentials: None,
        digest: RawDigest::default(),
        priority: 0,
    };
    raw.validate("sipauth", None, |_, _, password| password.clone()).expect("a gateway")
}

fn config() -> Config {
    Config {
        layout: 1,
        generation: 0,
        heartbeat_ns: NOW - 1,
        heartbeat_limit_ns: 3_000_000_000,
        peer_ttl_ns: 100_000_000_000,
        flow_idle_ns: 100_000_000_000,
        default_policy: 0,
        flags: 0,
        source_rate: [1; LANES],
        lane_rate: [1; LANES],
        own_mark: *b"0badcafe",
        event_rate: 1,
        reserved: 0,
    }
}

fn world(gateways: Vec<Gateway>) -> World {
    World {
        snapshot: Snapshot::new((1..).zip(gateways).collect()),
        config: Some(config()),
        flow: None,
        peer: None,
        ban: None,
    }
}

fn packet(source_port: u16, content: Content) -> PacketView {
    PacketView {
        source: Address::from(SOURCE.parse::<std::net::IpAddr>().expect("an address")),
        source_port,
        destination_port: 5060,
        content,
    }
}

const INVITE: Content = Content::Udp(Class::Request(Method::Invite));
const BYE: Content = Content::Udp(Class::Request(Method::Bye));

fn told(world: &World, packet: &PacketView) -> (Reason, Vec<String>) {
    let recorder = Recorder::new(world, &packet.source);
    let decision = decide(packet, &recorder);
    let story = Story {
        packet,
        message: "IT",
        snapshot: &world.snapshot,
    };
    let steps = story.steps(&recorder.into_asked(), &decision);
    assert_eq!(steps.last().map(|step| step.asked.as_str()), Some("verdict"));
    (decision.reason, steps.into_iter().map(|step| step.text).collect())
}

#[test]
fn a_port_that_a_nat_changed_is_named_with_the_right_one() {
    let world = world(vec![gateway(Mode::IpPort, SOURCE, &[5060])]);
    let (reason, steps) = told(&world, &packet(40_123, INVITE));
    assert_eq!(reason, Reason::PortMismatch);
    assert_eq!(
        steps[..3],
        [
            "it is for port 5060, which is protected",
            "source 203.0.113.6 matches gateway ip-port-gateway (mode ip-port, port 5060)",
            "port 40123 is not 5060",
        ]
    );
    assert!(remedy(reason).contains("NAT") && remedy(reason).contains("mode password"));
    let (reason, steps) = told(&world, &packet(5060, INVITE));
    assert_eq!(reason, Reason::PortMatch);
    assert!(steps.contains(&"port 5060 is a port of ip-port-gateway".to_owned()), "{steps:?}");
    let (_, steps) = told(&world, &packet(0, INVITE));
    assert!(steps.iter().any(|step| step.contains("no source port was given")), "{steps:?}");
}

#[test]
fn each_of_several_ports_is_asked_for() {
    let world = world(vec![gateway(Mode::IpPort, "203.0.113.0/24", &[5060, 5062, 5064])]);
    let (reason, steps) = told(&world, &packet(5064, INVITE));
    assert_eq!(reason, Reason::PortMatch);
    assert!(steps.contains(&"port 5064 is a port of ip-port-gateway".to_owned()), "{steps:?}");
    assert!(steps[1].contains("is in 203.0.113.0/24 of gateway"), "{steps:?}");
    let (_, steps) = told(&world, &packet(5070, INVITE));
    assert!(steps.contains(&"port 5070 is none of 5060, 5062, 5064".to_owned()), "{steps:?}");
}

#[test]
fn gateways_that_share_an_address_are_all_named() {
    let world = world(vec![gateway(Mode::Password, SOURCE, &[]), gateway(Mode::Peer, SOURCE, &[])]);
    let (_, steps) = told(&world, &packet(5060, INVITE));
    assert!(
        steps[1].contains("password-gateway (mode password) and peer-gateway (mode peer)"),
        "{steps:?}"
    );
}

#[test]
fn the_age_of_what_is_known_is_told() {
    let mut world = world(vec![gateway(Mode::Password, SOURCE, &[])]);
    world.flow = Some(Flow {
        expires: u64::MAX,
        seen: NOW - 61_000_000_000,
        gateway: 1,
        registering: 0,
    });
    let (reason, steps) = told(&world, &packet(5060, BYE));
    assert_eq!(reason, Reason::Flow);
    let words = "203.0.113.6:5060 authenticated as password-gateway, last seen 1 min 1 s ago";
    assert!(steps.contains(&words.to_owned()), "{steps:?}");
    world.ban = Some(Ban {
        expires: NOW + 90_000_000_000,
        port: 0,
        cause: 2,
        reserved: 0,
    });
    let (reason, steps) = told(&world, &packet(5060, BYE));
    assert_eq!(reason, Reason::Banned);
    assert!(
        steps.contains(&"203.0.113.6 is banned for another 1 min 30 s".to_owned()),
        "{steps:?}"
    );
}

#[test]
fn no_two_reasons_are_left_without_words_of_their_own() {
    let mut seen = HashSet::new();
    for reason in Reason::ALL {
        assert!(remedy(*reason).len() > 10 && !remedy(*reason).contains('\n'), "{reason:?}");
        assert!(!remedy(*reason).contains("  "), "{reason:?}");
        seen.insert(remedy(*reason));
    }
    assert!(seen.len() > Reason::COUNT - 8, "{}", seen.len());
}

fn worlds() -> impl Strategy<Value = World> {
    let gateways = proptest::sample::subsequence(Mode::ALL.to_vec(), 0..=2);
    let time = prop_oneof![Just(NOW - 1), Just(NOW - 90_000_000_000), Just(NOW - 200_000_000_000)];
    let flow = proptest::option::of((prop_oneof![Just(u64::MAX), Just(NOW + 5), Just(NOW - 5)], time.clone(), 0..3_u32));
    let ban = proptest::option::of((
        prop_oneof![Just(u64::MAX), Just(NOW + 5), Just(NOW - 5)],
        prop_oneof![Just(0), Just(5060), Just(5070)],
    ));
    let settings = proptest::option::weighted(0.95, (0..3_u32, 0..16_u32, prop_oneof![Just(0), Just(NOW - 1), Just(NOW / 2)]));
    (gateways, any::<bool>(), settings, flow, proptest::option::of(time), ban).prop_map(|(modes, net, settings, flow, peer, ban)| {
        let address = if net { "203.0.113.0/24" } else { SOURCE };
        let mut world = world(modes.into_iter().map(|mode| gateway(mode, address, &[5060, 5062])).collect());
        world.config = settings.map(|(default_policy, flags, heartbeat_ns)| Config {
            default_policy,
            flags: flags & (flags::FAIL_OPEN | flags::REPLY_UNAUTHORIZED | flags::TCP_RESET),
            heartbeat_ns,
            ..config()
        });
        world.flow = flow.map(|(expires, seen, gateway)| Flow {
            expires,
            seen,
            gateway,
            registering: 0,
        });
        world.peer = peer;
        world.ban = ban.map(|(expires, port)| Ban {
            expires,
            port,
            cause: 1,
            reserved: 0,
        });
        world
    })
}

fn packets() -> impl Strategy<Value = PacketView> {
    let content = prop_oneof![
        Just(INVITE),
        Just(BYE),
        Just(Content::Udp(Class::Request(Method::Ack))),
        Just(Content::Udp(Class::Response)),
        Just(Content::Udp(Class::KeepAlive)),
        Just(Content::Tcp { opens: true }),
        Just(Content::Tcp { opens: false }),
    ];
    let port = prop_oneof![Just(0), Just(5060), Just(5062), Just(5070)];
    let destination = prop_oneof![8 => Just(5060_u16), 1 => Just(61_060), 1 => Just(80)];
    (content, port, destination).prop_map(|(content, source_port, destination_port)| PacketView {
        destination_port,
        ..packet(source_port, content)
    })
}

proptest! {
    #[test]
    fn what_the_steps_say_and_the_reason_agree(world in worlds(), packet in packets()) {
        let (reason, steps) = told(&world, &packet);
        let says = |words: &str| steps.iter().any(|step| step.contains(words));
        let banned = says("is banned for") || says("is banned until");
        prop_assert_eq!(banned, reason == Reason::Banned, "{:?}", steps);
        prop_assert_eq!(says("is not protected"), reason == Reason::NotProtected);
        prop_assert_eq!(says("agent's own"), reason == Reason::PuntPort);
        prop_assert_eq!(says("no agent has written settings"), reason == Reason::NotConfigured);
        if matches!(reason, Reason::AgentDown | Reason::FailOpen) {
            prop_assert!(says("the agent is down"), "{:?}", steps);
        }
        if matches!(reason, Reason::Challenge | Reason::PeerRequest | Reason::FlowAck) {
            prop_assert!(says("the agent is alive"), "{:?}", steps);
        }
        if reason == Reason::Flow {
            prop_assert!(says("authenticated as") || says("that the softswitch opened"), "{:?}", steps);
            prop_assert!(!says("that has ended"), "{:?}", steps);
        }
        if reason == Reason::PortMatch {
            prop_assert!(says("is a port of ip-port-gateway"), "{:?}", steps);
        }
        if reason == Reason::UnknownSource {
            prop_assert!(says("default policy: deny"), "{:?}", steps);
        }
        if reason == Reason::NoFlow {
            prop_assert!(says("has not authenticated") || says("that has ended") || says("no source port"), "{:?}", steps);
        }
        // A recorder changes nothing.
        prop_assert_eq!(decide(&packet, &world).reason, reason);
    }
}
