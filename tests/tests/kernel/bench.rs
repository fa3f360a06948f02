//! The program under test, its maps, and the same tables for the model.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::programs::{TestRun, TestRunOptions};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use sipauth_common::{
    abi,
    address::Address,
    config::{Config, DefaultPolicy, LANES, PortRole, port},
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey, modes},
    reason::Reason,
    stats::Count,
};
use sipauth_tests::{
    frame,
    model::{self, Expected, Tables},
};
use sipauth_user::datapath::{self, Programs, Sizes};

pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;
pub(crate) const HOUR: u64 = 3_600_000_000_000;
/// Above any frame of these tests.
const ROOM: usize = 10_000;
/// The entry points.
pub(crate) const ENTRIES: [&str; 2] = [abi::PROGRAM_INGRESS, abi::PROGRAM_INGRESS_FRAGS];

/// One at a time: the maps of a loaded object take some hundred megabytes, as much as a small VM has.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) tables: Tables,
    out: Vec<u8>,
    _turn: MutexGuard<'static, ()>,
}

/// What the program did.
pub(crate) struct Ran {
    pub(crate) action: u32,
    pub(crate) frame: Vec<u8>,
}

pub(crate) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect("an address").into()
}

pub(crate) fn policy(gateway: u32, modes: u8) -> Policy {
    Policy {
        gateway,
        port_gateway: 0,
        port: 0,
        modes,
        flags: 0,
        prefix: 128,
        reserved: [0; 3],
    }
}

impl Bench {
    /// Loaded, with 5060 and 5080 protected and a living agent; no gateways.
    pub(crate) fn new(entry: &'static str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let programs = datapath::load_ingress(None, &Sizes::ample(), entry).expect("the object loads");
        let mut bench = Self {
            programs,
            tables: Tables::default(),
            out: vec![0; ROOM],
            _turn: turn,
        };
        bench.tables.now = datapath::monotonic_ns();
        for protected in [5060u16, 5080] {
            let punt = [protected + 10_000, protected + 11_000, protected + 12_000, protected + 13_000];
            bench.role(
                protected,
                PortRole {
                    punt,
                    protected: 0,
                    flags: port::PROTECTED,
                    reserved: 0,
                },
            );
            for punt in punt {
                bench.role(
                    punt,
                    PortRole {
                        punt: [0; LANES],
                        protected,
                        flags: port::PUNT,
                        reserved: 0,
                    },
                );
            }
        }
        let config = bench.config(DefaultPolicy::Deny);
        bench.set_config(config);
        bench
    }

    /// Settings with budgets that no test uses up by accident.
    pub(crate) fn config(&self, default_policy: DefaultPolicy) -> Config {
        Config {
            layout: abi::LAYOUT,
            generation: 1,
            heartbeat_ns: self.tables.now + HOUR,
            heartbeat_limit_ns: self.tables.now / 2,
            // A machine may have been up for seconds only: what is old is as old as the clock.
            peer_ttl_ns: self.tables.now / 2,
            flow_idle_ns: self.tables.now / 2,
            default_policy: default_policy as u32,
            flags: 0,
            source_rate: [u32::MAX; LANES],
            lane_rate: [u32::MAX; LANES],
            own_mark: *b"0badcafe",
            event_rate: 100,
            reserved: 0,
        }
    }

    pub(crate) fn set_config(&mut self, config: Config) {
        self.programs.maps.set_config(&config).expect("CONFIG");
        self.tables.config = Some(config);
    }

    /// Changes the settings.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.tables.config.expect("settings");
        change(&mut config);
        self.set_config(config);
    }

    pub(crate) fn role(&mut self, number: u16, role: PortRole) {
        self.programs.maps.set_port_role(number, role).expect("PORT_ROLES");
        self.tables.roles.insert(number, role);
    }

    pub(crate) fn host(&mut self, at: Address, policy: Policy) {
        self.programs.maps.put_host(&at, &policy).expect("HOSTS");
        self.tables.hosts.insert(at, policy);
    }

    pub(crate) fn net(&mut self, at: Address, prefix: u8, policy: Policy) {
        let (at, policy) = (at.network(prefix), Policy { prefix, ..policy });
        self.programs.maps.put_net(&at, prefix, &policy).expect("NETS");
        self.tables.nets.insert((at, prefix), policy);
    }

    pub(crate) fn port(&mut self, key: PortKey, gateway: u32) {
        self.programs.maps.put_port(&key, gateway).expect("PORTS");
        self.tables.ports.insert(key, gateway);
    }

    pub(crate) fn flow(&mut self, key: FlowKey, flow: Flow) {
        self.programs.maps.put_flow(&key, &flow).expect("FLOWS");
        self.tables.flows.insert(key, flow);
    }

    pub(crate) fn peer(&mut self, at: Address, seen: u64) {
        self.programs.maps.put_peer(&at, seen).expect("PEERS");
        self.tables.peers.insert(at, seen);
    }

    pub(crate) fn ban(&mut self, at: Address, ban: Ban) {
        self.programs.maps.put_ban(&at, &ban).expect("BANS");
        self.tables.bans.insert(at, ban);
    }

    /// Removes all sources. Peers cannot be removed, so they are made old.
    pub(crate) fn clear(&mut self) {
        let maps = &self.programs.maps;
        for (at, _) in self.tables.hosts.drain() {
            maps.delete_host(&at).expect("HOSTS");
        }
        for ((at, prefix), _) in self.tables.nets.drain() {
            maps.delete_net(&at, prefix).expect("NETS");
        }
        for (key, _) in self.tables.ports.drain() {
            maps.delete_port(&key).expect("PORTS");
        }
        for (key, _) in self.tables.flows.drain() {
            maps.delete_flow(&key).expect("FLOWS");
        }
        for (at, _) in self.tables.bans.drain() {
            maps.delete_ban(&at).expect("BANS");
        }
        for (at, seen) in &mut self.tables.peers {
            *seen = 1;
            maps.put_peer(at, 1).expect("PEERS");
        }
        self.tables.now = datapath::monotonic_ns();
    }

    pub(crate) fn run(&mut self, frame: &[u8]) -> Ran {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.out),
            ..TestRunOptions::default()
        };
        let result = self.programs.ingress().expect("the program").test_run(options).expect("a test run");
        Ran {
            action: result.return_value,
            frame: self.out[..result.data_size_out as usize].to_vec(),
        }
    }

    pub(crate) fn stats(&self) -> [Count; Reason::COUNT] {
        self.programs.maps.stats().expect("STATS")
    }

    /// Runs a frame and compares everything that can be seen with the model, counters included.
    pub(crate) fn check(&mut self, name: &str, bytes: &[u8]) -> Expected {
        let expected = model::expect(bytes, &self.tables);
        let stats = self.stats();
        let gateway = self.programs.maps.gateway_stats(expected.gateway).expect("GATEWAY_STATS");
        let ran = self.run(bytes);
        self.compare(name, bytes, &expected, &ran);
        let mut wanted = stats;
        bump(&mut wanted[expected.reason as usize], bytes.len());
        let now = self.stats();
        let moved: Vec<&str> = Reason::ALL
            .iter()
            .filter(|r| now[**r as usize] != stats[**r as usize])
            .map(|r| r.label())
            .collect();
        assert!(
            now == wanted,
            "{name}: moved {moved:?}, expected {} by one\n{bytes:02x?}",
            expected.reason.label()
        );
        let mut wanted = gateway;
        if expected.gateway != 0 {
            bump(&mut wanted.verdict[expected.reason.verdict() as usize], bytes.len());
        }
        assert_eq!(
            self.programs.maps.gateway_stats(expected.gateway).expect("GATEWAY_STATS"),
            wanted,
            "{name}: gateway {}",
            expected.gateway
        );
        expected
    }

    /// Action and output, and what `explain` says.
    pub(crate) fn compare(&self, name: &str, bytes: &[u8], expected: &Expected, ran: &Ran) {
        assert_eq!(
            ran.action,
            if expected.passes { PASS } else { DROP },
            "{name}: action, expected {expected:?}\n{bytes:02x?}"
        );
        let read = model::read(bytes);
        match expected.rewritten {
            None => assert!(ran.frame == bytes, "{name}: changed, expected {expected:?}"),
            Some((at, port)) => {
                let read = read.expect("a punted packet is readable");
                rewritten(name, bytes, &ran.frame, at, port, read.view.content.protocol());
            }
        }
        if let Ok(read) = read {
            let explained = model::judge(bytes, &read, &*self.programs.maps);
            assert_eq!(
                (explained.reason, explained.gateway),
                (expected.reason, expected.gateway),
                "{name}: explain"
            );
        }
    }
}

pub(crate) fn bump(count: &mut Count, bytes: usize) {
    count.packets += 1;
    count.bytes += bytes as u64;
}

/// Nothing but destination port and checksum differ; the checksum is the old one moved by the difference of the ports.
fn rewritten(name: &str, before: &[u8], after: &[u8], at: usize, port: u16, protocol: u8) {
    let sum_at = at + if protocol == 17 { 6 } else { 16 };
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    assert_eq!(word(after, at + 2), port, "{name}: port");
    let (old, new) = (word(before, sum_at), word(after, sum_at));
    if protocol == 17 && old == 0 {
        assert_eq!(new, 0, "{name}: no checksum stays none");
    } else {
        assert!(protocol != 17 || new != 0, "{name}: a checksum became none");
        // Checksum plus port is the same sum before and after, in ones' complement.
        let fold = |a: u16, b: u16| (u32::from(a) + u32::from(b)) % 0xffff;
        assert_eq!(fold(old, word(before, at + 2)), fold(new, port), "{name}: checksum");
    }
    let mut restored = after.to_vec();
    restored[at + 2..at + 4].copy_from_slice(&before[at + 2..at + 4]);
    restored[sum_at..sum_at + 2].copy_from_slice(&before[sum_at..sum_at + 2]);
    assert!(restored == before, "{name}: more than the port and its checksum changed");
}

/// The checksum over the whole of an unfragmented packet, counted anew.
pub(crate) fn whole_checksum(frame: &frame::Frame, after: &[u8], transport: usize) -> bool {
    frame::checksum_holds(
        frame.source,
        frame.destination,
        frame.protocol,
        &after[transport..after.len() - frame.padding],
    )
}

/// A gateway of each mode, and a stranger, in both families: the last byte tells.
pub(crate) fn populate(bench: &mut Bench) {
    for base in ["203.0.113.", "2001:db8::"] {
        let at = |n: u8| {
            if base.ends_with('.') {
                address(&format!("{base}{n}"))
            } else {
                address(&format!("{base}{n:x}"))
            }
        };
        bench.host(at(1), policy(1, modes::IP));
        bench.host(
            at(2),
            Policy {
                port: 5060,
                port_gateway: 2,
                ..policy(2, modes::IP_PORT)
            },
        );
        bench.host(at(3), policy(3, modes::PASSWORD));
        bench.host(at(4), policy(4, modes::PEER));
        bench.host(at(5), policy(5, modes::PASSWORD));
        for protocol in [6, 17] {
            let key = FlowKey {
                address: at(5),
                port: 5060,
                protocol,
                reserved: 0,
            };
            bench.flow(
                key,
                Flow {
                    expires: u64::MAX,
                    seen: bench.tables.now + HOUR,
                    gateway: 5,
                    registering: 0,
                },
            );
        }
        bench.host(at(6), policy(6, modes::PASSWORD));
        bench.ban(
            at(6),
            Ban {
                expires: u64::MAX,
                port: 0,
                cause: 1,
                reserved: 0,
            },
        );
        bench.peer(at(7), bench.tables.now + HOUR);
    }
}

/// Buckets are per CPU, and a test run stays where its thread is.
pub(crate) fn stay_on_one_cpu() {
    stay_on(0).expect("CPU 0 is ours");
}

/// On this CPU, if there is one.
pub(crate) fn stay_on(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}
