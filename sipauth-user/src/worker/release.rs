//! The way of an authenticated datagram to the softswitch: unchanged, with the gateway's own address and port as its source.
//!
//! Raw sockets that take the IP header from us. The destination is local, so the datagram goes over `lo` and does not meet the
//! XDP program again. The kernel keeps the route of the way out for the way in over `lo` (`loopback_xmit` leaves the dst entry on
//! the packet), so the check of source addresses never runs: neither `rp_filter` nor `accept_local` matters.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::batch::{self, Outgoing};

const UDP: u8 = sipauth_common::decide::UDP;
const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const HOPS: u8 = 64;

/// One raw socket a family.
#[derive(Debug)]
pub(super) struct Releaser {
    v4: Socket,
    v6: Option<Socket>,
}

impl Releaser {
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub(super) fn new() -> io::Result<Self> {
        let v6 = match raw(Domain::IPV6) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            other => Some(other?),
        };
        Ok(Self {
            v4: raw(Domain::IPV4)?,
            v6,
        })
    }

    /// Sends the first of these, up to a batch and as far as they are of one family; says how many went. `payload` has the bytes of a
    /// place. Over IPv6 at most 65,488 bytes fit the MTU of `lo`.
    ///
    /// # Errors
    /// What the kernel says of the first; [`is_busy`] tells whether only room was lacking.
    pub(super) fn send<'a>(&self, releases: &'a [Release], payload: impl Fn(usize) -> &'a [u8]) -> io::Result<usize> {
        let ipv4 = releases.first().is_some_and(|first| first.to.is_ipv4());
        let socket = if ipv4 { Some(&self.v4) } else { self.v6.as_ref() };
        let socket = socket.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        let alike = releases.iter().take_while(|one| one.to.is_ipv4() == ipv4);
        batch::send(
            socket,
            alike.map(|one| Outgoing {
                to: one.to,
                from: None,
                parts: [one.headers.get(..one.length).unwrap_or_default(), payload(one.place)],
            }),
        )
    }
}

/// The headers of a datagram on its way to the softswitch.
#[derive(Debug)]
pub(super) struct Release {
    headers: [u8; IPV6_HEADER + UDP_HEADER],
    /// Of the headers.
    length: usize,
    /// For the socket.
    to: SocketAddr,
    /// Where its payload is.
    place: usize,
    pub(super) source: SocketAddr,
}

impl Release {
    /// Of `payload`, which is at `place`.
    ///
    /// # Errors
    /// For a payload that no datagram can have, or addresses of two families.
    pub(super) fn new(payload: &[u8], place: usize, source: SocketAddr, destination: SocketAddr) -> io::Result<Self> {
        let too_long = || io::Error::from_raw_os_error(libc::EMSGSIZE);
        let length = u16::try_from(UDP_HEADER + payload.len()).map_err(|_| too_long())?;
        let mut headers = [0; IPV6_HEADER + UDP_HEADER];
        let (ip, udp, to) = match (source, destination) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let total = u16::try_from(IPV4_HEADER + UDP_HEADER + payload.len()).map_err(|_| too_long())?;
                headers[..IPV4_HEADER].copy_from_slice(&ipv4_header(&from, &to, total));
                (IPV4_HEADER, pseudo_v4(&from, &to), destination)
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                headers[..IPV6_HEADER].copy_from_slice(&ipv6_header(&from, &to, length));
                // A raw IPv6 socket takes the port for a protocol number, and wants none.
                let address = SocketAddrV6::new(*to.ip(), 0, 0, to.scope_id());
                (IPV6_HEADER, pseudo_v6(&from, &to), SocketAddr::V6(address))
            }
            _ => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        };
        headers[ip..ip + UDP_HEADER].copy_from_slice(&udp_header(udp, length, source.port(), destination.port(), payload));
        Ok(Self {
            headers,
            length: ip + UDP_HEADER,
            to,
            place,
            source,
        })
    }
}

/// Whether a later attempt could succeed.
pub(super) fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM))
}

/// `IPPROTO_RAW` means: the header comes from us, and nothing is ever received.
fn raw(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Identification and checksum are zero: the kernel fills both. DF is off, as fits a datagram that may have come in fragments.
fn ipv4_header(from: &SocketAddrV4, to: &SocketAddrV4, total: u16) -> [u8; IPV4_HEADER] {
    let mut header = [0; IPV4_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[8] = HOPS;
    header[9] = UDP;
    header[12..16].copy_from_slice(&from.ip().octets());
    header[16..20].copy_from_slice(&to.ip().octets());
    header
}

fn ipv6_header(from: &SocketAddrV6, to: &SocketAddrV6, length: u16) -> [u8; IPV6_HEADER] {
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = UDP;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&from.ip().octets());
    header[24..40].copy_from_slice(&to.ip().octets());
    header
}

fn udp_header(addresses: u64, length: u16, from: u16, to: u16, payload: &[u8]) -> [u8; UDP_HEADER] {
    let mut header = [0; UDP_HEADER];
    header[0..2].copy_from_slice(&from.to_be_bytes());
    header[2..4].copy_from_slice(&to.to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    let pseudo = sum(&[0, UDP]) + sum(&length.to_be_bytes());
    let checksum = match fold(addresses + pseudo + sum(&header) + sum(payload)) {
        // Zero would mean "no checksum", which IPv6 forbids (RFC 8200, 8.1).
        0 => u16::MAX,
        other => other,
    };
    header[6..8].copy_from_slice(&checksum.to_ne_bytes());
    header
}

fn pseudo_v4(from: &SocketAddrV4, to: &SocketAddrV4) -> u64 {
    sum(&from.ip().octets()) + sum(&to.ip().octets())
}

fn pseudo_v6(from: &SocketAddrV6, to: &SocketAddrV6) -> u64 {
    sum(&from.ip().octets()) + sum(&to.ip().octets())
}

/// The sum for the Internet checksum, in memory order: it does not depend on the byte order (RFC 1071, 2 B).
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum::<u64>() + u64::from(u32::from_ne_bytes(last))
}

/// Folded to 16 bits and complemented.
#[expect(clippy::cast_possible_truncation, reason = "four folds leave at most 16 bits")]
fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    for _ in 0..4 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests;
