use std::net::IpAddr;

use proptest::{prelude::*, sample::select};
use sipauth_common::{
    config::{Config, DefaultPolicy, LANES, PortRole, port},
    decide::{Content, Decision, Lookup, PacketView, decide},
    flow::{Ban, Flow, FlowKey},
    policy::modes,
    prefilter::Possible,
    reason::Reason,
    sip::{Class, Method},
};

use super::*;

/// The decision over tables alone: no flows, no peers, no bans, an agent that lives.
struct Model<'a>(&'a Tables);

impl Lookup for Model<'_> {
    fn config(&self) -> Option<Config> {
        Some(Config {
            layout: 1,
            generation: 1,
            heartbeat_ns: 1,
            heartbeat_limit_ns: 10,
            peer_ttl_ns: 10,
            flow_idle_ns: 10,
            default_policy: DefaultPolicy::Deny as u32,
            flags: 0,
            source_rate: [1; LANES],
            lane_rate: [1; LANES],
            own_mark: *b"0badcafe",
            event_rate: 1,
            reserved: 0,
        })
    }
    fn port_role(&self, number: u16) -> PortRole {
        if number == 5060 {
            PortRole {
                flags: port::PROTECTED,
                ..PortRole::default()
            }
        } else {
            PortRole::default()
        }
    }
    fn possible(&self, _: &Address) -> Possible {
        Possible::ALL
    }
    fn host(&self, address: &Address) -> Option<Policy> {
        self.0.host(address)
    }
    fn net(&self, address: &Address) -> Option<Policy> {
        self.0.net(address)
    }
    fn port(&self, key: &PortKey) -> Option<u32> {
        self.0.port(key)
    }
    fn flow(&self, _: &FlowKey) -> Option<Flow> {
        None
    }
    fn peer(&self, _: &Address) -> Option<u64> {
        None
    }
    fn ban(&self, _: &Address) -> Option<Ban> {
        None
    }
    fn now(&self) -> u64 {
        5
    }
}

fn gateway(name: &str, mode: Mode, addresses: &[&str], ports: &[u16], priority: i32) -> Gateway {
    Gateway {
        name: name.to_owned(),
        mode,
        addresses: addresses.iter().map(|text| text.parse().expect("a network")).collect(),
        names: crate::gateway::Names::default(),
        ports: ports.to_vec(),
        username: (mode == Mode::Password).then(|| name.to_owned()),
        realm: (mode == Mode::Password).then(|| "test".to_owned()),
        credentials: None,
        digest: crate::config::RawDigest::default(),
        priority,
    }
}

fn ask(tables: &Tables, source: &str, source_port: u16, class: Class) -> Decision {
    let source = Address::from(source.parse::<IpAddr>().expect("an address"));
    decide(
        &PacketView {
            source,
            source_port,
            destination_port: 5060,
            content: Content::Udp(class),
        },
        &Model(tables),
    )
}

const INVITE: Class = Class::Request(Method::Invite);

fn answer(tables: &Tables, source: &str, port: u16) -> (Reason, u32) {
    let decision = ask(tables, source, port, INVITE);
    (decision.reason, decision.gateway)
}

#[test]
fn hosts_and_nets_of_both_families_get_their_tables() {
    let tables = Tables::compile(&[(
        7,
        gateway(
            "a",
            Mode::Ip,
            &["203.0.113.5/32", "198.51.100.0/24", "2001:db8::1/128", "2001:db8:1::/48"],
            &[],
            0,
        ),
    )]);
    assert_eq!((tables.hosts.len(), tables.nets.len(), tables.ports.len()), (2, 2, 0));
    let prefixes: std::collections::BTreeSet<u8> = tables.nets.keys().map(|(_, prefix)| *prefix).collect();
    assert_eq!(prefixes, [48, 120].into());
    for source in ["203.0.113.5", "198.51.100.77", "2001:db8::1", "2001:db8:1:2::3"] {
        assert_eq!(answer(&tables, source, 1), (Reason::IpMatch, 7), "{source}");
    }
    for source in ["203.0.113.6", "198.51.101.1", "2001:db8::2", "2001:db8:2::"] {
        assert_eq!(answer(&tables, source, 1), (Reason::UnknownSource, 0), "{source}");
    }
}

#[test]
fn an_ipv6_prefix_never_contains_an_ipv4_address() {
    let tables = Tables::compile(&[(1, gateway("six", Mode::Ip, &["::/0"], &[], 0))]);
    assert_eq!(answer(&tables, "2001:db8::1", 1).0, Reason::IpMatch);
    assert_eq!(answer(&tables, "203.0.113.5", 1).0, Reason::UnknownSource);
}

#[test]
fn the_first_port_is_inline_and_the_others_are_in_the_table() {
    let tables = Tables::compile(&[(3, gateway("a", Mode::IpPort, &["203.0.113.6/32"], &[5060, 5070, 5080], 0))]);
    assert_eq!(tables.ports.len(), 2);
    for port in [5060, 5070, 5080] {
        assert_eq!(answer(&tables, "203.0.113.6", port), (Reason::PortMatch, 3));
    }
    assert_eq!(answer(&tables, "203.0.113.6", 5090), (Reason::PortMismatch, 3));
}

#[test]
fn gateways_that_share_an_address_are_joined() {
    let host = &["203.0.113.6/32"];
    let one = (1, gateway("port", Mode::IpPort, host, &[5060], 0));
    let two = (2, gateway("password", Mode::Password, host, &[], 0));
    let tables = Tables::compile(&[one.clone(), two.clone()]);
    assert_eq!(answer(&tables, "203.0.113.6", 5060), (Reason::PortMatch, 1));
    assert_eq!(answer(&tables, "203.0.113.6", 1), (Reason::Challenge, 2));
    let three = (3, gateway("ip", Mode::Ip, host, &[], 0));
    let tables = Tables::compile(&[one, two, three.clone()]);
    assert_eq!(
        tables
            .policy(&Address::from(IpAddr::from([203, 0, 113, 6])))
            .map(|policy| policy.modes),
        Some(modes::IP | modes::IP_PORT | modes::PASSWORD)
    );
    assert_eq!(
        answer(&tables, "203.0.113.6", 5060),
        (Reason::IpMatch, 3),
        "an equal priority does not beat mode ip"
    );
    let tables = Tables::compile(&[(1, gateway("port", Mode::IpPort, host, &[5060], 1)), three]);
    assert_eq!(answer(&tables, "203.0.113.6", 5060), (Reason::PortMatch, 1), "a higher one does");
}

#[test]
fn priority_then_the_lowest_id_decides_who_is_counted() {
    let host = &["203.0.113.6/32"];
    let tables = Tables::compile(&[
        (1, gateway("a", Mode::Ip, host, &[], 0)),
        (2, gateway("b", Mode::Ip, host, &[], 9)),
        (3, gateway("c", Mode::Ip, host, &[], 9)),
    ]);
    assert_eq!(answer(&tables, "203.0.113.6", 1), (Reason::IpMatch, 2));
    let tables = Tables::compile(&[
        (1, gateway("a", Mode::IpPort, host, &[5060], 0)),
        (2, gateway("b", Mode::IpPort, host, &[5060], 9)),
    ]);
    assert_eq!(answer(&tables, "203.0.113.6", 5060), (Reason::PortMatch, 2));
}

#[test]
fn the_most_specific_entry_alone_decides() {
    let tables = Tables::compile(&[
        (1, gateway("wide", Mode::Ip, &["203.0.113.0/24"], &[], 0)),
        (2, gateway("narrow", Mode::IpPort, &["203.0.113.6/32"], &[5060], 0)),
    ]);
    assert_eq!(answer(&tables, "203.0.113.6", 1), (Reason::PortMismatch, 2));
    assert_eq!(answer(&tables, "203.0.113.7", 1), (Reason::IpMatch, 1));
}

#[test]
fn a_gateway_that_asks_for_less_is_named_with_the_one_it_weakens() {
    let host = &["203.0.113.6/32"];
    let strong = gateway("strong", Mode::Password, host, &[], 0);
    let weak = gateway("weak", Mode::Ip, host, &[], 0);
    for (existing, new) in [(&strong, &weak), (&weak, &strong)] {
        let warnings = weakened(&Snapshot::new(vec![(1, existing.clone())]), new);
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        let text = warning.to_string();
        assert!(
            text.contains("weak (mode ip)") && text.contains("strong (mode password)") && text.contains("203.0.113.6"),
            "{text}"
        );
    }
    assert!(weakened(&Snapshot::new(vec![(1, weak.clone())]), &gateway("other", Mode::Ip, host, &[], 0)).is_empty());
    let hidden = weakened(
        &Snapshot::new(vec![(1, gateway("wide", Mode::Ip, &["203.0.113.0/24"], &[], 0))]),
        &strong,
    );
    assert!(matches!(hidden.as_slice(), [crate::gateway::Warning::Hidden { .. }]), "{hidden:?}");
}

#[test]
fn the_snapshot_finds_accounts_and_names() {
    let snapshot = Snapshot::new(vec![
        (4, gateway("pw", Mode::Password, &["203.0.113.0/24"], &[], 0)),
        (5, gateway("ip", Mode::Ip, &["192.0.2.1/32"], &[], 0)),
    ]);
    assert_eq!(snapshot.account(b"pw").map(|(id, _)| id), Some(4));
    assert!(snapshot.account(b"ip").is_none());
    assert_eq!(snapshot.by_name("ip").map(|(id, _)| id), Some(5));
    let (without, _) = snapshot.edited(Edit {
        remove: vec![4],
        put: Vec::new(),
    });
    assert!(without.account(b"pw").is_none() && without.by_name("pw").is_none());
    let (with, _) = snapshot.edited(Edit {
        remove: Vec::new(),
        put: vec![(9, gateway("any", Mode::Password, &[], &[], 0).into())],
    });
    assert!(with.anywhere() && !snapshot.anywhere());
}

/// Few addresses and ports, so that gateways meet.
fn some_gateway() -> impl Strategy<Value = Gateway> {
    let networks = [
        "10.0.0.0/24",
        "10.0.0.0/29",
        "10.0.0.0/30",
        "10.0.0.0/31",
        "10.0.0.0/32",
        "10.0.0.1/32",
        "10.0.0.2/32",
        "0.0.0.0/0",
        "2001:db8::/32",
        "2001:db8::/64",
        "2001:db8::1/128",
        "::/0",
    ];
    let mode = select(Mode::ALL.to_vec());
    let addresses = proptest::collection::btree_set(select(networks.to_vec()), 1..4);
    let ports = proptest::collection::btree_set(select(vec![5060u16, 5062, 5064, 5066]), 1..4);
    (mode, addresses, ports, 0..3i32).prop_map(|(mode, addresses, ports, priority)| {
        let ports: Vec<u16> = if mode == Mode::IpPort {
            ports.into_iter().collect()
        } else {
            Vec::new()
        };
        gateway("g", mode, &addresses.into_iter().collect::<Vec<_>>(), &ports, priority)
    })
}

fn some_gateways() -> impl Strategy<Value = Vec<(u32, Gateway)>> {
    proptest::collection::btree_map(1..9u32, some_gateway(), 0..6).prop_map(|all| all.into_iter().collect())
}

fn answers(tables: &Tables) -> Vec<Decision> {
    let sources = [
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.5",
        "10.0.0.9",
        "192.0.2.1",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:1::1",
        "2001:db9::",
    ];
    let mut all = Vec::new();
    for source in sources {
        for port in [5060, 5062, 5064, 5066, 9] {
            all.extend([INVITE, Class::Response].map(|class| ask(tables, source, port, class)));
        }
    }
    all
}

/// What maps need that hold exactly this.
fn demand_of(tables: &Tables) -> crate::datapath::Demand {
    let v4 = tables.hosts.keys().filter(|address| address.v4().is_some()).count();
    crate::datapath::Demand {
        hosts: [v4, tables.hosts.len() - v4],
        ports: tables.ports.len(),
        blocks: tables
            .nets
            .keys()
            .map(|(network, prefix)| sipauth_common::prefilter::blocks(network, *prefix))
            .sum(),
        ..crate::datapath::Demand::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_difference_leads_there_and_no_packet_meets_a_half_made_policy(before in some_gateways(), after in some_gateways()) {
        let (old, new) = (Tables::compile(&before), Tables::compile(&after));
        let (old_answers, new_answers) = (answers(&old), answers(&new));
        let check = |state: &Tables| answers(state).iter().zip(old_answers.iter().zip(&new_answers)).all(|(now, (old, new))| now == old || now == new);
        let mut state = old.clone();
        let steps = old.diff(&new);
        for step in &steps {
            state.apply(step);
            prop_assert!(check(&state), "after {step:?}");
        }
        prop_assert_eq!((&state.hosts, &state.nets, &state.ports), (&new.hosts, &new.nets, &new.ports));
        for step in steps.iter().rev() {
            state.apply(&step.inverse(&old));
            prop_assert!(check(&state), "after undoing {step:?}");
        }
        prop_assert_eq!((&state.hosts, &state.nets, &state.ports), (&old.hosts, &old.nets, &old.ports));
        prop_assert!(new.diff(&new).is_empty());
    }

    #[test]
    fn an_edited_snapshot_is_the_one_that_is_made_anew(before in some_gateways(), after in some_gateways()) {
        let (old, new) = (Tables::compile(&before), Tables::compile(&after));
        let gone = before.iter().map(|(id, _)| *id).filter(|id| after.iter().all(|(other, _)| other != id));
        let edit = Edit { remove: gone.collect(), put: after.iter().filter(|one| !before.contains(one)).map(|(id, one)| (*id, one.clone().into())).collect() };
        let (edited, change) = Snapshot::new(before).edited(edit);
        prop_assert_eq!(&edited.tables(), &new);
        prop_assert_eq!((edited.len(), edited.anywhere()), (after.len(), new.anywhere));
        for source in ["10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.0.9", "192.0.2.1", "2001:db8::1", "2001:db9::"] {
            let source: IpAddr = source.parse().expect("an address");
            prop_assert_eq!(edited.policy(source), new.policy(&Address::from(source)));
        }
        let (demand, wanted) = (edited.demand(), crate::datapath::Demand { gateways: edited.demand().gateways, ..demand_of(&new) });
        prop_assert_eq!(demand, wanted);
        let mut state = old.clone();
        for step in &change.steps {
            state.apply(step);
            let (now, room) = (demand_of(&state), change.demand);
            prop_assert!(now.hosts[0] <= room.hosts[0] && now.hosts[1] <= room.hosts[1] && now.ports <= room.ports, "{now:?} {room:?}");
        }
        prop_assert!(after.iter().all(|(id, _)| (*id as usize) < change.demand.gateways));
        prop_assert_eq!((&state.hosts, &state.nets, &state.ports), (&new.hosts, &new.nets, &new.ports));
        change.steps.iter().rev().for_each(|step| state.apply(&step.inverse(&change.before)));
        prop_assert_eq!((&state.hosts, &state.nets, &state.ports), (&old.hosts, &old.nets, &old.ports));
    }
}

#[test]
fn a_host_name_is_found_with_what_it_stands_for_until_its_last_gateway_goes() {
    use crate::gateway::{HostName, Names};
    let named = |id: u32, addresses: &[&str]| {
        let mut made = gateway(&format!("g{id}"), Mode::Ip, &[], &[], 0);
        let host = HostName {
            name: "a.example".to_owned(),
            addresses: addresses.iter().map(|text| text.parse().expect("a network")).collect(),
        };
        made.names = Names::new(vec![host], &[]);
        made.settle();
        (id, made)
    };
    let first = Snapshot::new(vec![named(1, &["203.0.113.1/32"]), named(2, &["203.0.113.1/32"])]);
    assert_eq!((first.host_count(), first.with_host("a.example")), (1, &[1, 2][..]));
    let source = |last| IpAddr::from([203, 0, 113, last]);
    assert!(first.policy(source(1)).is_some() && first.policy(source(2)).is_none() && !first.anywhere());
    // Another answer: the old place goes with the last gateway that has it.
    let (moved, change) = first.edited(Edit {
        remove: Vec::new(),
        put: [named(1, &["203.0.113.2/32"]), named(2, &["203.0.113.2/32"])]
            .map(|(id, one)| (id, one.into()))
            .into(),
    });
    assert_eq!(change.steps.len(), 2, "one place comes, one goes: {:?}", change.steps);
    assert!(moved.policy(source(1)).is_none() && moved.policy(source(2)).is_some());
    assert_eq!(moved.host("a.example").map(|nets| nets[0].addr()), Some(source(2)));
    let (rest, _) = moved.edited(Edit {
        remove: vec![1],
        put: Vec::new(),
    });
    assert_eq!(rest.with_host("a.example"), [2]);
    let (none, _) = rest.edited(Edit {
        remove: vec![2],
        put: Vec::new(),
    });
    assert_eq!((none.host_count(), none.host("a.example"), none.hosts().count()), (0, None, 0));
}
