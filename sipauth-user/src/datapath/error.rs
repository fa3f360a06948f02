//! What can go wrong with the kernel side. Each says what it was about, and the remedy where there is one.

use std::{io, path::PathBuf};

use aya::programs::ProgramError;
use thiserror::Error;

/// An error of the data path; all are the operator's or the system's, none a peer's.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The object could not be loaded.
    #[error("cannot load the BPF object ({0}); it needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Load(#[source] aya::EbpfError),
    /// The object is not of this build.
    #[error("the BPF object has no {name}")]
    Object {
        /// The missing program or map.
        name: &'static str,
    },
    /// The kernel refused a program.
    #[error("{name}: {source}")]
    Program {
        /// The program.
        name: &'static str,
        /// The kernel's answer.
        source: ProgramError,
    },
    /// A pinned map of another shape.
    #[error(
        "{path} is pinned with {found}, this version expects {expected}; run `sipauth detach` with the version that pinned it, then start again"
    )]
    Layout {
        /// The pin.
        path: PathBuf,
        /// Shape of the pinned map.
        found: String,
        /// Shape in the object.
        expected: String,
    },
    /// Pins of another layout version.
    #[error(
        "{path} holds pins of layout {found}, this version has layout {expected}: what they enforce goes on; run `sipauth detach`, which ends that, and start again at once"
    )]
    LayoutVersion {
        /// The directory of all pins.
        path: PathBuf,
        /// Its version.
        found: String,
        /// Ours.
        expected: u32,
    },
    /// The pin directory is on another kind of file system.
    #[error(
        "{path} is not on a bpf file system; `mount -t bpf bpf /sys/fs/bpf`, and where this runs in a network namespace enter it with `nsenter --net=`, because `ip netns exec` hides the mount"
    )]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// A file operation.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A map operation.
    #[error("map {map}: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process that makes maps.
    #[error("larger maps cannot be made ({0}); restart the agent, which makes room for what is stored and some more")]
    Maker(#[source] io::Error),
    /// More than any size of a map.
    #[error(
        "map {map} can have {most} entries at most, and this takes {needed}; leave some out, or give prefixes instead of single addresses"
    )]
    Full {
        /// The map.
        map: &'static str,
        /// How many there would be.
        needed: usize,
        /// How many there can be.
        most: u32,
    },
    /// No such interface.
    #[error("no interface {0} in this network namespace; `ip link` lists them")]
    NoInterface(String),
    /// Someone else's XDP program.
    #[error(
        "{interface} already has the XDP program {program} (id {id}); sipauth does not replace what is not its own: detach it with `ip link set dev {interface} xdp off` or its own tool"
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// The program's name.
        program: String,
        /// Its id.
        id: u32,
    },
    /// The driver has no native XDP.
    #[error(
        "the driver of {interface} does not take XDP in native mode ({source}); see the MTU and offload requirements, or run with --xdp-mode generic, which is slower"
    )]
    NoNative {
        /// The interface.
        interface: String,
        /// The kernel's answer.
        source: ProgramError,
    },
    /// Attaching failed.
    #[error("cannot attach to {interface}: {source}")]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's answer.
        source: ProgramError,
    },
    /// A pinned link cannot be used.
    #[error("{path}: {reason}")]
    Link {
        /// The pin.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl DatapathError {
    pub(super) const fn program(name: &'static str, source: ProgramError) -> Self {
        Self::Program { name, source }
    }
}
