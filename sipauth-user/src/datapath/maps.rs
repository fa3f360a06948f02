//! Handles of the maps, with the operations that the agent needs.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, lpm_trie::Key},
};
use sipauth_common::{
    abi,
    address::Address,
    challenge::Challenge,
    config::{Config, Lane, PortRole},
    policy::{Policy, PortKey},
    proof::{self, Slot},
    reason::Reason,
    stats::{Bucket, Count, GatewayStats, RateKey},
};

use super::{DatapathError, memory::Words, prefilter::Prefilter, sys};

/// Handles of all maps. All operations take `&self`: the kernel orders them.
pub struct Maps {
    all: HashMap<&'static str, Handle>,
    pub(super) cpus: usize,
    pub(super) prefilter: Prefilter,
    pub(super) nonces: Arc<Words>,
}

/// One map.
pub(super) struct Handle {
    pub(super) fd: OwnedFd,
    /// How many entries it has room for, as the kernel says.
    pub(super) entries: u32,
}

type Result<T> = std::result::Result<T, DatapathError>;

/// An operation's error, with the map's name.
pub(super) fn at(map: &'static str) -> impl Fn(io::Error) -> DatapathError {
    move |source| DatapathError::Map { map, source }
}

/// CPUs that there can be.
///
/// # Errors
/// The system does not say.
pub fn cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(_, source)| DatapathError::File {
        path: "/sys/devices/system/cpu/possible".into(),
        source,
    })
}

impl Maps {
    /// Handles of the maps of a loaded object.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self> {
        let mut all = HashMap::new();
        for name in abi::MAPS {
            let map = ebpf.map(name).ok_or(DatapathError::Object { name })?;
            let data = data(map).ok_or(DatapathError::Object { name })?;
            all.insert(name, Handle::of(data).map_err(at(name))?);
        }
        Self::new(all, cpus()?)
    }

    fn new(all: HashMap<&'static str, Handle>, cpus: usize) -> Result<Self> {
        let lines: &Handle = &all[abi::MAP_PREFILTER];
        let prefilter = Prefilter::of(&lines.fd, lines.entries).map_err(at(abi::MAP_PREFILTER))?;
        let count = proof::SLOTS as usize * size_of::<Slot>() / size_of::<u64>();
        let nonces = Words::of(&all[abi::MAP_NONCES].fd, count).map_err(at(abi::MAP_NONCES))?;
        Ok(Self {
            all,
            cpus,
            prefilter,
            nonces: Arc::new(nonces),
        })
    }

    /// The same maps, but for those of which this has another.
    pub(super) fn with(&self, mut others: HashMap<&'static str, OwnedFd>) -> Result<Self> {
        let mut all = HashMap::new();
        for (name, handle) in &self.all {
            let fd = others.remove(name).map_or_else(|| handle.fd.try_clone(), Ok);
            let data = fd.and_then(|fd| MapData::from_fd(fd).map_err(io::Error::other));
            all.insert(*name, data.and_then(|data| Handle::of(&data)).map_err(at(name))?);
        }
        Self::new(all, self.cpus)
    }

    pub(super) fn handle(&self, map: &'static str) -> &Handle {
        // `of` filled in every name of `abi::MAPS`, and no other constant is used here.
        &self.all[map]
    }

    pub(super) fn fd(&self, map: &'static str) -> &OwnedFd {
        &self.handle(map).fd
    }

    /// How many entries a map has room for.
    #[must_use]
    pub fn capacity(&self, map: &'static str) -> u32 {
        self.handle(map).entries
    }

    pub(super) fn entries<K: aya::Pod, V: aya::Pod>(&self, map: &'static str) -> Result<Vec<(K, V)>> {
        sys::entries(self.fd(map), self.capacity(map)).map_err(at(map))
    }

    pub(super) fn put<K: aya::Pod, V: aya::Pod>(&self, map: &'static str, key: &K, value: &V) -> Result<()> {
        sys::update(self.fd(map), key, value).map_err(at(map))
    }

    fn put_all<K: aya::Pod, V: aya::Pod>(
        &self,
        map: &'static str,
        keys: &[K],
        values: &[V],
    ) -> std::result::Result<(), (usize, DatapathError)> {
        sys::update_all(self.fd(map), keys, values).map_err(|(done, error)| (done, at(map)(error)))
    }

    pub(super) fn get<K: aya::Pod, V: aya::Pod>(&self, map: &'static str, key: &K) -> Result<Option<V>> {
        sys::lookup(self.fd(map), key).map_err(at(map))
    }

    pub(super) fn remove<K: aya::Pod>(&self, map: &'static str, key: &K) -> Result<bool> {
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

    /// Writes the policies of addresses of one family, in their order.
    ///
    /// # Errors
    /// The kernel's answer, and how many were written before.
    pub fn put_hosts(&self, hosts: &[(Address, Policy)]) -> std::result::Result<(), (usize, DatapathError)> {
        let _entering = self.prefilter.enter_all(hosts.iter().map(|(address, _)| address));
        let policies: Vec<Policy> = hosts.iter().map(|(_, policy)| *policy).collect();
        let words: Vec<u32> = hosts.iter().filter_map(|(address, _)| address.v4()).collect();
        if words.len() == hosts.len() {
            return self.put_all(abi::MAP_HOSTS_V4, &words, &policies);
        }
        let addresses: Vec<Address> = hosts.iter().map(|(address, _)| *address).collect();
        self.put_all(abi::MAP_HOSTS_V6, &addresses, &policies)
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

    /// Writes further ports, in their order.
    ///
    /// # Errors
    /// The kernel's answer, and how many were written before.
    pub fn put_ports(&self, keys: &[PortKey], gateways: &[u32]) -> std::result::Result<(), (usize, DatapathError)> {
        self.put_all(abi::MAP_PORTS, keys, gateways)
    }

    /// Removes a further port; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_port(&self, key: &PortKey) -> Result<bool> {
        self.remove(abi::MAP_PORTS, key)
    }

    /// All addresses with their policies.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn hosts(&self) -> Result<Vec<(Address, Policy)>> {
        let v4: Vec<(u32, Policy)> = self.entries(abi::MAP_HOSTS_V4)?;
        let v6: Vec<(Address, Policy)> = self.entries(abi::MAP_HOSTS_V6)?;
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
        let v4: Vec<(Key<u32>, Policy)> = self.entries(abi::MAP_NETS_V4)?;
        let v6: Vec<(Key<Address>, Policy)> = self.entries(abi::MAP_NETS_V6)?;
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
        self.entries(abi::MAP_PORTS)
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

    /// Sets counters of gateways to zero.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn reset_gateway_stats(&self, gateways: &[u32]) -> Result<()> {
        let zeros = vec![GatewayStats::default(); gateways.len()];
        let map = abi::MAP_GATEWAY_STATS;
        sys::update_all(self.fd(map), gateways, &zeros).map_err(|(_, error)| at(map)(error))
    }
}

/// The key of an IPv4 prefix: within the mapped range, not above it.
fn v4_key(network: &Address, prefix: u8) -> Option<Key<u32>> {
    let length = prefix.checked_sub(96)?;
    network.v4().map(|word| Key::new(u32::from(length), word))
}

impl Handle {
    fn of(data: &MapData) -> io::Result<Self> {
        // Not what the object says: a map that was pinned has the size that it was made with.
        let info = data.info().map_err(io::Error::other)?;
        Ok(Self {
            fd: data.fd().as_fd().try_clone_to_owned()?,
            entries: info.max_entries(),
        })
    }
}

fn data(map: &Map) -> Option<&MapData> {
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
    Some(data)
}
