//! What the kernel says of interfaces and routes. By netlink, since sysfs may show another network namespace than the caller's.

mod generic;

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
    route::{RouteAttribute, RouteMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use self::generic::{XdpFeatures, offloads, xdp_features};

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its id.
    pub id: u32,
    /// In the driver; otherwise in the stack, or in the card.
    pub mode: XdpAttached,
}

impl Program {
    /// Name of the mode in output.
    #[must_use]
    pub const fn mode_label(&self) -> &'static str {
        match self.mode {
            XdpAttached::Driver => "native",
            XdpAttached::SocketBuffer => "generic",
            XdpAttached::Hardware => "offloaded",
            _ => "several",
        }
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Switched on.
    pub up: bool,
    /// Something is at the other end.
    pub carrier: bool,
    /// Longest packet.
    pub mtu: u32,
    /// `veth`, `vlan`, `bond` …; `None` of a card.
    pub kind: Option<String>,
    /// The interface below, of a VLAN for one.
    pub below: Option<u32>,
    /// The XDP program on it.
    pub xdp: Option<Program>,
}

/// An interface by its number.
///
/// # Errors
/// There is none, or the kernel does not answer.
pub fn link(index: u32) -> io::Result<Link> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let found = request(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST)?;
    found.into_iter().find_map(read_link).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// All interfaces.
///
/// # Errors
/// The kernel does not answer.
pub fn links() -> io::Result<Vec<Link>> {
    let found = request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_REQUEST | NLM_F_DUMP)?;
    Ok(found.into_iter().filter_map(read_link).collect())
}

/// The interface by which packets go to an address; `None` where there is no way.
///
/// # Errors
/// The kernel does not answer.
pub fn way_to(address: IpAddr) -> io::Result<Option<u32>> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    match request(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST) {
        Ok(found) => Ok(found.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => route.attributes.into_iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(index),
                _ => None,
            }),
            _ => None,
        })),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mtu: 0,
        kind: None,
        below: None,
        xdp: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(below) => link.below = Some(below),
            LinkAttribute::LinkInfo(all) => link.kind = all.iter().find_map(kind),
            LinkAttribute::Xdp(all) => link.xdp = program(&all),
            _ => {}
        }
    }
    Some(link)
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn program(attributes: &[LinkXdp]) -> Option<Program> {
    let (mut id, mut mode) = (None, None);
    for attribute in attributes {
        match attribute {
            LinkXdp::ProgId(program) => id = Some(*program),
            LinkXdp::Attached(as_what) => mode = Some(*as_what),
            _ => {}
        }
    }
    let mode = mode.filter(|mode| *mode != XdpAttached::None)?;
    Some(Program { id: id?, mode })
}

/// Asks rtnetlink; all answers.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let mut answers = Vec::new();
    exchange(NETLINK_ROUTE, &bytes, |answer| {
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer).map_err(io::Error::other)?;
        if let NetlinkPayload::InnerMessage(message) = answer.payload {
            answers.push(message);
        }
        Ok(())
    })?;
    Ok(answers)
}

/// Sends a request and gives every message of the answer to `take`, until the last.
fn exchange(protocol: isize, bytes: &[u8], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const MULTI: u16 = 2;
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(bytes, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        let mut more = false;
        while let Some(head) = rest.get(..16) {
            let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let (kind, flags) = (u16::from_ne_bytes([head[4], head[5]]), u16::from_ne_bytes([head[6], head[7]]));
            let message = rest
                .get(..length)
                .filter(|message| message.len() >= 16)
                .ok_or(io::ErrorKind::InvalidData)?;
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = message.get(16..20).ok_or(io::ErrorKind::InvalidData)?;
                    return match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
                        0 => Ok(()),
                        errno => Err(io::Error::from_raw_os_error(-errno)),
                    };
                }
                _ => take(message)?,
            }
            more |= flags & MULTI != 0;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_and_leads_to_itself() {
        let lo = links().expect("interfaces").into_iter().find(|link| link.name == "lo").expect("lo");
        assert_eq!(link(lo.index).expect("lo"), lo);
        assert!(lo.xdp.is_none() && lo.mtu >= 65_536, "{lo:?}");
        if lo.up {
            assert_eq!(way_to(IpAddr::from([127, 0, 0, 1])).expect("an answer"), Some(lo.index));
        }
        assert!(link(u32::MAX / 2).is_err());
    }

    #[test]
    fn the_kernel_says_what_is_switched_on() {
        let lo = links().expect("interfaces").into_iter().find(|link| link.name == "lo").expect("lo");
        let on = offloads(lo.index).expect("offloads");
        assert!(
            on.iter().any(|name| name == "tx-generic-segmentation" || name == "rx-gro"),
            "{on:?}"
        );
    }
}
