//! Runs a program of the object without a kernel, to count what it executes: the same on every machine, and without privileges.
//!
//! It knows the instructions and helpers that our programs use, and nothing of safety: what it runs is what the kernel's verifier accepts (ring `kernel`).
//! Maps are tables of bytes. A helper counts as a single instruction, as each look-up in a hash or a trie is counted apart.
#![allow(
    clippy::cast_possible_truncation,
    reason = "registers have 64 bits, and instructions take parts of them"
)]

use std::collections::{HashMap, HashSet};

use aya_obj::{Object, generated::bpf_insn};

const FRAME: usize = 512;
/// No path of ours is longer.
const MOST: u32 = 100_000;

// `enum bpf_map_type`, linux/bpf.h.
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LPM_TRIE: u32 = 11;

/// What a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ran {
    pub(crate) verdict: u64,
    pub(crate) instructions: u32,
    /// In hashes and tries.
    pub(crate) lookups: u32,
}

struct Table {
    kind: u32,
    value: usize,
    entries: HashMap<Vec<u8>, Box<[u8]>>,
}

pub(crate) struct Machine {
    code: Vec<bpf_insn>,
    maps: Vec<Table>,
    names: HashMap<String, usize>,
}

impl Machine {
    /// A program with empty maps; arrays are zero.
    pub(crate) fn new(object: &[u8], program: &str) -> Self {
        let mut object = Object::parse(object).expect("a BPF object");
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let mut maps = Vec::new();
        let mut names = HashMap::new();
        let declared: Vec<_> = object.maps.iter().map(|(name, map)| (name.clone(), map.clone())).collect();
        for (name, map) in &declared {
            names.insert(name.clone(), maps.len());
            // Constants are a map of one entry.
            let constants = (!map.data().is_empty()).then(|| (0u32.to_ne_bytes().to_vec(), map.data().into()));
            maps.push(Table {
                kind: map.map_type(),
                value: map.value_size() as usize,
                entries: constants.into_iter().collect(),
            });
        }
        let handles = declared
            .iter()
            .map(|(name, map)| (name.as_str(), i32::try_from(names[name]).expect("few maps"), map));
        object.relocate_maps(handles, &sections).expect("maps");
        object.relocate_calls(&sections).expect("calls");
        let key = object.programs[program].function_key();
        let code = object.functions[&key].instructions.clone();
        Self { code, maps, names }
    }

    /// Writes an entry; `key` as the program writes it, of a trie with the length of the prefix.
    pub(crate) fn put(&mut self, map: &str, key: &[u8], value: &[u8]) {
        let table = &mut self.maps[self.names[map]];
        assert_eq!(value.len(), table.value, "{map}: the value's size");
        table.entries.insert(key.to_vec(), value.into());
    }

    /// The element of an array.
    pub(crate) fn element(&mut self, map: &str, index: u32) -> &mut [u8] {
        let table = &mut self.maps[self.names[map]];
        let value = table.value;
        table
            .entries
            .entry(index.to_ne_bytes().to_vec())
            .or_insert_with(|| vec![0; value].into_boxed_slice())
    }

    /// Runs an XDP program on a frame.
    pub(crate) fn xdp(&mut self, frame: &[u8]) -> Ran {
        let mut frame = frame.to_vec();
        let data = frame.as_mut_ptr() as u64;
        let context = [data, data + frame.len() as u64];
        let mut stacks: Vec<Box<[u64]>> = Vec::new();
        let mut callers: Vec<(usize, [u64; 5])> = Vec::new();
        let mut r = [0u64; 11];
        r[1] = context.as_ptr() as u64;
        let mut stack = || {
            stacks.push(vec![0; FRAME / 8].into_boxed_slice());
            stacks.last().map_or(0, |stack| stack.as_ptr_range().end as u64)
        };
        r[10] = stack();
        let (mut pc, mut instructions, mut lookups) = (0, 0, 0);
        loop {
            let at = self.code[pc];
            instructions += 1;
            assert!(instructions < MOST, "the program does not end");
            let (dst, src) = (usize::from(at.dst_reg()), usize::from(at.src_reg()));
            let (imm, off) = (i64::from(at.imm) as u64, i64::from(at.off) as u64);
            pc += 1;
            let operand = if at.code & 8 != 0 { r[src] } else { imm };
            match at.code & 7 {
                0 => {
                    let high = self.code[pc].imm;
                    r[dst] = match src {
                        // `BPF_PSEUDO_MAP_VALUE`: an address in a constant.
                        2 => self.constant(at.imm).wrapping_add(u64::from(high as u32)),
                        // `BPF_PSEUDO_MAP_FD`, the number that `new` gave the map, or a plain value.
                        _ => u64::from(at.imm as u32) | (high as u64) << 32,
                    };
                    pc += 1;
                }
                1 => {
                    let from = r[src].wrapping_add(off);
                    // The kernel rewrites these loads: the fields have 32 bits, what they say has 64.
                    let field = from.wrapping_sub(context.as_ptr() as u64);
                    r[dst] = match field {
                        0 | 4 => context[field as usize / 4],
                        _ => load(from, at.code),
                    };
                }
                2 => store(r[dst].wrapping_add(off), at.code, imm),
                3 if at.code & 0xe0 == 0xc0 => {
                    let to = r[dst].wrapping_add(off);
                    let old = load(to, at.code);
                    let new = match at.imm {
                        0 => old.wrapping_add(r[src]),
                        0x40 => old | r[src],
                        other => panic!("an atomic instruction that this machine does not know: {other:#x}"),
                    };
                    store(to, at.code, new);
                }
                3 => store(r[dst].wrapping_add(off), at.code, r[src]),
                4 if at.code & 0xf0 == 0xd0 => r[dst] = swap(r[dst], at.code & 8 != 0, at.imm),
                4 => r[dst] = u64::from(alu32(at.code, r[dst] as u32, operand as u32)),
                7 => r[dst] = alu64(at.code, r[dst], operand),
                5 if at.code & 0xf0 == 0x80 && src == 1 => {
                    callers.push((pc, [r[6], r[7], r[8], r[9], r[10]]));
                    pc = jump(pc, i64::from(at.imm));
                    r[10] = stack();
                }
                5 if at.code & 0xf0 == 0x80 => r[0] = self.helper(at.imm, &r, &mut lookups),
                5 if at.code & 0xf0 == 0x90 => {
                    let Some((back, kept)) = callers.pop() else {
                        return Ran {
                            verdict: r[0],
                            instructions,
                            lookups,
                        };
                    };
                    pc = back;
                    r[6..].copy_from_slice(&kept);
                }
                class => {
                    let wide = class == 5;
                    let (a, b) = if wide { (r[dst], operand) } else { (sign(r[dst]), sign(operand)) };
                    // Sign-extended numbers compare as the 32-bit ones do, with and without sign.
                    if taken(at.code, a, b) {
                        pc = jump(pc, i64::from(at.off));
                    }
                }
            }
        }
    }

    fn constant(&self, map: i32) -> u64 {
        let entries = &self.maps[map as usize].entries;
        entries.get(&0u32.to_ne_bytes()[..]).expect("a constant").as_ptr() as u64
    }

    fn helper(&mut self, number: i32, r: &[u64; 11], lookups: &mut u32) -> u64 {
        match number {
            1 => {
                let table = &mut self.maps[r[1] as usize];
                table.find(r[2], lookups)
            }
            // bpf_ktime_get_ns
            5 => 1_000_000_000_000,
            // bpf_map_update_elem, bpf_probe_read_kernel: what they do is not looked at afterwards.
            2 | 113 => 0,
            // bpf_ringbuf_reserve: full.
            131 => 0,
            other => panic!("a helper that this machine does not know: {other}"),
        }
    }
}

impl Table {
    /// `bpf_map_lookup_elem`.
    fn find(&mut self, key: u64, lookups: &mut u32) -> u64 {
        let bytes = |len| {
            // SAFETY: the program's key, which the verifier knows to be there.
            unsafe { std::slice::from_raw_parts(key as *const u8, len) }
        };
        if matches!(self.kind, ARRAY | PERCPU_ARRAY) {
            let value = self.value;
            let entry = self
                .entries
                .entry(bytes(4).to_vec())
                .or_insert_with(|| vec![0; value].into_boxed_slice());
            return entry.as_mut_ptr() as u64;
        }
        *lookups += 1;
        let found = self.entries.iter_mut().find(|(present, _)| {
            let wanted = bytes(present.len());
            if self.kind != LPM_TRIE {
                return wanted == present.as_slice();
            }
            // Whole bytes are enough for tests.
            let whole = present[0] as usize / 8;
            wanted[4..4 + whole] == present[4..4 + whole]
        });
        found.map_or(0, |(_, value)| value.as_mut_ptr() as u64)
    }
}

fn jump(pc: usize, by: i64) -> usize {
    pc.checked_add_signed(by as isize).expect("within the program")
}

const fn sign(value: u64) -> u64 {
    value as i32 as i64 as u64
}

fn load(from: u64, code: u8) -> u64 {
    // SAFETY: an address that the program computed, as the verifier allows.
    unsafe {
        match code & 0x18 {
            0x00 => u64::from((from as *const u32).read_unaligned()),
            0x08 => u64::from((from as *const u16).read_unaligned()),
            0x10 => u64::from((from as *const u8).read()),
            _ => (from as *const u64).read_unaligned(),
        }
    }
}

fn store(to: u64, code: u8, value: u64) {
    // SAFETY: as in `load`.
    unsafe {
        match code & 0x18 {
            0x00 => (to as *mut u32).write_unaligned(value as u32),
            0x08 => (to as *mut u16).write_unaligned(value as u16),
            0x10 => (to as *mut u8).write(value as u8),
            _ => (to as *mut u64).write_unaligned(value),
        }
    }
}

fn swap(value: u64, to_big: bool, bits: i32) -> u64 {
    match (bits, to_big) {
        (16, true) => u64::from((value as u16).swap_bytes()),
        (32, true) => u64::from((value as u32).swap_bytes()),
        (64, true) => value.swap_bytes(),
        (16, false) => u64::from(value as u16),
        (32, false) => u64::from(value as u32),
        _ => value,
    }
}

fn alu64(code: u8, a: u64, b: u64) -> u64 {
    match code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << (b & 63),
        0x70 => a >> (b & 63),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 => ((a as i64) >> (b & 63)) as u64,
        other => panic!("no such operation: {other:#x}"),
    }
}

fn alu32(code: u8, a: u32, b: u32) -> u32 {
    match code & 0xf0 {
        0x60 => a << (b & 31),
        0x70 => a >> (b & 31),
        0xc0 => ((a as i32) >> (b & 31)) as u32,
        // The lower half of these does not depend on the upper.
        _ => alu64(code, u64::from(a), u64::from(b)) as u32,
    }
}

fn taken(code: u8, a: u64, b: u64) -> bool {
    let (x, y) = (a as i64, b as i64);
    match code & 0xf0 {
        0x00 => true,
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => x > y,
        0x70 => x >= y,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => x < y,
        0xd0 => x <= y,
        other => panic!("no such jump: {other:#x}"),
    }
}
