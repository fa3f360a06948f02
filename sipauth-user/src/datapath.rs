//! The only owner of BPF handles: loads the object, fills its maps, attaches its programs, and takes them down again.
//!
//! All maps and links are pinned under one directory of a bpf file system, named after the layout version. What is pinned
//! stays in force without the agent; the next agent takes it over.

mod attach;
mod counters;
mod error;
mod events;
mod lookup;
mod maker;
mod maps;
mod memory;
mod pins;
mod prefilter;
mod replace;
mod sizes;
mod sources;
mod sys;

use std::{collections::HashMap, path::Path, sync::Arc};

use aya::{
    Ebpf, EbpfLoader,
    pin::PinError,
    programs::{ProgramError, SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use sipauth_common::{abi, config::Config};
use tracing::debug;

pub use attach::{
    Attached, EgressHook, XdpMode, attach_egress, attach_ingress, detach, has_program, index, interfaces, later_capability, mode_of,
    preflight,
};
pub use counters::{Footprint, Occupancy};
pub use error::DatapathError;
pub use events::{Events, Told};
pub use maker::Maker;
pub use maps::{Maps, cpus};
pub use pins::{Pins, mount_bpffs, mountable};
pub use prefilter::Fill;
pub use replace::Replacement;
pub use sizes::{Bounds, Demand, Sizes, entries_for_flows, flows_in};

/// The BPF object that the build made.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sipauth.bpf.o"));

/// The programs, in the kernel and verified, not attached; and their maps.
pub struct Programs {
    held: Held,
    ingress: &'static str,
    /// Handles of the maps.
    pub maps: Arc<Maps>,
    /// The pinned maps whose place some of these are to take: after [`Replacement::copy`] and once the programs are on the interfaces.
    pub replacement: Option<Replacement>,
}

/// The programs' handles.
enum Held {
    Object(Box<Ebpf>),
    Opened(Box<Xdp>, Box<SchedClassifier>),
}

/// Loads the object. With `pins`, maps that are pinned there are taken over, after a check that they are what this object
/// expects, and others are pinned there. Without, everything is private and goes when the result is dropped (tests).
///
/// Where a pinned map has another size than `sizes` says, a new one is made and not pinned: see [`Programs::replacement`].
///
/// # Errors
/// A pinned map of another shape, missing privileges, or a kernel that refuses the program.
pub fn load(pins: Option<&Pins>, sizes: &Sizes) -> Result<Programs, DatapathError> {
    // From 5.18 on drivers with multi-buffer frames take only programs that know of these.
    match load_ingress(pins, sizes, abi::PROGRAM_INGRESS_FRAGS) {
        Err(DatapathError::Program {
            source: ProgramError::LoadError { io_error, .. },
            ..
        }) if io_error.raw_os_error() == Some(libc::EINVAL) => {
            debug!("no multi-buffer XDP on this kernel");
            load_ingress(pins, sizes, abi::PROGRAM_INGRESS)
        }
        result => result,
    }
}

/// The settings that an earlier agent left in force; `None` where none has filled the maps.
///
/// # Errors
/// A pinned map of another shape, or one that cannot be read.
pub fn pinned_config(pins: &Pins) -> Result<Option<Config>, DatapathError> {
    let pin = pins.map(abi::MAP_CONFIG);
    if !pin.exists() {
        return Ok(None);
    }
    pins.check(OBJECT)?;
    let read = || sys::lookup::<u32, Config>(&sys::open_pin(&pin)?, &0);
    let config = read().map_err(|source| DatapathError::File { path: pin.clone(), source })?;
    Ok(config.filter(|config| config.layout == abi::LAYOUT))
}

/// [`load`] with a named ingress program.
///
/// # Errors
/// As [`load`].
pub fn load_ingress(pins: Option<&Pins>, sizes: &Sizes, ingress: &'static str) -> Result<Programs, DatapathError> {
    let mut loader = EbpfLoader::new();
    for (name, size) in sizes.iter() {
        loader.map_max_entries(name, size);
    }
    let mut old = Vec::new();
    if let Some(pins) = pins {
        pins.clear_next()?;
        pins.check(OBJECT)?;
        for name in abi::MAPS {
            match (pins.entries(name), sizes.of(name)) {
                (Some(present), Some(wanted)) if present != wanted => old.push(name),
                _ => drop(loader.map_pin_path(name, pins.map(name))),
            }
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(DatapathError::Load)?;
    let maps = Maps::of(&ebpf)?;
    if !maps.has_prefilter() {
        maps.renew_prefilter()?;
    }
    xdp(&mut ebpf, ingress)?
        .load()
        .map_err(|source| DatapathError::program(ingress, source))?;
    classifier(&mut ebpf)?
        .load()
        .map_err(|source| DatapathError::program(abi::PROGRAM_EGRESS, source))?;
    Ok(Programs {
        held: Held::Object(Box::new(ebpf)),
        ingress,
        maps: Arc::new(maps),
        replacement: pins
            .map(|pins| Replacement::open(pins, &old))
            .transpose()?
            .filter(|all| !all.is_empty()),
    })
}

impl Programs {
    /// The XDP program.
    ///
    /// # Errors
    /// The object has no such program.
    pub fn ingress(&mut self) -> Result<&mut Xdp, DatapathError> {
        match &mut self.held {
            Held::Object(ebpf) => xdp(ebpf, self.ingress),
            Held::Opened(xdp, _) => Ok(xdp),
        }
    }

    /// The program on the way out.
    ///
    /// # Errors
    /// The object has no such program.
    pub fn egress(&mut self) -> Result<&mut SchedClassifier, DatapathError> {
        match &mut self.held {
            Held::Object(ebpf) => classifier(ebpf),
            Held::Opened(_, classifier) => Ok(classifier),
        }
    }

    /// Pins what is new here beside what is in force, for a process that has no capability.
    fn pin_next(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        let failed = |name: &str| {
            let path = pins.next(name);
            move |error: PinError| DatapathError::Link {
                path,
                reason: error.to_string(),
            }
        };
        let ingress = self.ingress;
        self.ingress()?.pin(pins.next(ingress)).map_err(failed(ingress))?;
        let egress = abi::PROGRAM_EGRESS;
        self.egress()?.pin(pins.next(egress)).map_err(failed(egress))?;
        for (map, _) in self.replacement.iter().flat_map(Replacement::names) {
            let path = pins.next(map);
            sys::pin(self.maps.fd(map), &path).map_err(|source| DatapathError::File { path, source })?;
        }
        Ok(())
    }

    /// What [`Self::pin_next`] has pinned, with the maps of `present` that have the right size.
    fn adopt(pins: &Pins, ingress: &str, sizes: &Sizes, present: &Maps) -> Result<Self, DatapathError> {
        let ingress = [abi::PROGRAM_INGRESS_FRAGS, abi::PROGRAM_INGRESS]
            .into_iter()
            .find(|name| *name == ingress)
            .ok_or(DatapathError::Object {
                name: abi::PROGRAM_INGRESS,
            })?;
        let xdp = Xdp::from_pin(pins.next(ingress), XdpAttachType::Interface).map_err(|source| DatapathError::program(ingress, source))?;
        let egress = abi::PROGRAM_EGRESS;
        let classifier = SchedClassifier::from_pin(pins.next(egress)).map_err(|source| DatapathError::program(egress, source))?;
        let old: Vec<_> = sizes
            .iter()
            .filter(|(map, size)| present.capacity(map) != *size)
            .map(|(map, _)| map)
            .collect();
        let mut new = HashMap::new();
        for map in &old {
            let path = pins.next(map);
            new.insert(*map, sys::open_pin(&path).map_err(|source| DatapathError::File { path, source })?);
        }
        Ok(Self {
            held: Held::Opened(Box::new(xdp), Box::new(classifier)),
            ingress,
            maps: Arc::new(present.with(new)?),
            replacement: Some(Replacement::open(pins, &old)?).filter(|all| !all.is_empty()),
        })
    }

    /// Its name: with or without multi-buffer frames.
    #[must_use]
    pub const fn ingress_name(&self) -> &'static str {
        self.ingress
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, DatapathError> {
    let program = ebpf.program_mut(name).ok_or(DatapathError::Object { name })?;
    program.try_into().map_err(|source| DatapathError::program(name, source))
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    let name = abi::PROGRAM_EGRESS;
    let program = ebpf.program_mut(name).ok_or(DatapathError::Object { name })?;
    program.try_into().map_err(|source| DatapathError::program(name, source))
}

/// `CLOCK_MONOTONIC`, ns: the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    // The clock is always there (Linux 2.6) and never before its start.
    now.map_or(0, |t| {
        u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
    })
}

/// The directory's default.
#[must_use]
pub fn default_bpffs() -> &'static Path {
    Path::new("/sys/fs/bpf/sipauth")
}
