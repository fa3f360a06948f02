//! Handles of the maps, with the operations that the agent needs.

use std::{collections::HashMap, io, os::fd::OwnedFd};

use aya::{Ebpf, maps::lpm_trie::Key};
use sipauth_common::{
    abi,
    address::Address,
    challenge::Challenge,
    config::{Config, Lane, PortRole},
    decide::Lookup,
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Possible,
    reason::Reason,
    stats::{Bucket, Count, GatewayStats, RateKey},
};

use super::{DatapathError, monotonic_ns, prefilter::Prefilter, sys};

/// Handles of all maps. All operations take `&self`: the kernel orders them.
pub struct Maps {
    fds: HashMap<&'static str, OwnedFd>,
    pub(super) cpus: usize,
    pub(super) prefilter: Prefilter,
}

type Result<T> = std::result::Result<T, DatapathError>;

/// An operation's error, with the map's name.
pub(super) fn at(map: &'static str) -> impl Fn(io::Error) -> DatapathError {
    move |source| DatapathError::Map { map, source }
}

impl Maps {
    /// Handles of the maps of a loaded object.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self> {
        let mut fds = HashMap::new();
        for name in abi::MAPS {
            let map = ebpf.map(name).ok_or(DatapathError::Object { name })?;
            let fd = data(map).ok_or(DatapathError::Object { name })?;
            fds.insert(name, fd.map_err(at(name))?);
        }
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| DatapathError::File {
            path: "/sys/devices/system/cpu/possible".into(),
            source,
        })?;
        let lines = &fds[abi::MAP_PREFILTER];
        let prefilter = Prefilter::of(lines, abi::PREFILTER_LINES).map_err(at(abi::MAP_PREFILTER))?;
        Ok(Self { fds, cpus, prefilter })
    }

    pub(super) fn fd(&self, map: &'static str) -> &OwnedFd {
        // `of` filled in every name of `abi::MAPS`, and no other constant is used here.
        &self.fds[map]
    }

    fn put<K: aya::Pod, V: aya::Pod>(&self, map: &'static str, key: &K, value: &V) -> Result<()> {
        sys::update(self.fd(map), key, value).map_err(at(map))
    }

    fn get<K: aya::Pod, V: aya::Pod>(&self, map: &'static str, key: &K) -> Result<Option<V>> {
        sys::lookup(self.fd(map), key).map_err(at(map))
    }

    fn remove<K: aya::Pod>(&self, map: &'static str, key: &K) -> Result<bool> {
        sys::delete(self.fd(map), key).map_err(at(map))
    }

    /// A second handle of the ring buffer.
    ///
    /// # Errors
    /// No file descriptor to be had.
    pub(super) fn events(&self) -> Result<OwnedFd> {
        self.fd(abi::MAP_EVENTS).try_clone().map_err(at(abi::MAP_EVENTS))
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// The kernel's answer; so with all others here.
    pub fn set_config(&self, config: &Config) -> Result<()> {
        self.put(abi::MAP_CONFIG, &0u32, config)
    }

    /// Writes what the kernel program challenges with.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_challenge(&self, challenge: &Challenge) -> Result<()> {
        self.put(abi::MAP_CHALLENGE, &0u32, challenge)
    }

    /// Writes what a local port is to us.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_port_role(&self, port: u16, role: PortRole) -> Result<()> {
        self.put(abi::MAP_PORT_ROLES, &u32::from(port), &role)
    }

    /// Writes an address's policy.
    ///
    /// # Errors
    /// The kernel's answer; `E2BIG` when the map is full.
    pub fn put_host(&self, address: &Address, policy: &Policy) -> Result<()> {
        let _entering = self.prefilter.enter(address);
        match address.v4() {
            Some(word) => self.put(abi::MAP_HOSTS_V4, &word, policy),
            None => self.put(abi::MAP_HOSTS_V6, address, policy),
        }
    }

    /// Removes an address's policy; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_host(&self, address: &Address) -> Result<bool> {
        match address.v4() {
            Some(word) => self.remove(abi::MAP_HOSTS_V4, &word),
            None => self.remove(abi::MAP_HOSTS_V6, address),
        }
    }

    /// Writes a prefix's policy; `prefix` counts the bits of the 16-byte address (96 + n for IPv4).
    ///
    /// # Errors
    /// The kernel's answer; `ENOSPC` when the map is full.
    pub fn put_net(&self, network: &Address, prefix: u8, policy: &Policy) -> Result<()> {
        let _entering = self.prefilter.enter_net(network, prefix);
        match v4_key(network, prefix) {
            Some(key) => self.put(abi::MAP_NETS_V4, &key, policy),
            None => self.put(abi::MAP_NETS_V6, &Key::new(u32::from(prefix), *network), policy),
        }
    }

    /// Removes a prefix's policy; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_net(&self, network: &Address, prefix: u8) -> Result<bool> {
        match v4_key(network, prefix) {
            Some(key) => self.remove(abi::MAP_NETS_V4, &key),
            None => self.remove(abi::MAP_NETS_V6, &Key::new(u32::from(prefix), *network)),
        }
    }

    /// Writes a further port of a policy, and the gateway it belongs to.
    ///
    /// # Errors
    /// The kernel's answer; `E2BIG` when the map is full.
    pub fn put_port(&self, key: &PortKey, gateway: u32) -> Result<()> {
        self.put(abi::MAP_PORTS, key, &gateway)
    }

    /// Removes a further port; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_port(&self, key: &PortKey) -> Result<bool> {
        self.remove(abi::MAP_PORTS, key)
    }

    /// Writes an authenticated flow.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn put_flow(&self, key: &FlowKey, flow: &Flow) -> Result<()> {
        self.put(abi::MAP_FLOWS, key, flow)
    }

    /// Removes a flow; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_flow(&self, key: &FlowKey) -> Result<bool> {
        self.remove(abi::MAP_FLOWS, key)
    }

    /// All flows.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn flows(&self) -> Result<Vec<(FlowKey, Flow)>> {
        sys::entries(self.fd(abi::MAP_FLOWS), abi::MAX_FLOWS).map_err(at(abi::MAP_FLOWS))
    }

    /// Writes when the softswitch last called an address.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn put_peer(&self, address: &Address, seen_ns: u64) -> Result<()> {
        let _entering = self.prefilter.enter(address);
        self.put(abi::MAP_PEERS, address, &seen_ns)
    }

    /// All learned peers, with the time (ns) at which the softswitch last sent them a request.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn peers(&self) -> Result<Vec<(Address, u64)>> {
        sys::entries(self.fd(abi::MAP_PEERS), abi::MAX_PEERS).map_err(at(abi::MAP_PEERS))
    }

    /// Forgets a learned peer; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_peer(&self, address: &Address) -> Result<bool> {
        self.remove(abi::MAP_PEERS, address)
    }

    /// Writes a ban.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn put_ban(&self, address: &Address, ban: &Ban) -> Result<()> {
        let _entering = self.prefilter.enter(address);
        self.put(abi::MAP_BANS, address, ban)
    }

    /// Removes a ban; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_ban(&self, address: &Address) -> Result<bool> {
        self.remove(abi::MAP_BANS, address)
    }

    /// All bans, also those that are over.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn bans(&self) -> Result<Vec<(Address, Ban)>> {
        sys::entries(self.fd(abi::MAP_BANS), abi::MAX_BANS).map_err(at(abi::MAP_BANS))
    }

    /// All addresses with their policies.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn hosts(&self) -> Result<Vec<(Address, Policy)>> {
        let v4: Vec<(u32, Policy)> = sys::entries(self.fd(abi::MAP_HOSTS_V4), abi::MAX_SOURCES).map_err(at(abi::MAP_HOSTS_V4))?;
        let v6: Vec<(Address, Policy)> = sys::entries(self.fd(abi::MAP_HOSTS_V6), abi::MAX_SOURCES).map_err(at(abi::MAP_HOSTS_V6))?;
        Ok(v4
            .into_iter()
            .map(|(word, policy)| (Address::from_v4(word), policy))
            .chain(v6)
            .collect())
    }

    /// All prefixes with their policies; the length as in [`Self::put_net`].
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn nets(&self) -> Result<Vec<(Address, u8, Policy)>> {
        let v4: Vec<(Key<u32>, Policy)> = sys::entries(self.fd(abi::MAP_NETS_V4), abi::MAX_SOURCES).map_err(at(abi::MAP_NETS_V4))?;
        let v6: Vec<(Key<Address>, Policy)> = sys::entries(self.fd(abi::MAP_NETS_V6), abi::MAX_SOURCES).map_err(at(abi::MAP_NETS_V6))?;
        let short = |length: u32| u8::try_from(length).unwrap_or(128);
        let v4 = v4
            .into_iter()
            .map(|(key, policy)| (Address::from_v4(key.data()), short(96 + key.prefix_len()), policy));
        Ok(v4
            .chain(v6.into_iter().map(|(key, policy)| (key.data(), short(key.prefix_len()), policy)))
            .collect())
    }

    /// All further ports.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn ports(&self) -> Result<Vec<(PortKey, u32)>> {
        sys::entries(self.fd(abi::MAP_PORTS), abi::MAX_PORTS).map_err(at(abi::MAP_PORTS))
    }

    /// What each reason counted, over all CPUs.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn stats(&self) -> Result<[Count; Reason::COUNT]> {
        let mut sums = [Count::default(); Reason::COUNT];
        for reason in Reason::ALL {
            let values: Vec<Count> = sys::lookup_per_cpu(self.fd(abi::MAP_STATS), &reason.slot(), self.cpus).map_err(at(abi::MAP_STATS))?;
            let sum = &mut sums[reason.slot() as usize];
            for value in values {
                sum.packets += value.packets;
                sum.bytes += value.bytes;
            }
        }
        Ok(sums)
    }

    /// What a source has used of its rate in a lane: a bucket a CPU; none where it was not in this lane lately.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn punt_rate(&self, key: &RateKey) -> Result<Vec<Bucket>> {
        match sys::lookup_per_cpu(self.fd(abi::MAP_PUNT_RATE), key, self.cpus) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            result => result.map_err(at(abi::MAP_PUNT_RATE)),
        }
    }

    /// What is left of a lane's budget, of each CPU.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn lane(&self, lane: Lane) -> Result<Vec<Bucket>> {
        sys::lookup_per_cpu(self.fd(abi::MAP_LANES), &(lane as u32), self.cpus).map_err(at(abi::MAP_LANES))
    }

    /// What a gateway counted.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn gateway_stats(&self, gateway: u32) -> Result<GatewayStats> {
        self.get(abi::MAP_GATEWAY_STATS, &gateway).map(Option::unwrap_or_default)
    }

    /// Sets a gateway's counters to zero.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn reset_gateway_stats(&self, gateway: u32) -> Result<()> {
        self.put(abi::MAP_GATEWAY_STATS, &gateway, &GatewayStats::default())
    }
}

/// The key of an IPv4 prefix: within the mapped range, not above it.
fn v4_key(network: &Address, prefix: u8) -> Option<Key<u32>> {
    let length = prefix.checked_sub(96)?;
    network.v4().map(|word| Key::new(u32::from(length), word))
}

fn data(map: &aya::maps::Map) -> Option<io::Result<OwnedFd>> {
    use std::os::fd::AsFd;

    use aya::maps::Map;
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuLruHashMap(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().try_clone_to_owned())
}

/// The decision over the live maps, for `explain`. What cannot be read is not there; the kernel program sees it so too.
impl Lookup for Maps {
    fn config(&self) -> Option<Config> {
        self.get(abi::MAP_CONFIG, &0u32).ok().flatten()
    }

    fn port_role(&self, port: u16) -> PortRole {
        self.get(abi::MAP_PORT_ROLES, &u32::from(port)).ok().flatten().unwrap_or_default()
    }

    fn possible(&self, address: &Address) -> Possible {
        self.prefilter.possible(address)
    }

    fn host(&self, address: &Address) -> Option<Policy> {
        match address.v4() {
            Some(word) => self.get(abi::MAP_HOSTS_V4, &word),
            None => self.get(abi::MAP_HOSTS_V6, address),
        }
        .ok()
        .flatten()
    }

    fn net(&self, address: &Address) -> Option<Policy> {
        match address.v4() {
            Some(word) => self.get(abi::MAP_NETS_V4, &Key::new(32, word)),
            None => self.get(abi::MAP_NETS_V6, &Key::new(128, *address)),
        }
        .ok()
        .flatten()
    }

    fn port(&self, key: &PortKey) -> Option<u32> {
        self.get(abi::MAP_PORTS, key).ok().flatten()
    }

    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.get(abi::MAP_FLOWS, key).ok().flatten()
    }

    fn peer(&self, address: &Address) -> Option<u64> {
        self.get(abi::MAP_PEERS, address).ok().flatten()
    }

    fn ban(&self, address: &Address) -> Option<Ban> {
        self.get(abi::MAP_BANS, address).ok().flatten()
    }

    fn now(&self) -> u64 {
        monotonic_ns()
    }
}
