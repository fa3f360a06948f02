//! Puts the programs on interfaces, atomically where ours are there already, and takes them off.

use std::{fs, io, path::Path};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp,
    links::{FdLink, LinkError, PinnedLink},
    loaded_programs,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    xdp::XdpLink,
};
use aya::sys::SyscallError;
use caps::Capability;
use netlink_packet_route::link::XdpAttached;
use sipauth_common::abi;
use tracing::{debug, error, info};

use super::{DatapathError, Pins, pins::file, sys};
pub use crate::config::XdpMode;
use crate::netlink::{self, Program};

const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";
/// An empty directory says that the interface has our filter: there is no link that could be pinned.
const CLSACT: &str = "clsact";
/// What our filter is called among others of clsact; fixed, so that the next agent finds it.
const CLSACT_PRIORITY: u16 = 50;
const CLSACT_HANDLE: u32 = 1;

/// What [`attach_ingress`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// There was nothing; the program is on the interface from now on.
    Anew,
    /// It took the place of an earlier agent's, without a packet in between.
    Replaced,
}

/// How the egress program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressHook {
    /// A link (kernel 6.6).
    Tcx,
    /// A classifier of the clsact qdisc.
    Clsact,
}

impl EgressHook {
    /// Name in output.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// `None` for what [`attach_ingress`] does not make.
const fn as_made(present: &Program) -> Option<XdpMode> {
    match present.mode {
        XdpAttached::Driver => Some(XdpMode::Native),
        XdpAttached::SocketBuffer => Some(XdpMode::Generic),
        _ => None,
    }
}

/// Whether an interface has an XDP program, ours or another.
///
/// # Errors
/// No such interface.
pub fn has_program(interface: &str) -> Result<bool, DatapathError> {
    present(index(interface)?).map(|present| present.is_some())
}

/// How the program on an interface is run; `None` without one, or with one that [`attach_ingress`] did not put there.
///
/// # Errors
/// No such interface.
pub fn mode_of(interface: &str) -> Result<Option<XdpMode>, DatapathError> {
    Ok(present(index(interface)?)?.as_ref().and_then(as_made))
}

/// Whether [`attach_ingress`] would find the interface, and nobody else's program on it. To be asked before anything is pinned.
///
/// # Errors
/// No such interface, or a foreign program, or pins of another layout.
pub fn preflight(interface: &str, root: &Path) -> Result<(), DatapathError> {
    let Some(present) = present(index(interface)?)? else {
        return Ok(());
    };
    let pins = Pins::at(root);
    if pins.link(interface, INGRESS).exists() {
        return Ok(());
    }
    // After an upgrade it may well be ours, of an earlier layout: not to be taken off as a stranger's would be.
    pins.refuse_other_layouts()?;
    Err(foreign(interface, &present))
}

/// Attaches the XDP program to `interface` and pins the link.
///
/// # Errors
/// No such interface, a foreign program on it, or a driver that cannot.
pub fn attach_ingress(program: &mut Xdp, interface: &str, mode: XdpMode, pins: &Pins) -> Result<Attached, DatapathError> {
    let index = index(interface)?;
    let present = present(index)?;
    let pin = pins.link(interface, INGRESS);
    let mut before = None;
    match PinnedLink::from_pin(&pin) {
        Ok(_) if present.as_ref().is_none_or(|p| p.mode != attached(mode)) => {
            // The interface is gone or was made anew, or another mode is asked for, which cannot be changed in place.
            info!(interface, mode = mode.label(), "attaching anew");
            before = present.as_ref().and_then(as_made);
            // At once, or the kernel may find the interface still taken. Of an interface that is gone there is nothing to detach.
            if let Err(error) = sys::detach_link(&pin) {
                debug!(interface, %error, "the old link is not attached");
            }
            fs::remove_file(&pin).map_err(|source| file(&pin, source))?;
        }
        Ok(old) => {
            let link: XdpLink = FdLink::from(old).try_into().map_err(|error: LinkError| broken(&pin, &error))?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    // The pin is still that link; ours is only a second handle.
                    let taken = program.take_link(id).map_err(|source| attach_error(interface, source))?;
                    let _: FdLink = taken.try_into().map_err(|error: LinkError| broken(&pin, &error))?;
                    return Ok(Attached::Replaced);
                }
                Err(error) if errno(&error) == Some(libc::ENOLINK) => fs::remove_file(&pin).map_err(|source| file(&pin, source))?,
                Err(source) => return Err(attach_error(interface, source)),
            }
        }
        Err(LinkError::SyscallError(SyscallError { io_error, .. })) if io_error.kind() == io::ErrorKind::NotFound => {
            if let Some(present) = present {
                return Err(foreign(interface, &present));
            }
        }
        Err(error) => return Err(broken(&pin, &error)),
    }
    // What was on the interface is off by now. Without it the softswitch would stand open, for as long as the agent does not start.
    attach_anew(program, interface, mode, &pin).inspect_err(|_| {
        if let Some(before) = before
            && let Err(error) = attach_anew(program, interface, before, &pin)
        {
            error!(interface, mode = before.label(), %error, "cannot be attached as it was before either; nothing is enforced there");
        }
    })?;
    Ok(Attached::Anew)
}

/// Attaches the XDP program where there is none, and pins the link.
fn attach_anew(program: &mut Xdp, interface: &str, mode: XdpMode, pin: &Path) -> Result<(), DatapathError> {
    let flag = match mode {
        XdpMode::Native => aya::programs::XdpMode::Driver,
        XdpMode::Generic => aya::programs::XdpMode::Skb,
    };
    let id = program.attach(interface, flag).map_err(|source| match errno(&source) {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE) if mode == XdpMode::Native => DatapathError::NoNative {
            interface: interface.to_owned(),
            source,
        },
        _ => attach_error(interface, source),
    })?;
    let link = program.take_link(id).map_err(|source| attach_error(interface, source))?;
    let link: FdLink = link.try_into().map_err(|error: LinkError| broken(pin, &error))?;
    link.pin(pin).map_err(|error| DatapathError::Link {
        path: pin.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(())
}

/// Attaches the egress program: by a link where the kernel has TCX, else as a classifier.
///
/// # Errors
/// The kernel's answer.
pub fn attach_egress(program: &mut SchedClassifier, interface: &str, pins: &Pins) -> Result<EgressHook, DatapathError> {
    let pin = pins.link(interface, EGRESS);
    match PinnedLink::from_pin(&pin) {
        Ok(old) => {
            let link: SchedClassifierLink = FdLink::from(old).try_into().map_err(|error: LinkError| broken(&pin, &error))?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    let taken = program.take_link(id).map_err(|source| attach_error(interface, source))?;
                    let _: FdLink = taken.try_into().map_err(|error: LinkError| broken(&pin, &error))?;
                    return Ok(EgressHook::Tcx);
                }
                Err(error) if errno(&error) == Some(libc::ENOLINK) => fs::remove_file(&pin).map_err(|source| file(&pin, source))?,
                Err(source) => return Err(attach_error(interface, source)),
            }
        }
        Err(LinkError::SyscallError(SyscallError { io_error, .. })) if io_error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(broken(&pin, &error)),
    }
    match program.attach_with_options(interface, TcAttachType::Egress, TcAttachOptions::TcxOrder(LinkOrder::last())) {
        Ok(id) => {
            let link = program.take_link(id).map_err(|source| attach_error(interface, source))?;
            let link: FdLink = link.try_into().map_err(|error: LinkError| broken(&pin, &error))?;
            link.pin(&pin).map_err(|error| DatapathError::Link {
                path: pin,
                reason: error.to_string(),
            })?;
            Ok(EgressHook::Tcx)
        }
        Err(error) if errno(&error) == Some(libc::EINVAL) => {
            debug!(interface, "no TCX on this kernel; clsact");
            // First the mark, so that a filter without one cannot be; a mark without a filter does no harm.
            mark(&pins.link(interface, CLSACT))?;
            clsact(program, interface)?;
            Ok(EgressHook::Clsact)
        }
        Err(source) => Err(attach_error(interface, source)),
    }
}

/// The filter lives in the kernel and has no link to pin: forgotten here, it stays.
fn clsact(program: &mut SchedClassifier, interface: &str) -> Result<(), DatapathError> {
    match tc::qdisc_add_clsact(interface) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(attach_error(interface, error.into())),
        Ok(()) => {}
    }
    let handle = TcHandle::from(CLSACT_HANDLE);
    if let Ok(old) = SchedClassifierLink::attached(interface, TcAttachType::Egress, CLSACT_PRIORITY, handle, None)
        && let Ok(id) = program.attach_to_link(old)
    {
        std::mem::forget(program.take_link(id).map_err(|source| attach_error(interface, source))?);
        return Ok(());
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: CLSACT_PRIORITY,
        handle: TcHandle::from(CLSACT_HANDLE),
        classid: None,
    });
    let id = program
        .attach_with_options(interface, TcAttachType::Egress, options)
        .map_err(|source| attach_error(interface, source))?;
    std::mem::forget(program.take_link(id).map_err(|source| attach_error(interface, source))?);
    Ok(())
}

/// The capability that changes what is attached, besides the handles of it: netlink asks for one.
#[must_use]
pub fn later_capability(pins: &Pins) -> Option<Capability> {
    (!pins.linked(CLSACT).is_empty()).then_some(Capability::CAP_NET_ADMIN)
}

/// Interfaces that have our XDP link pinned.
#[must_use]
pub fn interfaces(pins: &Pins) -> Vec<String> {
    pins.linked(INGRESS)
}

/// Takes the programs off one interface, or off all, and then removes the maps too.
///
/// # Errors
/// A pin that cannot be removed.
pub fn detach(pins: &Pins, interface: Option<&str>) -> Result<(), DatapathError> {
    let chosen = |name: &String| interface.is_none_or(|only| only == name);
    for hook in [INGRESS, EGRESS] {
        for name in pins.linked(hook).into_iter().filter(chosen) {
            let pin = pins.link(&name, hook);
            if let Err(error) = sys::detach_link(&pin) {
                // The interface is gone, for one; without its pin the link goes all the same.
                debug!(interface = name, %error, "not detached at once");
            }
            fs::remove_file(&pin).map_err(|source| file(&pin, source))?;
        }
    }
    for name in pins.linked(CLSACT).into_iter().filter(chosen) {
        if let Err(error) = tc::qdisc_detach_program(&name, TcAttachType::Egress, abi::PROGRAM_EGRESS) {
            // With the interface the filter is gone too.
            debug!(interface = name, %error, "no filter to remove");
        }
        let pin = pins.link(&name, CLSACT);
        fs::remove_dir(&pin).map_err(|source| file(&pin, source))?;
    }
    if interface.is_none() {
        // Whatever maps its layout has; nobody else pins there.
        for entry in fs::read_dir(pins.dir()).into_iter().flatten().flatten() {
            remove(&entry.path())?;
        }
        for dir in [pins.dir(), pins.root()] {
            match fs::remove_dir(dir) {
                // What else is in there is not ours, nor is the directory where somebody made it for us: a service's unit, for one.
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::DirectoryNotEmpty
                            | io::ErrorKind::ResourceBusy
                            | io::ErrorKind::PermissionDenied
                            | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    return Err(file(dir, error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn mark(path: &Path) -> Result<(), DatapathError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file(path, error)),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path, error)),
        _ => Ok(()),
    }
}

const fn attached(mode: XdpMode) -> XdpAttached {
    match mode {
        XdpMode::Native => XdpAttached::Driver,
        XdpMode::Generic => XdpAttached::SocketBuffer,
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    }
}

fn attach_error(interface: &str, source: ProgramError) -> DatapathError {
    DatapathError::Attach {
        interface: interface.to_owned(),
        source,
    }
}

fn broken(pin: &Path, error: &LinkError) -> DatapathError {
    DatapathError::Link {
        path: pin.to_owned(),
        reason: error.to_string(),
    }
}

fn foreign(interface: &str, present: &Program) -> DatapathError {
    let program = loaded_programs()
        .flatten()
        .find(|program| program.id() == present.id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "whose name only root sees".to_owned());
    DatapathError::Foreign {
        interface: interface.to_owned(),
        program,
        id: present.id,
    }
}

/// The number of an interface, by its name in this network namespace; sysfs may show another one's.
///
/// # Errors
/// No such interface.
pub fn index(interface: &str) -> Result<u32, DatapathError> {
    nix::net::if_::if_nametoindex(interface).map_err(|_| DatapathError::NoInterface(interface.to_owned()))
}

/// The XDP program on an interface.
fn present(index: u32) -> Result<Option<Program>, DatapathError> {
    let link = netlink::link(index).map_err(|source| DatapathError::File {
        path: "rtnetlink".into(),
        source,
    })?;
    Ok(link.xdp)
}
