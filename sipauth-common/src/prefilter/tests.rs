use core::cell::RefCell;
use std::collections::HashSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// The map, as the agent uses it, in memory.
struct Map(RefCell<Vec<Line>>);

impl Map {
    fn new(lines: u32) -> Self {
        let map = Self(RefCell::new(vec![[0; LINE_WORDS]; 1 + 2 * (WIDE_LINES + lines) as usize]));
        map.write(0, SEED, 0x9e37_79b9_7f4a_7c15);
        map.write(0, CURRENT, Table::new(1, lines).0);
        map
    }
    fn write(&self, line: u32, word: usize, value: u64) {
        self.0.borrow_mut()[line as usize][word] = value;
    }
    fn current(&self) -> Table {
        self.header().current
    }
    fn put_net(&self, network: &Address, prefix: u8) {
        for word in [CURRENT, NEXT] {
            let table = Table(self.word(0, word));
            let bit = set_net(self, table, network, prefix);
            if table.exists() {
                self.set(0, word, bit);
            }
        }
    }
    /// The other half of the map, empty.
    fn begin(&self, lines: u32, room: u32) {
        let base = if self.current().base() == 1 { 1 + WIDE_LINES + room } else { 1 };
        for line in base..base + WIDE_LINES + lines {
            self.0.borrow_mut()[line as usize] = [0; LINE_WORDS];
        }
        self.write(0, NEXT, Table::new(base, lines).0);
    }
    fn switch(&self) {
        self.write(0, CURRENT, self.word(0, NEXT));
        self.write(0, NEXT, 0);
    }
}

impl Bits for Map {
    fn header(&self) -> Header {
        Header::new(self.word(0, CURRENT), self.word(0, NEXT), self.word(0, SEED))
    }
    fn word(&self, line: u32, word: usize) -> u64 {
        self.0.borrow()[line as usize][word]
    }
}

impl SetBits for Map {
    fn set(&self, line: u32, word: usize, bits: u64) {
        self.0.borrow_mut()[line as usize][word] |= bits;
    }
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect("an address").into()
}

/// Few bytes, so that prefixes contain addresses, and of both families.
fn addresses() -> impl Strategy<Value = Address> {
    let bytes = prop::array::uniform4(0u8..4);
    (any::<bool>(), bytes.clone(), bytes).prop_map(|(v4, a, b)| {
        if v4 {
            IpAddr::from(a).into()
        } else {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&a);
            octets[0] = 0x20;
            octets[12..].copy_from_slice(&b);
            Address::from_octets(octets)
        }
    })
}

fn prefix_of(address: &Address, length: u8) -> u8 {
    if address.v4().is_some() { 96 + length % 33 } else { length % 129 }
}

#[derive(Clone, Debug)]
enum Op {
    Put(Address),
    PutNet(Address, u8),
    Remove(usize),
    RemoveNet(usize),
    Begin(u32),
    Walk,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => addresses().prop_map(Op::Put),
        3 => (addresses(), any::<u8>()).prop_map(|(at, length)| Op::PutNet(at, prefix_of(&at, length))),
        1 => any::<usize>().prop_map(Op::Remove),
        1 => any::<usize>().prop_map(Op::RemoveNet),
        1 => (0u32..4).prop_map(|n| Op::Begin(1 << n)),
        1 => Just(Op::Walk),
    ];
    prop::collection::vec(op, 1..120)
}

fn contains(net: &(Address, u8), address: &Address) -> bool {
    let v4_net = net.1 >= 96 && net.0.v4().is_some();
    v4_net == address.v4().is_some() && address.network(net.1) == net.0
}

proptest! {
    #[test]
    fn what_is_in_a_map_is_never_ruled_out(ops in ops(), probes in prop::collection::vec(addresses(), 40)) {
        const ROOM: u32 = 8;
        let map = Map::new(ROOM);
        let (mut singles, mut nets) = (Vec::<Address>::new(), Vec::<(Address, u8)>::new());
        let mut walking = false;
        for op in ops {
            match op {
                Op::Put(at) => {
                    set(&map, &at);
                    singles.push(at);
                }
                Op::PutNet(at, prefix) => {
                    map.put_net(&at.network(prefix), prefix);
                    nets.push((at.network(prefix), prefix));
                }
                Op::Remove(n) => if !singles.is_empty() { singles.swap_remove(n % singles.len()); },
                Op::RemoveNet(n) => if !nets.is_empty() { nets.swap_remove(n % nets.len()); },
                Op::Begin(lines) => {
                    map.begin(lines, ROOM);
                    walking = true;
                }
                Op::Walk => if walking {
                    let next = map.header().next;
                    for at in &singles {
                        set_single(&map, next, at);
                    }
                    for (at, prefix) in &nets {
                        let bit = set_net(&map, next, at, *prefix);
                        map.set(0, NEXT, bit);
                    }
                    map.switch();
                    walking = false;
                },
            }
            for at in probes.iter().chain(&singles) {
                let possible = possible(&map, at);
                prop_assert!(possible.single || !singles.contains(at), "{:?}", IpAddr::from(*at));
                let in_net = nets.iter().any(|net| contains(net, at));
                prop_assert!(possible.net || !in_net, "{:?} in {nets:?}", IpAddr::from(*at));
            }
        }
    }
}

#[test]
fn strangers_are_ruled_out() {
    // A table of 16 bits an entry; what is asked is far more than what is in it.
    let map = Map::new(128);
    let mut inside = HashSet::new();
    for n in 0..4_096u32 {
        let at = if n % 2 == 0 {
            Address::from_v4(0x0a00_0000 | (n * 7))
        } else {
            Address([0x0db8_0120, n, 0, 1])
        };
        set(&map, &at);
        inside.insert(at);
    }
    for probe in [
        |n: u32| Address::from_v4(n.wrapping_mul(2_654_435_761)),
        |n: u32| Address::from_v4((0xc000_0000u32 + n).to_be()),
        |n: u32| Address([0x0db8_0120, 0, n, 2]),
        |n: u32| Address([n.wrapping_mul(40_503), 0, 0, 1]),
    ] {
        let asked: Vec<Address> = (0..100_000).map(probe).filter(|at| !inside.contains(at)).collect();
        let found = asked.iter().filter(|at| possible(&map, at).single).count();
        assert!(found < asked.len() / 25, "{found} of {}", asked.len());
        assert!(asked.iter().all(|at| !possible(&map, at).net), "there are no prefixes");
    }
    assert!(inside.iter().all(|at| possible(&map, at).single));
}

#[test]
fn a_prefix_makes_its_own_surroundings_possible_and_no_others() {
    for (network, prefix, inside, outside) in [
        ("198.51.100.64", 96 + 26, "198.51.100.70", "198.51.101.70"),
        ("198.51.96.0", 96 + 21, "198.51.103.255", "198.51.104.0"),
        ("198.48.0.0", 96 + 12, "198.63.255.255", "199.48.0.0"),
        ("192.0.0.0", 96 + 3, "223.1.1.1", "224.1.1.1"),
        ("2001:db8:5::", 48, "2001:db8:5:6::1", "2001:db9::1"),
        ("2001:d80::", 26, "2001:db8::1", "2001:e00::1"),
        ("2000::", 3, "3fff::1", "4000::1"),
    ] {
        let map = Map::new(64);
        assert!(!possible(&map, &address(inside)).net, "{network}: before");
        map.put_net(&address(network), prefix);
        assert!(possible(&map, &address(inside)).net, "{network}: inside");
        assert!(possible(&map, &address(network)).net, "{network}: itself");
        assert!(!possible(&map, &address(outside)).net, "{network}: outside");
        let other = if prefix >= 96 { "2001:db8::1" } else { "32.1.13.184" };
        assert!(!possible(&map, &address(other)).net, "{network}: the other family");
    }
}

#[test]
fn without_a_table_nothing_is_ruled_out() {
    let map = Map::new(8);
    assert!(!possible(&map, &address("203.0.113.1")).single);
    map.write(0, CURRENT, 0);
    assert_eq!(possible(&map, &address("203.0.113.1")), Possible::ALL);
}
