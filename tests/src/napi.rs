//! Lets the other end of a veth pair send from XDP. A veth device takes such frames only while it has an XDP program itself
//! (`veth_xdp_flush`; receiving by NAPI for other reasons is not enough), so it gets one that passes everything.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

/// `bpf_cmd`, `bpf_prog_type`, `bpf_attach_type` of `linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// `r0 = XDP_PASS` and `exit`.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// Those for `BPF_LINK_CREATE`.
#[repr(C)]
struct Create {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// The device takes what its peer sends from XDP until this is dropped.
#[derive(Debug)]
pub struct Napi {
    _link: OwnedFd,
}

impl Napi {
    /// For an interface of the namespace that this thread is in.
    ///
    /// # Errors
    /// What the kernel says; it needs root and kernel 5.9.
    pub fn on(interface: &str) -> anyhow::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("interface {interface}"))?;
        let load = Load {
            kind: TYPE_XDP,
            instructions: 2,
            code: PASS.as_ptr() as u64,
            license: c"MIT".as_ptr() as u64,
        };
        let program = bpf(PROG_LOAD, &load).context("a program that passes everything")?;
        let create = Create {
            program: u32::try_from(program.as_raw_fd())?,
            interface: index,
            attach: ATTACH_XDP,
            flags: 0,
        };
        let link = bpf(LINK_CREATE, &create).with_context(|| format!("XDP on {interface}"))?;
        Ok(Self { _link: link })
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are those of the command, and as long as is said; what they point to lives until after the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
