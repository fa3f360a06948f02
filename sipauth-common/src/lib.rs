//! What the kernel program and the agent agree on: the layout of the maps, the list of reasons, and the decision.
//!
//! `no_std`, without allocation, without I/O. The XDP program calls [`decide::decide`] over BPF maps, `sipauth explain`
//! over the same maps from userspace, the tests over plain hash maps: there is one place that says what happens to a packet.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod address;
pub mod challenge;
pub mod config;
pub mod decide;
pub mod event;
pub mod flow;
pub mod md5;
pub mod policy;
pub mod prefilter;
pub mod proof;
pub mod reason;
pub mod sip;
pub mod stats;

/// Implements `aya::Pod` for map types, on the agent's side only.
macro_rules! pod {
    ($($type:ty),+ $(,)?) => {$(
        // SAFETY: `repr(C)`, integers only, no padding (the size is asserted next to the type); every bit pattern is valid.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    )+};
}
pub(crate) use pod;
