//! The model against the kernel, on generated tables and packets. `SIPAUTH_SEED` repeats a run; the seed is fixed by default.

use sipauth_common::{
    address::Address,
    config::{DefaultPolicy, flags},
    flow::{Ban, Flow, FlowKey},
    policy::{FLAG_MORE_PORTS, Policy, PortKey},
    sip::Method,
};
use sipauth_tests::{
    frame::{Frame, fragment},
    model, require_root,
};

use crate::bench::{Bench, ENTRIES, HOUR, address, bump};

const ROUNDS: u64 = 300;
/// In the emulated VM, where a packet takes some fifty times as long: there the question is the kernel, not the packets.
const ROUNDS_EMULATED: u64 = 10;
const PACKETS: u64 = 200;
/// Gateway ids in use.
const GATEWAYS: u32 = 12;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }
    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
    fn word(&mut self) -> u16 {
        let [low, high, ..] = self.next().to_le_bytes();
        u16::from_le_bytes([low, high])
    }
    fn gateway(&mut self) -> u32 {
        u32::from(self.byte()) % GATEWAYS
    }
    /// Few addresses, so that packets meet tables.
    fn address(&mut self) -> Address {
        let (a, b) = (self.below(2), self.below(24));
        if self.one_in(2) {
            address(&format!("203.0.{}.{b}", 112 + a))
        } else {
            address(&format!("2001:db8:{a}::{b:x}"))
        }
    }
    fn port(&mut self) -> u16 {
        self.of(&[5060, 5061, 5062, 0])
    }
}

/// Fills the tables; times are far from now in either direction.
fn tables(bench: &mut Bench, r: &mut Random) {
    bench.clear();
    // Old bits go, or stay.
    if r.one_in(4) {
        bench.programs.maps.renew_prefilter().expect("PREFILTER");
    }
    let now = bench.tables.now;
    let mut config = bench.config(r.of(&[
        DefaultPolicy::Deny,
        DefaultPolicy::Deny,
        DefaultPolicy::Challenge,
        DefaultPolicy::Allow,
    ]));
    config.flags = [flags::MONITOR, flags::FAIL_OPEN, flags::REPLY_UNAUTHORIZED, flags::TCP_RESET]
        .into_iter()
        .filter(|_| r.one_in(4))
        .sum();
    config.heartbeat_ns = if r.one_in(4) { r.of(&[0, 1]) } else { now + HOUR };
    if r.one_in(20) {
        config.layout = 0;
    }
    bench.set_config(config);
    let times = [1, now + HOUR];
    for _ in 0..r.below(40) {
        let at = r.address();
        let policy = Policy {
            gateway: r.gateway(),
            port_gateway: r.gateway(),
            port: r.port(),
            modes: r.byte() & 15,
            flags: if r.one_in(2) { FLAG_MORE_PORTS } else { 0 },
            prefix: 128,
            reserved: [0; 3],
        };
        let prefix = match r.below(3) {
            0 => {
                bench.host(at, policy);
                128
            }
            _ if at.v4().is_some() => r.of(&[96, 99, 104, 110, 112, 119, 120, 124, 126, 127, 128]),
            _ => r.of(&[0, 7, 16, 24, 29, 32, 47, 48, 64, 123, 127, 128]),
        };
        if !bench.tables.hosts.contains_key(&at) || prefix != 128 {
            bench.net(at, prefix, policy);
        }
        if r.one_in(2) {
            let port = r.port().max(1);
            bench.port(
                PortKey {
                    network: at.network(prefix),
                    port,
                    prefix,
                    reserved: 0,
                },
                r.gateway(),
            );
        }
    }
    for _ in 0..r.below(40) {
        let key = FlowKey {
            address: r.address(),
            port: r.port(),
            protocol: r.of(&[6, 17]),
            reserved: 0,
        };
        let expires = if r.one_in(2) { u64::MAX } else { r.of(&times) };
        bench.flow(
            key,
            Flow {
                expires,
                seen: r.of(&times),
                gateway: r.gateway(),
                registering: 0,
            },
        );
    }
    for _ in 0..r.below(12) {
        bench.peer(r.address(), r.of(&times));
    }
    for _ in 0..r.below(8) {
        bench.ban(
            r.address(),
            Ban {
                expires: r.of(&[1, now + HOUR, u64::MAX]),
                port: r.port(),
                cause: 1,
                reserved: 0,
            },
        );
    }
    // What was set one by one, or all from the maps.
    if r.one_in(4) {
        bench.programs.maps.renew_prefilter().expect("PREFILTER");
    }
}

fn payload(r: &mut Random) -> Vec<u8> {
    match r.below(8) {
        0 => b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        1 => r
            .of(&[
                &b""[..],
                b"\r\n",
                b"\r\n\r\n",
                b"\0\0\0\0",
                b"\0\x01\0\0\x21\x12\xa4\x42aaaabbbbcccc",
            ])
            .to_vec(),
        2 => (0..r.below(24)).map(|_| r.of(b"INVTESP/2.0 \r\n\0A")).collect(),
        _ => {
            let mut text = r.of(&Method::NAMED).as_str().as_bytes().to_vec();
            text.extend(r.of(&[&b" "[..], b"\t", b"", b"X "]));
            text.extend(std::iter::repeat_n(b'a', usize::from(r.byte() % 40)));
            text
        }
    }
}

fn packet(r: &mut Random) -> Vec<u8> {
    let source = r.address();
    let base = if source.v4().is_some() {
        Frame::invite()
    } else {
        Frame::invite_v6()
    };
    let mut frame = Frame {
        source: source.into(),
        source_port: r.port(),
        destination_port: r.of(&[5060, 5060, 5060, 5060, 5080, 15_060, 22]),
        protocol: r.of(&[17, 17, 17, 6]),
        flags: r.of(&[2, 0x10, 0x12, 0x18, 4]),
        payload: payload(r),
        no_checksum: r.one_in(6),
        ..base
    };
    for _ in 0..if r.one_in(3) { 1 + r.below(2) } else { 0 } {
        mutate(&mut frame, r);
    }
    let mut bytes = frame.bytes();
    if r.one_in(10) {
        // Any byte behind the addresses of Ethernet may be any other.
        let at = 12 + usize::from(r.word()) % (bytes.len() - 12);
        bytes[at] = r.byte();
    }
    if r.one_in(20) {
        bytes.truncate(14 + usize::from(r.word()) % (bytes.len() - 13));
    }
    bytes
}

fn mutate(frame: &mut Frame, r: &mut Random) {
    match r.below(12) {
        0 => frame.tags = (0..r.below(4)).map(|_| r.of(&[0x8100, 0x88a8])).collect(),
        1 => frame.options = vec![1; usize::from(r.byte() % 11) * 4],
        2 => frame.ihl = Some(r.byte() & 15),
        3 => frame.ip_length = Some(r.word() % 128),
        4 => frame.fragment = r.of(&[0x2000, 0x4000, 1, 0x2001, 0x1fff, 0x8000]),
        5 => frame.udp_length = Some(r.word() % 80),
        6 => frame.data_offset = Some(r.byte() & 15),
        7 => frame.keep = Some(usize::from(r.byte() % 40)),
        8 => frame.padding = usize::from(r.byte() % 20),
        9 => frame.protocol = r.of(&[1, 58, 132, 50]),
        10 => frame.version = Some(r.byte() & 15),
        _ => {
            for _ in 0..r.below(10) {
                frame.extensions.push(match r.below(6) {
                    0 => fragment(r.of(&[0, 0, 1, 100]), r.one_in(2)),
                    1 => (51, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
                    2 => (60, [vec![0, r.of(&[1, 2, 3])], vec![0; 22]].concat()),
                    _ => (r.of(&[0, 43, 60, 60, 60, 59]), vec![0; 8]),
                });
            }
        }
    }
}

#[test]
fn the_model_and_the_kernel_agree_on_generated_packets() {
    require_root!();
    let seed = std::env::var("SIPAUTH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5060);
    println!("SIPAUTH_SEED={seed}");
    let rounds = if std::env::var_os("SIPAUTH_VM").is_some() {
        ROUNDS_EMULATED
    } else {
        ROUNDS
    };
    let mut r = Random(seed);
    let mut ran = 0u64;
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        for round in 0..rounds {
            tables(&mut bench, &mut r);
            let packets: Vec<Vec<u8>> = (0..PACKETS).map(|_| packet(&mut r)).collect();
            let before = bench.stats();
            let mut wanted = before;
            let gateways_before: Vec<_> = (1..GATEWAYS)
                .map(|id| bench.programs.maps.gateway_stats(id).expect("GATEWAY_STATS"))
                .collect();
            let mut gateways = gateways_before.clone();
            for (i, bytes) in packets.iter().enumerate() {
                let name = format!("seed {seed}, {entry}, round {round}, packet {i}");
                let expected = model::expect(bytes, &bench.tables);
                let result = bench.run(bytes);
                bench.compare(&name, bytes, &expected, &result);
                bump(&mut wanted[expected.reason as usize], bytes.len());
                if expected.gateway != 0 {
                    bump(
                        &mut gateways[expected.gateway as usize - 1].verdict[expected.reason.verdict() as usize],
                        bytes.len(),
                    );
                }
            }
            ran += PACKETS;
            if bench.stats() != wanted {
                // Again, one by one: says which.
                for (i, bytes) in packets.iter().enumerate() {
                    bench.check(&format!("seed {seed}, {entry}, round {round}, packet {i} again"), bytes);
                }
                panic!("seed {seed}, {entry}, round {round}: counters differ, and not packet by packet");
            }
            let now: Vec<_> = (1..GATEWAYS)
                .map(|id| bench.programs.maps.gateway_stats(id).expect("GATEWAY_STATS"))
                .collect();
            assert_eq!(now, gateways, "seed {seed}, {entry}, round {round}: gateways");
        }
    }
    assert_eq!(ran, 2 * rounds * PACKETS);
    println!("{ran} packets");
}
