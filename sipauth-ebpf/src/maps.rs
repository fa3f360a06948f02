//! Every map, and the decision's view of them. Names and sizes are in `sipauth_common::abi`; `DESIGN`-level meaning is there too.
//!
//! Why each is as it is: what every packet asks is an array, whose look-up the kernel writes into the program (two nanoseconds, no
//! call). Hashes and tries are calls, and with many entries each costs a miss of the cache or several, so they are asked only behind
//! [`PREFILTER`]. A refused packet touches eight lines of the cache: its own, and one each of the port's role, the settings, the
//! prefilter's header and word, its reason's counter and the budget of events; with few gateways or many.
//!
//! What is declared with [`LEAST`] gets its size from the agent, which knows how many gateways there are: a hash spreads what it has over all of
//! its buckets, so one that is too large misses the cache for nothing, and its memory is taken whether or not it is used.

use core::{arch::asm, cell::Cell};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, LruPerCpuHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    helpers::generated::bpf_ktime_get_ns,
    macros::btf_map,
};
use sipauth_common::{
    abi,
    address::Address,
    challenge::Challenge,
    config::{Config, LANES as LANE_COUNT, PortRole},
    decide::Lookup,
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::{self, Bits, CURRENT, Header, LINE_WORDS, Line, NEXT, Possible, SEED, SetBits},
    proof::{self, Caller, Slot},
    reason::Reason,
    stats::{Bucket, Count, EventBudget, GatewayStats, LaneStats, RateKey},
};

use crate::{
    challenge::{ANSWERED_SLOTS, Draft, REQUEST_ROOM},
    parse::Parsed,
};

const LEAST: usize = abi::LEAST_ENTRIES as usize;

/// Written by the agent. The heartbeat changes while programs read it: one aligned word, so it is read whole. What a refusal needs is in the
/// first 64 bytes, which are a line (`BPF_F_MMAPABLE` has the array begin on a page).
#[btf_map]
pub(crate) static CONFIG: Array<Config, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
/// Written by the agent. An element a port, so that no port costs a search; 768 KiB, of which SIP uses one line, and other traffic that of
/// its own port.
#[btf_map]
pub(crate) static PORT_ROLES: Array<PortRole, 65_536> = Array::new();
/// Bits set by the agent and by the egress program, whoever writes the entry; asked before anything else about a source. The agent has it
/// in its memory (`BPF_F_MMAPABLE`), so that both set bits by atomic instructions, and a million gateways take no system calls here. An
/// element is a line of the cache, on which it begins: such arrays start on a page. Of its size only what the table in force has is
/// touched, 12 to 24 bits an entry: 32 KiB for 10,000, which the first cache holds, 2 MiB for a million.
#[btf_map]
pub(crate) static PREFILTER: Array<Line, LEAST, { BPF_F_MMAPABLE as usize }> = Array::new();
/// Written by the agent. Filled beforehand (no allocation by a packet or a change can fail), and keyed by the four bytes alone, which hash
/// faster than sixteen.
#[btf_map]
pub(crate) static HOSTS_V4: HashMap<u32, Policy, LEAST> = HashMap::new();
/// Likewise.
#[btf_map]
pub(crate) static HOSTS_V6: HashMap<Address, Policy, LEAST> = HashMap::new();
/// Written by the agent. A trie takes a step a bit where prefixes differ, up to 700 ns with 100,000 of them, so it comes after the exact
/// map, and where the prefilter knows of a prefix near the source. Elements are made one by one: it takes memory for what it has.
#[btf_map]
pub(crate) static NETS_V4: LpmTrie<u32, Policy, { abi::MAX_ENTRIES as usize }> = LpmTrie::new();
/// Likewise.
#[btf_map]
pub(crate) static NETS_V6: LpmTrie<Address, Policy, { abi::MAX_ENTRIES as usize }> = LpmTrie::new();
/// Written by the agent. Asked only of gateways with several ports; the first stands in the policy itself.
#[btf_map]
pub(crate) static PORTS: HashMap<PortKey, u32, LEAST> = HashMap::new();
/// Written by the agent; `seen` also here, see [`Flow`]. The egress program adds connections that the softswitch opens. LRU, since sources
/// fill it: the least recently used is forgotten first. Asked in password mode, and of TCP segments.
#[btf_map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, LEAST> = LruHashMap::new();
/// Written by the egress program, at most once a second for each: to insert is what an LRU map is slow at, and the time need not be
/// finer. The agent only removes.
#[btf_map]
pub(crate) static PEERS: LruHashMap<Address, u64, LEAST> = LruHashMap::new();
/// Written by the agent. LRU, since whoever can send from many addresses can get many banned.
#[btf_map]
pub(crate) static BANS: LruHashMap<Address, Ban, LEAST> = LruHashMap::new();
/// Written by the ingress program, in place; a value is one CPU's own, so that CPUs do not take the line from each other. Only what is
/// for the agent gets here.
#[btf_map]
pub(crate) static PUNT_RATE: LruPerCpuHashMap<RateKey, Bucket, LEAST> = LruPerCpuHashMap::new();
/// Likewise.
#[btf_map]
pub(crate) static LANES: PerCpuArray<Bucket, LANE_COUNT> = PerCpuArray::new();
/// Written by the ingress program with atomic additions; the agent zeroes an entry before its gateway exists. One line a
/// gateway (`BPF_F_MMAPABLE` has it begin on one). Not a CPU's
/// own: that would be the memory of all gateways times all CPUs, and a gateway's packets mostly come by one queue.
#[btf_map]
pub(crate) static GATEWAY_STATS: Array<GatewayStats, LEAST, { BPF_F_MMAPABLE as usize }> = Array::new();
/// Written by the ingress program; a value is one CPU's own. Packets and bytes of a reason stand together.
#[btf_map]
pub(crate) static STATS: PerCpuArray<Count, { Reason::COUNT }> = PerCpuArray::new();
/// Entries of [`sipauth_common::event::Event`], written by the ingress program, read by the agent. libbpf wants a value size of zero here.
#[btf_map]
pub(crate) static EVENTS: RingBuf<[u8; 0], { abi::EVENTS_BYTES as usize }> = RingBuf::new();
/// Written by the ingress program; a value is one CPU's own.
#[btf_map]
pub(crate) static LANE_STATS: PerCpuArray<LaneStats, LANE_COUNT> = PerCpuArray::new();
/// Written by both programs. Where one interrupts the other between a load and its store, a count is lost.
#[btf_map]
pub(crate) static EVENT_STATS: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Where [`crate::parse`] leaves what it read; of the program alone, not pinned.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Parsed, 1> = PerCpuArray::new();
/// Where [`crate::ack`] and [`crate::challenge`] put a message to search it; likewise. A word more than they put there: one may begin at
/// the last byte.
#[btf_map]
pub(crate) static MESSAGE: PerCpuArray<[u64; REQUEST_ROOM / 8 + 1], 1> = PerCpuArray::new();
/// Where [`crate::challenge`] writes; likewise.
#[btf_map]
pub(crate) static DRAFT: PerCpuArray<Draft, 1> = PerCpuArray::new();
/// Signs of the transactions that were challenged here, by a hash of theirs; of the program alone too. Of all CPUs: what comes again may come to
/// another one.
#[btf_map]
pub(crate) static ANSWERED: Array<u32, { ANSWERED_SLOTS as usize }> = Array::new();
/// Written by the agent.
#[btf_map]
pub(crate) static CHALLENGE: Array<Challenge, 1> = Array::new();
/// Written by the agent. LRU: a cache of who calls, which any entry may leave.
#[btf_map]
pub(crate) static CALLERS: LruHashMap<FlowKey, Caller, { abi::CALLERS as usize }> = LruHashMap::new();
/// Written by the ingress program and by the agent, which has it in its memory (`BPF_F_MMAPABLE`): a nonce that either has taken the other does
/// not take.
#[btf_map]
pub(crate) static NONCES: Array<Slot, { proof::SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The maps as [`Lookup`], with the time read and the settings found at most once a packet.
pub(crate) struct Maps {
    now: Cell<u64>,
    config: Cell<Option<&'static Config>>,
}

impl Maps {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            now: Cell::new(0),
            config: Cell::new(None),
        }
    }
}

impl Lookup for Maps {
    #[inline(always)]
    fn config(&self) -> Option<Config> {
        if self.config.get().is_none() {
            self.config.set(CONFIG.get(0));
        }
        self.config.get().copied()
    }

    #[inline(always)]
    fn port_role(&self, port: u16) -> PortRole {
        match PORT_ROLES.get(u32::from(port)) {
            Some(role) => *role,
            None => PortRole {
                punt: [0; LANE_COUNT],
                protected: 0,
                flags: 0,
                reserved: 0,
            },
        }
    }

    #[inline(always)]
    fn possible(&self, address: &Address) -> Possible {
        prefilter::possible(self, address)
    }

    #[inline(always)]
    fn host(&self, address: &Address) -> Option<Policy> {
        match address.v4() {
            // SAFETY: the value is copied at once; a write by the agent meanwhile replaces the element, it does not change it.
            Some(word) => unsafe { HOSTS_V4.get(word) }.copied(),
            // SAFETY: as above.
            None => unsafe { HOSTS_V6.get(address) }.copied(),
        }
    }

    #[inline(always)]
    fn net(&self, address: &Address) -> Option<Policy> {
        match address.v4() {
            Some(word) => NETS_V4.get(&Key::new(32, word)).copied(),
            None => NETS_V6.get(&Key::new(128, *address)).copied(),
        }
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<u32> {
        // SAFETY: as in `host`.
        unsafe { PORTS.get(key) }.copied()
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        // SAFETY: copied at once. The element can be reused for another flow meanwhile (LRU): at worst one packet meets the flow's
        // successor at another key, in the time between two instructions.
        unsafe { FLOWS.get(key) }.copied()
    }

    #[inline(always)]
    fn peer(&self, address: &Address) -> Option<u64> {
        // SAFETY: as in `flow`.
        unsafe { PEERS.get(address) }.copied()
    }

    #[inline(always)]
    fn ban(&self, address: &Address) -> Option<Ban> {
        // SAFETY: as in `flow`.
        unsafe { BANS.get(address) }.copied()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        if self.now.get() == 0 {
            // SAFETY: the helper has no preconditions.
            self.now.set(unsafe { bpf_ktime_get_ns() });
        }
        self.now.get()
    }
}

impl Bits for Maps {
    #[inline(always)]
    fn header(&self) -> Header {
        match PREFILTER.get(0) {
            Some(line) => Header::new(line[CURRENT], line[NEXT], line[SEED]),
            None => Header::new(0, 0, 0),
        }
    }

    #[inline(always)]
    fn word(&self, line: u32, word: usize) -> u64 {
        match PREFILTER.get(line) {
            Some(line) => line[word % LINE_WORDS],
            None => u64::MAX,
        }
    }
}

impl SetBits for Maps {
    #[inline(always)]
    fn set(&self, line: u32, word: usize, bits: u64) {
        if let Some(line) = PREFILTER.get_ptr_mut(line) {
            // SAFETY: an aligned word of the element. The target has no `AtomicU64::fetch_or`; kernels have the instruction from 5.12 on.
            unsafe {
                let to = line.cast::<u64>().add(word % LINE_WORDS);
                asm!("lock *(u64 *)({to} + 0) |= {bits}", to = in(reg) to, bits = in(reg) bits, options(nostack));
            }
        }
    }
}
