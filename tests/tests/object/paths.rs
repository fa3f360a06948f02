//! A guard on what a packet costs: instructions that are executed and maps that are looked into, on each of the main paths.
//!
//! Times depend on the machine and its mood, these only on the compiler, and of compilers the limits leave some room. `cargo xtask bench xdp` measures times.

use std::net::IpAddr;

use sipauth_common::{
    abi,
    address::Address,
    config::{Config, DefaultPolicy, LANES, PortRole, port},
    policy::{Policy, modes},
};
use sipauth_tests::frame::{Frame, SYN};
use sipauth_user::datapath::OBJECT;

use super::machine::Machine;

const DROP: u64 = 1;
const PASS: u64 = 2;

/// A packet, its verdict, and what it may cost.
struct Path {
    name: &'static str,
    frame: Frame,
    verdict: u64,
    instructions: u32,
    /// In hashes and tries.
    lookups: u32,
}

fn from(source: &str) -> Frame {
    let source: IpAddr = source.parse().expect("an address");
    let base = if source.is_ipv4() { Frame::invite() } else { Frame::invite_v6() };
    Frame { source, ..base }
}

/// Raise a limit where what came in is worth it, in the same commit.
fn paths() -> Vec<Path> {
    let path = |name, frame, verdict, instructions, lookups| Path {
        name,
        frame,
        verdict,
        instructions,
        lookups,
    };
    let other = Frame {
        protocol: 6,
        flags: SYN,
        destination_port: 443,
        ..from("198.51.100.9")
    };
    vec![
        path("not for a protected port", other, PASS, 480, 0),
        path("refused, IPv4", from("198.51.100.9"), DROP, 770, 4),
        path("refused, IPv6", from("2001:db8:ffff::9"), DROP, 770, 4),
        path("mode ip, IPv4", from("203.0.113.1"), PASS, 730, 1),
        path("mode ip, IPv6", from("2001:db8::1"), PASS, 730, 1),
        path("mode ip-port, IPv4", from("203.0.113.2"), PASS, 730, 1),
        path("mode ip by a prefix, IPv4", from("192.0.2.77"), PASS, 750, 2),
        path("mode password: INVITE to the agent, IPv4", from("203.0.113.3"), PASS, 1_050, 4),
    ]
}

/// The bytes of a value, as the agent writes it.
fn bytes<T: aya::Pod>(value: &T) -> Vec<u8> {
    let size = size_of::<T>();
    // SAFETY: plain data without padding (`Pod`).
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size) }.to_vec()
}

fn machine() -> Machine {
    let mut machine = Machine::new(OBJECT, abi::PROGRAM_INGRESS);
    let config = Config {
        layout: abi::LAYOUT,
        generation: 1,
        heartbeat_ns: u64::MAX,
        heartbeat_limit_ns: 1,
        peer_ttl_ns: 1,
        flow_idle_ns: 1,
        default_policy: DefaultPolicy::Deny as u32,
        flags: 0,
        source_rate: [u32::MAX; LANES],
        lane_rate: [u32::MAX; LANES],
        own_mark: *b"0badcafe",
        // As in a flood: the budget is used up.
        event_rate: 0,
        reserved: 0,
    };
    machine.put(abi::MAP_CONFIG, &bytes(&0u32), &bytes(&config));
    let role = PortRole {
        punt: [15_060; LANES],
        protected: 0,
        flags: port::PROTECTED,
        reserved: 0,
    };
    machine.put(abi::MAP_PORT_ROLES, &bytes(&5060u32), &bytes(&role));
    let policy = |modes, prefix| Policy {
        gateway: 1,
        port_gateway: 1,
        port: 5060,
        modes,
        flags: 0,
        prefix,
        reserved: [0; 3],
    };
    for (last, mode) in [(1, modes::IP), (2, modes::IP_PORT), (3, modes::PASSWORD)] {
        let v4: IpAddr = format!("203.0.113.{last}").parse().expect("an address");
        let v6: IpAddr = format!("2001:db8::{last}").parse().expect("an address");
        let mode = if mode == modes::IP {
            Policy {
                port: 0,
                ..policy(mode, 128)
            }
        } else {
            policy(mode, 128)
        };
        let word = Address::from(v4).v4().expect("IPv4");
        machine.put(abi::MAP_HOSTS_V4, &bytes(&word), &bytes(&mode));
        machine.put(abi::MAP_HOSTS_V6, &bytes(&Address::from(v6)), &bytes(&mode));
    }
    machine
}

/// The same with a prefix, which others need not pay for.
fn machine_with_a_prefix() -> Machine {
    let mut machine = machine();
    let key = [&24u32.to_ne_bytes()[..], &[192, 0, 2, 0]].concat();
    let policy = Policy {
        gateway: 1,
        port_gateway: 0,
        port: 0,
        modes: modes::IP,
        flags: 0,
        prefix: 96 + 24,
        reserved: [0; 3],
    };
    machine.put(abi::MAP_NETS_V4, &key, &bytes(&policy));
    machine
}

#[test]
fn no_path_executes_more_than_its_limit() {
    let mut wrong = Vec::new();
    for path in paths() {
        let mut machine = if path.name.contains("prefix") {
            machine_with_a_prefix()
        } else {
            machine()
        };
        // The first refusal may be told to the agent; of those in a flood next to none is.
        machine.xdp(&path.frame.bytes());
        let ran = machine.xdp(&path.frame.bytes());
        println!("{}: {ran:?}", path.name);
        assert_eq!(ran.verdict, path.verdict, "{}: the verdict", path.name);
        for (what, count, most) in [
            ("instructions", ran.instructions, path.instructions),
            ("look-ups in hashes and tries", ran.lookups, path.lookups),
        ] {
            if count > most {
                wrong.push(format!("{}: {count} {what}, and at most {most} are allowed", path.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nFind what grew (git bisect) and make it smaller, or change the limit with the reason.",
        wrong.join("\n")
    );
}
