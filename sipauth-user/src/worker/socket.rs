//! The sockets that punted datagrams arrive at: one for each worker, protected port, lane and family.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use nix::sys::socket::{setsockopt, sockopt};
use sipauth_common::config::Lane;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Options, PuntPorts, WorkerError, batch};

/// Room for some 2,000 requests while a worker is busy; the kernel counts them with its own overhead.
const RECEIVE_BYTES: usize = 4 << 20;

/// A bound socket, and what arrives at it.
#[derive(Debug)]
pub(super) struct Endpoint<S> {
    pub(super) socket: S,
    pub(super) lane: Lane,
    pub(super) protected: u16,
}

/// Binds all sockets: the list of each worker, in the order of lanes, which is the order of service.
pub(super) fn bind(options: &Options) -> Result<Vec<Vec<Endpoint<UdpSocket>>>, WorkerError> {
    let workers = options.workers.get();
    let mut groups: Vec<Vec<Endpoint<UdpSocket>>> = (0..workers).map(|_| Vec::new()).collect();
    for (lane, ports, address) in addresses(&options.ports) {
        let failed = |source| WorkerError::Bind {
            port: address.port(),
            protected: ports.protected,
            source,
        };
        match probe(address) {
            Ok(()) => {}
            Err(error) if address.is_ipv6() && lacks_ipv6(&error) => continue,
            Err(error) => return Err(failed(error)),
        }
        // The position in the kernel's group is the order of binding, and the program that is attached returns positions.
        for (index, group) in groups.iter_mut().enumerate() {
            let socket = open(address, options.timestamps).map_err(failed)?;
            if index == 0 && workers > 1 {
                batch::steer_by_source(&socket, address.is_ipv6(), workers).map_err(failed)?;
            }
            group.push(Endpoint {
                socket,
                lane,
                protected: ports.protected,
            });
        }
    }
    Ok(groups)
}

pub(super) fn addresses(ports: &[PuntPorts]) -> impl Iterator<Item = (Lane, &PuntPorts, SocketAddr)> {
    Lane::ALL.into_iter().flat_map(move |lane| {
        ports.iter().flat_map(move |ports| {
            let port = ports.punt[lane as usize];
            [
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ]
            .map(|address| (lane, ports, address))
        })
    })
}

/// Whether anyone else has the port. `SO_REUSEPORT` alone would let us in beside another process of root's that sets it too, and the
/// kernel would give that process a share of the datagrams.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))
}

fn open(address: SocketAddr, timestamps: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it the kernel gives what it allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    if timestamps {
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// The host was started without IPv6.
pub(super) fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
