//! A guard on what a packet costs: instructions that are executed and maps that are looked into, on each of the main paths.
//!
//! Times depend on the machine and its mood, these only on the compiler, and of compilers the limits leave some room. `cargo xtask bench xdp` measures times.

use std::{cell::RefCell, net::IpAddr};

use sipauth_common::{
    abi,
    address::Address,
    config::{Config, DefaultPolicy, LANES, PortRole, port},
    policy::{Policy, modes},
    prefilter::{self, Bits, CURRENT, Header, NEXT, SEED, SetBits, Table},
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
        path("not for a protected port", other, PASS, 95, 0),
        path("refused, IPv4", from("198.51.100.9"), DROP, 295, 0),
        path("refused, IPv6", from("2001:db8:ffff::9"), DROP, 310, 0),
        path("mode ip, IPv4", from("203.0.113.1"), PASS, 280, 1),
        path("mode ip, IPv6", from("2001:db8::1"), PASS, 290, 1),
        path("mode ip-port, IPv4", from("203.0.113.2"), PASS, 280, 1),
        path("mode ip by a prefix, IPv4", from("192.0.2.77"), PASS, 360, 1),
        path("mode password: INVITE to the agent, IPv4", from("203.0.113.3"), PASS, 1_350, 6),
    ]
}

/// The bytes of a value, as the agent writes it.
fn bytes<T: aya::Pod>(value: &T) -> Vec<u8> {
    let size = size_of::<T>();
    // SAFETY: plain data without padding (`Pod`).
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size) }.to_vec()
}

/// The prefilter, to fill it as the agent does.
struct Lines<'a>(RefCell<&'a mut Machine>);

impl Bits for Lines<'_> {
    fn header(&self) -> Header {
        Header::new(self.word(0, CURRENT), self.word(0, NEXT), self.word(0, SEED))
    }

    fn word(&self, line: u32, word: usize) -> u64 {
        let mut machine = self.0.borrow_mut();
        let words = machine.element(abi::MAP_PREFILTER, line).as_chunks().0;
        u64::from_ne_bytes(words[word])
    }
}

impl SetBits for Lines<'_> {
    fn set(&self, line: u32, word: usize, bits: u64) {
        let bits = self.word(line, word) | bits;
        let mut machine = self.0.borrow_mut();
        machine.element(abi::MAP_PREFILTER, line)[8 * word..8 * word + 8].copy_from_slice(&bits.to_ne_bytes());
    }
}

fn policy(modes: u8, port: u16, prefix: u8) -> Policy {
    Policy {
        gateway: 1,
        port_gateway: u32::from(port != 0),
        port,
        modes,
        flags: 0,
        prefix,
        reserved: [0; 3],
    }
}

/// Filled as by an agent; only where a packet needs it with a prefix, which others need not pay for.
fn machine(with_a_prefix: bool) -> Machine {
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
    let table = Table::new(1, 64);
    let lines = Lines(RefCell::new(&mut machine));
    lines.set(0, SEED, 0x9e37_79b9_7f4a_7c15);
    lines.set(0, CURRENT, table.0);
    for (last, mode, port) in [(1, modes::IP, 0), (2, modes::IP_PORT, 5060), (3, modes::PASSWORD, 0)] {
        for base in ["203.0.113.", "2001:db8::"] {
            let address = Address::from(format!("{base}{last}").parse::<IpAddr>().expect("an address"));
            prefilter::set(&lines, &address);
            let (map, key) = match address.v4() {
                Some(word) => (abi::MAP_HOSTS_V4, bytes(&word)),
                None => (abi::MAP_HOSTS_V6, bytes(&address)),
            };
            lines.0.borrow_mut().put(map, &key, &bytes(&policy(mode, port, 128)));
        }
    }
    if with_a_prefix {
        let network = Address::from("192.0.2.0".parse::<IpAddr>().expect("an address"));
        let bit = prefilter::set_net(&lines, table, &network, 96 + 24);
        lines.set(0, CURRENT, bit);
        let key = [&24u32.to_ne_bytes()[..], &[192, 0, 2, 0]].concat();
        lines
            .0
            .borrow_mut()
            .put(abi::MAP_NETS_V4, &key, &bytes(&policy(modes::IP, 0, 96 + 24)));
    }
    machine
}

#[test]
fn no_path_executes_more_than_its_limit() {
    let mut wrong = Vec::new();
    for path in paths() {
        let mut machine = machine(path.name.contains("prefix"));
        // The first refusal is told to the agent, which pays for so many in a second; of those in a flood next to none is.
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
        if ran.instructions < path.instructions / 2 {
            wrong.push(format!(
                "{}: {ran:?} is below its limit: lower it, or growth goes unseen",
                path.name
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nFind what grew (git bisect) and make it smaller, or change the limit with the reason.",
        wrong.join("\n")
    );
}
