//! The agent's side of the prefilter (`sipauth_common::prefilter`): sets bits before it writes entries, and fills the table anew when it
//! has too many old bits or too few lines.
//!
//! A table is filled anew beside the one in force. From when it is announced as the next one everybody sets bits in both; whoever
//! did not know of it yet has written his entry before the maps are walked. So no entry can be missed.

mod fill;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sipauth_common::{
    abi,
    address::Address,
    policy::Policy,
    prefilter::{self, Bits, CURRENT, Header, LINE_WORDS, NEXT, Possible, SEED, SetBits, Table, WIDE_LINES},
};

pub use fill::Fill;

use super::{DatapathError, Maps, memory::Words};

/// Bits of a table for an entry: between this and twice as many. Of strangers some 2 % are then looked up.
const BITS_PER_ENTRY: usize = 12;
/// Fewest lines of a table: 4 KiB.
const MIN_LINES: u32 = 64;
/// Percent of bits set from which on the table is filled anew: it has too few lines, or many bits are old.
const FULL: u64 = 35;
/// A table is filled anew after this time anyway, since bits of peers and bans that are over stay.
const RENEWAL: Duration = Duration::from_secs(600);
/// Programs on their way have ended after this, where the kernel cannot tell; they take microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, DatapathError>;

/// The map, in this process's memory.
pub(super) struct Prefilter {
    words: Words,
    lines: u32,
    /// Held for reading from before bits are set until the entry is written.
    entering: RwLock<()>,
    filled: Mutex<Filled>,
}

/// When the table was last filled anew, and how many of its bits were set then.
struct Filled {
    at: Instant,
    set: u64,
    /// It is filled anew when somebody says so, not before.
    suspended: bool,
}

impl Prefilter {
    /// Maps the array `map` of `lines` lines.
    pub(super) fn of(map: &OwnedFd, lines: u32) -> io::Result<Self> {
        let words = Words::of(map, lines as usize * LINE_WORDS)?;
        let prefilter = Self {
            words,
            lines,
            entering: RwLock::default(),
            filled: Mutex::new(Filled {
                at: Instant::now(),
                set: 0,
                suspended: false,
            }),
        };
        if prefilter.at(0, SEED).load(Ordering::SeqCst) == 0 {
            let mut seed = [0; 8];
            File::open("/dev/urandom")?.read_exact(&mut seed)?;
            prefilter.at(0, SEED).store(u64::from_le_bytes(seed) | 1, Ordering::SeqCst);
        }
        Ok(prefilter)
    }

    fn at(&self, line: u32, word: usize) -> &AtomicU64 {
        let index = line.min(self.lines - 1) as usize * LINE_WORDS + word % LINE_WORDS;
        &self.words.as_ref()[index]
    }

    /// Sets the bits of a single address. What the caller does while he has the answer is not missed.
    pub(super) fn enter(&self, address: &Address) -> RwLockReadGuard<'_, ()> {
        let entering = self.entering.read().unwrap_or_else(PoisonError::into_inner);
        prefilter::set(self, address);
        entering
    }

    /// Likewise of many.
    pub(super) fn enter_all<'a>(&self, addresses: impl Iterator<Item = &'a Address>) -> RwLockReadGuard<'_, ()> {
        let entering = self.entering.read().unwrap_or_else(PoisonError::into_inner);
        addresses.for_each(|address| prefilter::set(self, address));
        entering
    }

    /// Likewise of a prefix.
    pub(super) fn enter_net(&self, network: &Address, prefix: u8) -> RwLockReadGuard<'_, ()> {
        let entering = self.entering.read().unwrap_or_else(PoisonError::into_inner);
        let header = self.header();
        for (word, table) in [(CURRENT, header.current), (NEXT, header.next)] {
            let bit = prefilter::set_net(self, table, network, prefix);
            if table.exists() {
                self.set(0, word, bit);
            }
        }
        entering
    }

    /// What may be found of an address, as the kernel program sees it.
    pub(super) fn possible(&self, address: &Address) -> Possible {
        // The table that is in force now is not cleared while this looks into it.
        let _entering = self.entering.read().unwrap_or_else(PoisonError::into_inner);
        prefilter::possible(self, address)
    }

    /// The table in force: bits that it has, and how many of them are set.
    fn bits(&self) -> Option<(u64, u64)> {
        let table = self.header().current;
        let set = self.words(table)?.map(|word| u64::from(word.count_ones())).sum();
        Some((u64::from(table.lines()) * 64 * LINE_WORDS as u64, set))
    }

    /// The words of a table that have bits; `None` where there is no table.
    fn words(&self, table: Table) -> Option<impl Iterator<Item = u64>> {
        let from = table.base() + WIDE_LINES;
        let lines = table.exists().then(|| from..from + table.lines())?;
        Some(lines.flat_map(move |line| (0..LINE_WORDS).map(move |word| self.word(line, word))))
    }

    /// Most lines for bits that a table can have.
    const fn room(&self) -> u32 {
        let half = (self.lines - 1) / 2;
        let lines = half.saturating_sub(WIDE_LINES);
        if lines == 0 { 0 } else { 1 << lines.ilog2() }
    }

    /// Makes the next table: empty, and known to everybody who writes entries when this returns.
    fn announce(&self, entries: usize) -> Option<Table> {
        let room = self.room();
        if room == 0 {
            return None;
        }
        let lines = table_lines(entries).min(room);
        let current = self.header().current;
        let base = if current.base() == 1 { 1 + WIDE_LINES + room } else { 1 };
        self.tell(NEXT, 0);
        // Until here someone may look into the table that was in force before, or set bits in one that an agent did not finish.
        settle();
        for line in base..base + WIDE_LINES + lines {
            for word in 0..LINE_WORDS {
                self.at(line, word).store(0, Ordering::Relaxed);
            }
        }
        let table = Table::new(base, lines);
        self.tell(NEXT, table.0);
        settle();
        Some(table)
    }

    /// Puts the next table in force.
    fn switch(&self) {
        let _entering = self.entering.write().unwrap_or_else(PoisonError::into_inner);
        let table = self.at(0, NEXT).load(Ordering::SeqCst);
        self.at(0, CURRENT).store(table, Ordering::SeqCst);
        self.at(0, NEXT).store(0, Ordering::SeqCst);
    }

    /// Writes a word of the header; nobody of this process writes an entry meanwhile.
    fn tell(&self, word: usize, value: u64) {
        let _entering = self.entering.write().unwrap_or_else(PoisonError::into_inner);
        self.at(0, word).store(value, Ordering::SeqCst);
    }
}

impl Bits for Prefilter {
    fn header(&self) -> Header {
        let word = |word| self.at(0, word).load(Ordering::SeqCst);
        Header::new(word(CURRENT), word(NEXT), word(SEED))
    }

    fn word(&self, line: u32, word: usize) -> u64 {
        self.at(line, word).load(Ordering::Relaxed)
    }
}

impl SetBits for Prefilter {
    fn set(&self, line: u32, word: usize, bits: u64) {
        self.at(line, word).fetch_or(bits, Ordering::SeqCst);
    }
}

/// Lines for bits of a table that is to have so many entries.
fn table_lines(entries: usize) -> u32 {
    let wanted = (entries * BITS_PER_ENTRY).div_ceil(64 * LINE_WORDS).next_power_of_two();
    u32::try_from(wanted)
        .unwrap_or(prefilter::MAX_LINES)
        .clamp(MIN_LINES, prefilter::MAX_LINES)
}

/// Entries of the map for hosts, bans and peers, and blocks that prefixes touch, of so many.
#[must_use]
pub(super) fn prefilter_lines(entries: usize) -> u32 {
    (1 + 2 * (WIDE_LINES + table_lines(entries))).min(abi::MAX_ENTRIES)
}

/// Waits until every program that runs now has ended.
fn settle() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no pointers. The kernel waits for an RCU grace period (`synchronize_rcu`, 4.3), and programs run within RCU.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } != 0 {
        std::thread::sleep(PATIENCE);
    }
}

/// What the prefilter knows.
enum Source {
    /// A host, a ban, a peer.
    Single(Address),
    /// A prefix, its length in bits of the 16-byte address.
    Net(Address, u8),
}

impl Source {
    /// In how many places it sets bits, about.
    fn blocks(&self) -> usize {
        match *self {
            Self::Single(_) => 1,
            Self::Net(network, prefix) => prefilter::blocks(&network, prefix),
        }
    }
}

impl Maps {
    /// Fills the prefilter anew: without the bits of what is gone, and as large as what is there wants it. Meanwhile the one that is
    /// there goes on, and entries can be written.
    ///
    /// # Errors
    /// The kernel's answer. The prefilter is as it was then.
    pub fn renew_prefilter(&self) -> Result<()> {
        let mut filled = self.prefilter.filled.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill_anew(&mut filled)
    }

    fn fill_anew(&self, filled: &mut Filled) -> Result<()> {
        let mut entries = 0;
        self.visit_sources(|source| entries += source.blocks())?;
        let Some(table) = self.prefilter.announce(entries) else {
            return Ok(());
        };
        self.visit_sources(|source| match source {
            Source::Single(address) => prefilter::set_single(&self.prefilter, table, &address),
            Source::Net(network, prefix) => {
                let bit = prefilter::set_net(&self.prefilter, table, &network, prefix);
                self.prefilter.set(0, NEXT, bit);
            }
        })?;
        self.prefilter.switch();
        *filled = Filled {
            at: Instant::now(),
            set: self.prefilter.bits().map_or(0, |(_, set)| set),
            suspended: false,
        };
        Ok(())
    }

    /// Has the prefilter rule out nobody until [`Self::renew_prefilter`]: while maps are replaced that have entries which it does not know.
    pub fn suspend_prefilter(&self) {
        let mut filled = self.prefilter.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.suspended = true;
        self.prefilter.tell(CURRENT, 0);
        self.prefilter.tell(NEXT, 0);
    }

    /// Shows what the prefilter is to know. What is there all the time is shown, what comes or goes meanwhile may be.
    fn visit_sources(&self, mut see: impl FnMut(Source)) -> Result<()> {
        let single = |see: &mut dyn FnMut(Source), address: &Address| see(Source::Single(*address));
        self.visit(abi::MAP_HOSTS_V4, |word: &u32, _: &Policy| {
            single(&mut see, &Address::from_v4(*word));
        })?;
        self.visit(abi::MAP_HOSTS_V6, |address: &Address, _: &Policy| single(&mut see, address))?;
        self.visit_bans(|address, _| single(&mut see, address))?;
        self.visit_peers(|address, _| single(&mut see, address))?;
        for (network, prefix, _) in self.nets()? {
            see(Source::Net(network, prefix));
        }
        Ok(())
    }

    /// [`Self::renew_prefilter`], if it is time; whether it was.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn keep_prefilter(&self) -> Result<bool> {
        // Held to the end: it must not come into force again while it is suspended.
        let mut filled = self.prefilter.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let full = match self.prefilter.bits() {
            // Where it is as large as it can be and full of what is there, another one would be no better.
            Some((bits, set)) if set * 100 > bits * FULL => set > filled.set + filled.set / 4 || self.prefilter_is_small()?,
            Some(_) => false,
            None => true,
        };
        let due = !filled.suspended && (full || filled.at.elapsed() > RENEWAL);
        if due {
            self.fill_anew(&mut filled)?;
        }
        Ok(due)
    }

    /// Whether there is more than the table was made for, and a larger one can be had: much may have come while it was filled.
    fn prefilter_is_small(&self) -> Result<bool> {
        let (lines, room) = (self.prefilter.header().current.lines(), self.prefilter.room());
        if lines >= room {
            return Ok(false);
        }
        let mut entries = 0;
        self.visit_sources(|source| entries += source.blocks())?;
        Ok(table_lines(entries).min(room) > lines)
    }

    /// Whether there is a table.
    pub(super) fn has_prefilter(&self) -> bool {
        self.prefilter.header().current.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_room_for_two_tables_of_the_size_that_is_needed() {
        assert_eq!(table_lines(0), MIN_LINES);
        assert_eq!(table_lines(10_000), 256);
        assert_eq!(table_lines(1_000_000), 32_768);
        assert_eq!(table_lines(usize::MAX / 1_000), prefilter::MAX_LINES);
        assert_eq!(prefilter_lines(720_000), 1 + 2 * (WIDE_LINES + 32_768));
    }
}
