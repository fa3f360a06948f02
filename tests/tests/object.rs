//! The built object against the constants and types that the agent uses. Needs no privileges.

#[path = "object/machine.rs"]
mod machine;
#[path = "object/paths.rs"]
mod paths;

use std::collections::BTreeSet;

use aya_obj::{Object, ProgramSection, maps::PinningType};
use object::{Object as _, ObjectSymbol as _};
use sipauth_common::{
    abi,
    address::Address,
    challenge::Challenge,
    config::{Config, LANES, PortRole},
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Line,
    proof::{self, Caller, Slot},
    reason::Reason,
    stats::{Bucket, Count, EventBudget, GatewayStats, LaneStats, RateKey},
};
use sipauth_user::datapath::OBJECT;

// `enum bpf_map_type`, linux/bpf.h.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LRU_PERCPU_HASH: u32 = 10;
const LPM_TRIE: u32 = 11;
const RINGBUF: u32 = 27;
/// `BPF_F_NO_PREALLOC`; the kernel makes no trie without it.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// The maps that are the program's own: where it leaves what it read, what it writes, and its constants.
const SCRATCH: [&str; 5] = ["SCRATCH", "MESSAGE", "DRAFT", "ANSWERED", ".rodata"];

#[derive(PartialEq, Eq, Debug)]
struct Shape {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

fn shape<K, V>(kind: u32, entries: u32) -> Shape {
    let size = |bytes: usize| u32::try_from(bytes).expect("a small type");
    let trie = kind == LPM_TRIE;
    Shape {
        kind,
        // A trie's key starts with the prefix length.
        key: size(size_of::<K>()) + if trie { 4 } else { 0 },
        value: size(size_of::<V>()),
        entries,
        flags: if trie { NO_PREALLOC } else { 0 },
    }
}

fn declared() -> Vec<(&'static str, Shape)> {
    let count = |n: usize| u32::try_from(n).expect("a small number");
    vec![
        (
            abi::MAP_CONFIG,
            Shape {
                flags: MMAPABLE,
                ..shape::<u32, Config>(ARRAY, 1)
            },
        ),
        (abi::MAP_PORT_ROLES, shape::<u32, PortRole>(ARRAY, 65_536)),
        (
            abi::MAP_PREFILTER,
            Shape {
                flags: MMAPABLE,
                ..shape::<u32, Line>(ARRAY, abi::LEAST_ENTRIES)
            },
        ),
        (abi::MAP_HOSTS_V4, shape::<u32, Policy>(HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_HOSTS_V6, shape::<Address, Policy>(HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_NETS_V4, shape::<u32, Policy>(LPM_TRIE, abi::MAX_ENTRIES)),
        (abi::MAP_NETS_V6, shape::<Address, Policy>(LPM_TRIE, abi::MAX_ENTRIES)),
        (abi::MAP_PORTS, shape::<PortKey, u32>(HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_FLOWS, shape::<FlowKey, Flow>(LRU_HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_PEERS, shape::<Address, u64>(LRU_HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_BANS, shape::<Address, Ban>(LRU_HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_PUNT_RATE, shape::<RateKey, Bucket>(LRU_PERCPU_HASH, abi::LEAST_ENTRIES)),
        (abi::MAP_LANES, shape::<u32, Bucket>(PERCPU_ARRAY, count(LANES))),
        (
            abi::MAP_GATEWAY_STATS,
            Shape {
                flags: MMAPABLE,
                ..shape::<u32, GatewayStats>(ARRAY, abi::LEAST_ENTRIES)
            },
        ),
        (abi::MAP_STATS, shape::<u32, Count>(PERCPU_ARRAY, count(Reason::COUNT))),
        // A ring buffer has neither keys nor values; its entries are its bytes.
        (abi::MAP_EVENTS, shape::<(), ()>(RINGBUF, abi::EVENTS_BYTES)),
        (abi::MAP_LANE_STATS, shape::<u32, LaneStats>(PERCPU_ARRAY, count(LANES))),
        (abi::MAP_CHALLENGE, shape::<u32, Challenge>(ARRAY, 1)),
        (abi::MAP_CALLERS, shape::<FlowKey, Caller>(LRU_HASH, abi::CALLERS)),
        (
            abi::MAP_NONCES,
            Shape {
                flags: MMAPABLE,
                ..shape::<u32, Slot>(ARRAY, proof::SLOTS)
            },
        ),
        (abi::MAP_EVENT_STATS, shape::<u32, EventBudget>(PERCPU_ARRAY, 1)),
    ]
}

fn parsed() -> Object {
    Object::parse(OBJECT).expect("a BPF object")
}

#[test]
fn every_map_is_in_the_object_and_no_other() {
    let object = parsed();
    let found: BTreeSet<&str> = object.maps.keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = abi::MAPS.into_iter().chain(SCRATCH).collect();
    assert_eq!(found, wanted);
    assert_eq!(wanted.len(), abi::MAPS.len() + SCRATCH.len(), "a name stands twice in abi::MAPS");
}

#[test]
fn every_map_has_the_shape_that_is_declared() {
    let object = parsed();
    let declared = declared();
    let names: BTreeSet<&str> = declared.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, BTreeSet::from(abi::MAPS), "this test knows every map");
    for (name, wanted) in declared {
        let map = &object.maps[name];
        let found = Shape {
            kind: map.map_type(),
            key: map.key_size(),
            value: map.value_size(),
            entries: map.max_entries(),
            flags: map.map_flags(),
        };
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn the_object_pins_nothing_by_itself() {
    // Where a map is pinned is the agent's decision (`--bpffs`); those of SCRATCH are pinned nowhere.
    for (name, map) in &parsed().maps {
        assert!(matches!(map.pinning(), PinningType::None), "{name}");
    }
}

#[test]
fn every_program_is_in_the_object_and_no_other() {
    let object = parsed();
    let found: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
    let wanted = BTreeSet::from([abi::PROGRAM_INGRESS, abi::PROGRAM_INGRESS_FRAGS, abi::PROGRAM_EGRESS]);
    assert_eq!(found, wanted);
    let section = |name: &str| &object.programs[name].section;
    assert!(matches!(section(abi::PROGRAM_INGRESS), ProgramSection::Xdp { frags: false, .. }));
    assert!(matches!(
        section(abi::PROGRAM_INGRESS_FRAGS),
        ProgramSection::Xdp { frags: true, .. }
    ));
    assert!(matches!(section(abi::PROGRAM_EGRESS), ProgramSection::SchedClassifier));
}

#[test]
fn the_kernel_takes_the_licence_for_gpl_compatible() {
    // `license_is_gpl_compatible`, linux/license.h.
    let compatible = [
        "GPL",
        "GPL v2",
        "GPL and additional rights",
        "Dual BSD/GPL",
        "Dual MIT/GPL",
        "Dual MPL/GPL",
    ];
    let object = parsed();
    for licence in std::iter::once(&object.license).chain(object.programs.values().map(|program| &program.license)) {
        let licence = licence.to_str().expect("text");
        assert!(compatible.contains(&licence), "{licence}");
    }
}

/// Symbols that are there only where something can panic.
fn panics(file: &[u8]) -> Vec<String> {
    let file = object::File::parse(file).expect("an ELF file");
    let names: Vec<String> = file.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect();
    assert!(names.iter().any(|name| !name.is_empty()), "no symbols: nothing can be said");
    names.into_iter().filter(|name| name.contains("panicking")).collect()
}

#[test]
fn nothing_in_the_object_can_panic() {
    assert_eq!(panics(OBJECT), Vec::<String>::new());
    // This test can, and the same look at it says so.
    let test = std::fs::read(std::env::current_exe().expect("a path")).expect("a file");
    assert!(!panics(&test).is_empty());
}
