//! The maps of what single sources have done: flows, callers, peers and bans.

use std::sync::{Arc, atomic::AtomicU64};

use sipauth_common::{
    abi,
    address::Address,
    flow::{Ban, Flow, FlowKey},
    proof::Caller,
};

use super::{DatapathError, Maps};

type Result<T> = std::result::Result<T, DatapathError>;

impl Maps {
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
        self.entries(abi::MAP_FLOWS)
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
        self.entries(abi::MAP_PEERS)
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
        self.entries(abi::MAP_BANS)
    }

    /// Writes what the source of a flow proves its password with.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn put_caller(&self, key: &FlowKey, caller: &Caller) -> Result<()> {
        self.put(abi::MAP_CALLERS, key, caller)
    }

    /// Forgets a caller; false where there was none.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_caller(&self, key: &FlowKey) -> Result<bool> {
        self.remove(abi::MAP_CALLERS, key)
    }

    /// Forgets those of all callers that are `chosen`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn delete_callers(&self, chosen: impl Fn(&Caller) -> bool) -> Result<()> {
        for (key, caller) in self.entries::<FlowKey, Caller>(abi::MAP_CALLERS)? {
            if chosen(&caller) {
                self.delete_caller(&key)?;
            }
        }
        Ok(())
    }

    /// The kernel program's nonces and their use ([`Slot`]), as they are at any time.
    #[must_use]
    pub fn nonces(&self) -> Arc<dyn AsRef<[AtomicU64]> + Send + Sync> {
        Arc::clone(&self.nonces) as _
    }
}
