//! The prefilter: a few bits an entry, so that a packet from an address that no map knows is told from the others by one or two loads.
//!
//! It stands in front of `HOSTS_*`, `NETS_*`, `BANS` and `PEERS`. A clear bit says that the address is in none of them; set bits say
//! nothing, the maps are asked then. So a bit may be late in going, never late in coming: whoever writes an entry sets its bits first.
//!
//! The map `PREFILTER` is an array of [`Line`]s. The first is the header: [`CURRENT`], [`NEXT`] and [`SEED`]. What follows are two
//! tables, of which one is in force; the agent fills the other one anew to be rid of old bits, or to have more or fewer lines (see
//! [`set`]). A table begins with [`WIDE_LINES`] lines, 256 bits for the first byte of an address of either family, in which
//! prefixes are that are too short for anything else. Its bits stand in lines behind these, whose number is a power of two.
//!
//! A single address, or a block ([`BLOCK_V4`], [`BLOCK_V6`]) that a prefix touches, is three bits in one word. Which, depends on a
//! secret: an attacker cannot find addresses that meet the bits of others.

use crate::address::Address;

/// Words of a line, which is as long as a line of the processor's cache.
pub const LINE_WORDS: usize = 8;
/// Element of `PREFILTER`.
pub type Line = [u64; LINE_WORDS];

/// Word of the header: [`Table`] in force; 0 for none, and then nothing can be ruled out.
pub const CURRENT: usize = 0;
/// Word of the header: [`Table`] that is being filled; 0 for none. Whoever sets bits sets them there, too.
pub const NEXT: usize = 1;
/// Word of the header: the secret, odd; the same as long as the map lives.
pub const SEED: usize = 2;

/// Lines at the begin of a table for prefixes that are shorter than [`WIDE_V4`] or [`WIDE_V6`], by first byte: of IPv4 in the first,
/// of IPv6 in the second.
pub const WIDE_LINES: u32 = 2;
/// Most lines that a table can have for bits.
pub const MAX_LINES: u32 = 1 << 24;

/// Length of an IPv4 block, in bits of the 16-byte address.
pub const BLOCK_V4: u8 = 96 + 24;
/// Length of an IPv6 block.
pub const BLOCK_V6: u8 = 32;
/// A shorter IPv4 prefix would be too many blocks.
pub const WIDE_V4: u8 = 96 + 16;
/// Likewise of IPv6.
pub const WIDE_V6: u8 = 24;

/// Where a table is, and whether it has prefixes: what [`CURRENT`] and [`NEXT`] hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table(pub u64);

impl Table {
    /// Bit: an IPv4 prefix is in the table.
    pub const NETS_V4: u64 = 1 << 63;
    /// Bit: an IPv6 prefix is in the table.
    pub const NETS_V6: u64 = 1 << 62;

    /// A table at line `base` of the map, with `lines` for bits; a power of two.
    #[inline(always)]
    #[must_use]
    pub const fn new(base: u32, lines: u32) -> Self {
        Self((base as u64) << 32 | (lines - 1) as u64)
    }

    /// Whether there is one.
    #[inline(always)]
    #[must_use]
    pub const fn exists(self) -> bool {
        self.0 != 0
    }

    /// Its first line.
    #[inline(always)]
    #[must_use]
    pub const fn base(self) -> u32 {
        (self.0 >> 32) as u32 & 0x3fff_ffff
    }

    /// How many lines it has for bits.
    #[inline(always)]
    #[must_use]
    pub const fn lines(self) -> u32 {
        self.mask() + 1
    }

    #[inline(always)]
    const fn mask(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The bit that says that there are prefixes of the family of `address`.
    #[inline(always)]
    const fn nets_bit(v4: bool) -> u64 {
        if v4 { Self::NETS_V4 } else { Self::NETS_V6 }
    }
}

/// What the first line of the map has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// [`CURRENT`].
    pub current: Table,
    /// [`NEXT`].
    pub next: Table,
    /// [`SEED`].
    pub seed: u64,
}

impl Header {
    /// From the words of the line.
    #[inline(always)]
    #[must_use]
    pub const fn new(current: u64, next: u64, seed: u64) -> Self {
        Self {
            current: Table(current),
            next: Table(next),
            seed,
        }
    }
}

/// The map, to look into.
pub trait Bits {
    /// The header; all zero where the map cannot be read.
    fn header(&self) -> Header;
    /// A word of any other line; all bits set where the map cannot be read.
    fn word(&self, line: u32, word: usize) -> u64;
}

/// The map, to set bits in.
pub trait SetBits: Bits {
    /// Sets bits, without losing what others set at the same time.
    fn set(&self, line: u32, word: usize, bits: u64);
}

/// What may be found of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Possible {
    /// The address itself: a host, a ban, a peer.
    pub single: bool,
    /// A prefix that contains it.
    pub net: bool,
}

impl Possible {
    /// Nothing can be ruled out.
    pub const ALL: Self = Self { single: true, net: true };
}

/// What may be found of an address.
#[inline(always)]
#[must_use]
pub fn possible<B: Bits>(bits: &B, address: &Address) -> Possible {
    let Header { current: table, seed, .. } = bits.header();
    if !table.exists() {
        return Possible::ALL;
    }
    let v4 = address.v4();
    let single = is_set(bits, table, Spot::new(single_key(address, v4, seed), seed));
    let net = table.0 & Table::nets_bit(v4.is_some()) != 0
        && (wide_is_set(bits, table, address, v4.is_some()) || is_set(bits, table, Spot::new(block_key(address, v4), seed)));
    Possible { single, net }
}

/// Before an entry of a single address is written: a host, a ban, a peer.
#[inline(always)]
pub fn set<B: SetBits>(bits: &B, address: &Address) {
    let Header { current, next, seed } = bits.header();
    let spot = Spot::new(single_key(address, address.v4(), seed), seed);
    for table in [current, next] {
        set_in(bits, table, spot);
    }
}

/// [`set`] in one table.
#[inline(always)]
pub fn set_single<B: SetBits>(bits: &B, table: Table, address: &Address) {
    let seed = bits.header().seed;
    set_in(bits, table, Spot::new(single_key(address, address.v4(), seed), seed));
}

/// How many blocks a prefix touches: in so many places it sets bits. 0 for a prefix that is too short for blocks.
#[must_use]
pub const fn blocks(network: &Address, prefix: u8) -> usize {
    let v4 = prefix >= 96 && network.v4().is_some();
    let (block, wide) = if v4 { (BLOCK_V4, WIDE_V4) } else { (BLOCK_V6, WIDE_V6) };
    if prefix < wide { 0 } else { 1 << block.saturating_sub(prefix) }
}

/// Sets a prefix in one table but for [`Table::NETS_V4`] and [`Table::NETS_V6`]: the answer is the bit that the caller must set, after this
/// and before the prefix is written. `prefix` counts bits of the 16-byte address.
#[must_use]
pub fn set_net<B: SetBits>(bits: &B, table: Table, network: &Address, prefix: u8) -> u64 {
    let v4 = prefix >= 96 && network.v4().is_some();
    let (block, wide, first) = if v4 { (BLOCK_V4, WIDE_V4, 96) } else { (BLOCK_V6, WIDE_V6, 0) };
    if !table.exists() {
        return Table::nets_bit(v4);
    }
    if prefix < wide {
        let line = if v4 { 0 } else { 1 };
        let from = usize::from(if v4 { network.octets()[12] } else { network.octets()[0] });
        let count = 1usize << 8usize.saturating_sub(usize::from(prefix - first));
        for byte in from..(from + count).min(256) {
            bits.set(table.base() + line, byte / 64, 1 << (byte % 64));
        }
        return Table::nets_bit(v4);
    }
    let seed = bits.header().seed;
    // The last byte of a block's length is whole, so the blocks of a shorter prefix differ in that byte.
    let count = 1u16 << block.saturating_sub(prefix);
    let at = usize::from(block / 8 - 1);
    for offset in 0..count {
        let mut octets = network.octets();
        octets[at] |= offset.to_le_bytes()[0];
        let address = Address::from_octets(octets);
        set_in(
            bits,
            table,
            Spot::new(block_key(&address, if v4 { address.v4() } else { None }), seed),
        );
    }
    Table::nets_bit(v4)
}

/// Three bits of a word.
#[derive(Clone, Copy)]
struct Spot {
    line: u32,
    word: usize,
    bits: u64,
}

impl Spot {
    #[inline(always)]
    const fn new(key: u64, seed: u64) -> Self {
        let hash = mix(key, seed);
        Self {
            line: (hash >> 40) as u32,
            word: (hash >> 37) as usize % LINE_WORDS,
            bits: 1 << ((hash >> 31) & 63) | 1 << ((hash >> 25) & 63) | 1 << ((hash >> 19) & 63),
        }
    }
}

/// A product whose upper bits depend on all bits of `key`, and on an odd number that nobody knows; twice, since the upper bits of
/// one alone would go in steps with addresses that do.
#[inline(always)]
const fn mix(key: u64, seed: u64) -> u64 {
    let once = key.wrapping_mul(seed);
    (once ^ once >> 32).wrapping_mul(seed)
}

#[inline(always)]
const fn single_key(address: &Address, v4: Option<u32>, seed: u64) -> u64 {
    match v4 {
        Some(word) => word as u64 | 1 << 32,
        None => {
            let [a, b, c, d] = address.0;
            mix(a as u64 | (b as u64) << 32, seed) ^ (c as u64 | (d as u64) << 32)
        }
    }
}

/// Of the block that the address is in. Above the 32 bits of it there is another number than in [`single_key`].
#[inline(always)]
const fn block_key(address: &Address, v4: Option<u32>) -> u64 {
    match v4 {
        Some(word) => (word & u32::from_ne_bytes([0xff, 0xff, 0xff, 0])) as u64 | 2 << 32,
        None => address.0[0] as u64 | 3 << 32,
    }
}

#[inline(always)]
fn is_set<B: Bits>(bits: &B, table: Table, spot: Spot) -> bool {
    bits.word(table.base() + WIDE_LINES + (spot.line & table.mask()), spot.word) & spot.bits == spot.bits
}

#[inline(always)]
fn wide_is_set<B: Bits>(bits: &B, table: Table, address: &Address, v4: bool) -> bool {
    let (line, word) = if v4 { (0, address.0[3]) } else { (1, address.0[0]) };
    let byte = u32::from_be(word) >> 24;
    bits.word(table.base() + line, (byte / 64) as usize) >> (byte % 64) & 1 != 0
}

#[inline(always)]
fn set_in<B: SetBits>(bits: &B, table: Table, spot: Spot) {
    if table.exists() {
        bits.set(table.base() + WIDE_LINES + (spot.line & table.mask()), spot.word, spot.bits);
    }
}

#[cfg(test)]
mod tests;
