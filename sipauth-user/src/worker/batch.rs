//! Datagrams in batches: `recvmmsg`, `sendmmsg`, and the control messages that carry the local address. All that is unsafe is here.
//!
//! The system's structures point at each other, so they are made on the stack for each call (32 headers cost less than the call)
//! and nothing that points anywhere outlives it.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use socket2::{SockAddr, SockAddrStorage};

use super::latency::nanoseconds;

/// Datagrams in one system call.
pub(super) const BATCH: usize = 32;
/// More than the longest UDP payload of either family (IPv6 without jumbograms).
const BUFFER: usize = 65_536;

/// Room for one `in_pktinfo` or `in6_pktinfo` and a time stamp, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 80]);
// Two headers (16 bytes each) and the longest values, each padded to 8.
const _: () = assert!(
    size_of::<Control>()
        >= 2 * size_of::<libc::cmsghdr>() + size_of::<libc::in6_pktinfo>().next_multiple_of(8) + size_of::<libc::timespec>()
);
const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

/// The buffers that a worker receives into, whatever the socket.
pub(super) struct Receive {
    buffers: Vec<u8>,
    arrived: Vec<Option<Arrived>>,
}

struct Arrived {
    source: SocketAddr,
    local: IpAddr,
    scope: u32,
    stamp: u64,
    length: usize,
}

/// A datagram in the buffers.
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) source: SocketAddr,
    local: IpAddr,
    scope: u32,
    /// When the kernel received it, ns since 1970; 0 where the socket does not ask for stamps.
    pub(super) stamp: u64,
}

impl Datagram<'_> {
    /// What it was sent to, if `port` was the port.
    pub(super) fn destination(&self, port: u16) -> SocketAddr {
        match self.local {
            IpAddr::V4(address) => SocketAddr::V4(SocketAddrV4::new(address, port)),
            IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, port, 0, self.scope)),
        }
    }
}

impl Receive {
    pub(super) fn new() -> Self {
        Self {
            buffers: vec![0; BATCH * BUFFER],
            arrived: Vec::with_capacity(BATCH),
        }
    }

    /// Receives up to `limit` datagrams that are there. What was there before is overwritten.
    pub(super) fn fill(&mut self, socket: &impl AsFd, limit: usize) -> io::Result<usize> {
        self.arrived.clear();
        let mut names = [const { mem::MaybeUninit::<SockAddrStorage>::uninit() }; BATCH];
        let mut controls = [const { mem::MaybeUninit::<Control>::uninit() }; BATCH];
        let mut parts = [EMPTY_PART; BATCH];
        let mut headers = [EMPTY; BATCH];
        let mut count = 0;
        let slots = names
            .iter_mut()
            .zip(&mut controls)
            .zip(&mut parts)
            .zip(&mut headers)
            .zip(self.buffers.chunks_exact_mut(BUFFER));
        for ((((name, control), part), header), buffer) in slots.take(limit) {
            let name = name.write(SockAddrStorage::zeroed());
            *part = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            header.msg_hdr.msg_namelen = name.size_of();
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            let control = control.write(Control([0; 80]));
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = control.0.len() as _;
            count += 1;
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the first `count` headers point at names, vectors, control and data buffers that live until after the call, each
        // with its own length; the last argument, a time limit, may be null.
        let received = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, ptr::null_mut()) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (header, name) in headers.iter().zip(names).take(received) {
            // SAFETY: as many names as headers were filled in above; `received` is at most that.
            let name = unsafe { name.assume_init() };
            self.arrived.push(arrived(header, name));
        }
        Ok(received)
    }

    /// The bytes of a datagram of the last [`Self::fill`], by its place there.
    pub(super) fn bytes(&self, place: usize) -> &[u8] {
        let length = self.arrived.get(place).and_then(Option::as_ref).map_or(0, |arrived| arrived.length);
        let buffer = self.buffers.chunks_exact(BUFFER).nth(place);
        buffer.and_then(|buffer| buffer.get(..length)).unwrap_or_default()
    }

    /// The datagrams of the last [`Self::fill`]; `None` for one that nothing can be done with.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Option<Datagram<'_>>> {
        self.arrived.iter().zip(self.buffers.chunks_exact(BUFFER)).map(|(arrived, buffer)| {
            let arrived = arrived.as_ref()?;
            let bytes = buffer.get(..arrived.length)?;
            Some(Datagram {
                bytes,
                source: arrived.source,
                local: arrived.local,
                scope: arrived.scope,
                stamp: arrived.stamp,
            })
        })
    }
}

const EMPTY_PART: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};
const EMPTY: libc::mmsghdr = {
    // SAFETY: integers and raw pointers; zero is a valid value of each.
    unsafe { mem::zeroed() }
};

fn arrived(header: &libc::mmsghdr, name: SockAddrStorage) -> Option<Arrived> {
    if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return None;
    }
    // SAFETY: the kernel wrote the address and its length.
    let source = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) }.as_socket()?;
    let Told { local, stamp } = told(&header.msg_hdr);
    let (local, interface) = local?;
    // Only a link-local address needs its interface to be told apart.
    let scope = if matches!(local, IpAddr::V6(address) if address.is_unicast_link_local()) {
        interface
    } else {
        0
    };
    Some(Arrived {
        source,
        local,
        scope,
        stamp,
        length: usize::try_from(header.msg_len).ok()?,
    })
}

/// What the kernel told of a datagram.
#[derive(Default)]
struct Told {
    /// The address in the IP header, and the interface of arrival.
    local: Option<(IpAddr, u32)>,
    stamp: u64,
}

fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: `msg_control` points at a live `Control`, and the kernel set `msg_controllen` to what it filled.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: null or inside the control buffer, by `CMSG_FIRSTHDR` and `CMSG_NXTHDR`.
    while let Some(control) = unsafe { message.as_ref() } {
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(message) };
        match (control.cmsg_level, control.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: a message of this type has an `in_pktinfo`, not necessarily aligned.
                let info: libc::in_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                let address = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                told.local = Some((address.into(), u32::try_from(info.ipi_ifindex).unwrap_or(0)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: a message of this type has an `in6_pktinfo`, not necessarily aligned.
                let info: libc::in6_pktinfo = unsafe { ptr::read_unaligned(data.cast()) };
                told.local = Some((Ipv6Addr::from(info.ipi6_addr.s6_addr).into(), info.ipi6_ifindex));
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: a message of this type has a `timespec`, not necessarily aligned.
                let time: libc::timespec = unsafe { ptr::read_unaligned(data.cast()) };
                told.stamp = nanoseconds(time.tv_sec, time.tv_nsec);
            }
            _ => {}
        }
        // SAFETY: `message` is not null and inside the buffer.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    told
}

/// A datagram to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) to: SocketAddr,
    /// The local address to send from; `None` where the datagram has its own IP header.
    pub(super) from: Option<IpAddr>,
    /// One after the other.
    pub(super) parts: [&'a [u8]; 2],
}

/// Sends the first of these, up to [`BATCH`]; says how many went. An error concerns the first.
pub(super) fn send<'a>(socket: &impl AsFd, datagrams: impl Iterator<Item = Outgoing<'a>>) -> io::Result<usize> {
    let mut names = [const { None::<SockAddr> }; BATCH];
    let mut controls = [const { mem::MaybeUninit::<Control>::uninit() }; BATCH];
    let mut parts = [[EMPTY_PART; 2]; BATCH];
    let mut headers = [EMPTY; BATCH];
    let mut count = 0;
    let slots = names.iter_mut().zip(&mut controls).zip(&mut parts).zip(&mut headers);
    for ((((name, control), parts), header), datagram) in slots.zip(datagrams) {
        let name = name.insert(SockAddr::from(datagram.to));
        *parts = datagram.parts.map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = name.len();
        header.msg_hdr.msg_iov = parts.as_mut_ptr();
        header.msg_hdr.msg_iovlen = parts.len() as _;
        if let Some(from) = datagram.from {
            let control = control.write(Control([0; 80]));
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = control.0.len() as _;
            set_source(&mut header.msg_hdr, from);
        }
        count += 1;
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the first `count` headers point at names, vectors, control and data buffers that live until after the call, each with
    // its own length; the kernel only reads what the vectors point at.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the control message that makes the kernel send from `from`; the interface is left to routing.
fn set_source(header: &mut libc::msghdr, from: IpAddr) {
    match from {
        IpAddr::V4(address) => {
            let source = libc::in_addr {
                s_addr: u32::from_ne_bytes(address.octets()),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: source,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            set_control(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: 0,
            };
            set_control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

/// Makes `value` the only control message; `header` must point at a [`Control`].
fn set_control<T: Copy>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    const { assert!(size_of::<T>() <= size_of::<libc::in6_pktinfo>()) };
    #[expect(clippy::cast_possible_truncation, reason = "at most the size of in6_pktinfo, asserted above")]
    let length = size_of::<T>() as u32;
    // SAFETY: `CMSG_SPACE` and `CMSG_LEN` only compute; the control buffer is aligned and long enough for any `T` within the limit
    // asserted above (and next to `Control`), so `CMSG_FIRSTHDR` is not null and `CMSG_DATA` has room; `T` may be unaligned there.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(length) as _;
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(length) as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
    }
}

/// Makes the kernel choose among the sockets that share the port by the source address alone. By default it hashes the ports in too,
/// and one source would be several to us.
pub(super) fn steer_by_source(socket: &impl AsFd, ipv6: bool, sockets: usize) -> io::Result<()> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const ALU: u32 = libc::BPF_ALU;
    #[expect(clippy::cast_possible_truncation, reason = "operation codes fit 16 bits")]
    const fn step(code: u32, k: u32) -> libc::sock_filter {
        libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        }
    }
    let sockets = u32::try_from(sockets).map_err(|_| io::ErrorKind::InvalidInput)?;
    let header = libc::SKF_NET_OFF.cast_unsigned();
    let mut program = Vec::with_capacity(16);
    if ipv6 {
        // The upper 64 bits only: whoever has a host there usually has all of its /64.
        program.push(step(LOAD, header + 8));
        program.push(step(libc::BPF_MISC | libc::BPF_TAX, 0));
        program.push(step(LOAD, header + 12));
        program.push(step(ALU | libc::BPF_XOR | libc::BPF_X, 0));
    } else {
        program.push(step(LOAD, header + 12));
    }
    // Neighbouring addresses, and those that differ in a few bits only, to different sockets.
    program.push(step(ALU | libc::BPF_MUL | libc::BPF_K, 0x9e37_79b1));
    program.push(step(ALU | libc::BPF_RSH | libc::BPF_K, 16));
    program.push(step(ALU | libc::BPF_MOD | libc::BPF_K, sockets));
    program.push(step(libc::BPF_RET | libc::BPF_A, 0));
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let value = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    #[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the option takes a `sock_fprog`, whose pointer and length describe `program`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const value).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
