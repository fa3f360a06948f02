//! Generic netlink: what drivers can do with XDP (kernel 6.3), and which offloads are on (5.7). So little of it that a library would be more.

use std::io;

use netlink_packet_core::{NLA_F_NESTED, NlaBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::exchange;

/// `CTRL_CMD_GETFAMILY` of the family `nlctrl`, and its attributes (`linux/genetlink.h`).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `linux/netdev.h`.
const DEV_GET: u8 = 1;
const DEV_INDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;
/// `linux/ethtool_netlink.h`.
const FEATURES_GET: u8 = 11;
const FEATURES_HEADER: u16 = 1;
const HEADER_INDEX: u16 = 1;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_BITS: u16 = 3;
const BIT_NAME: u16 = 2;

/// What a driver can do with XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Programs run in the driver.
    pub native: bool,
    /// Frames of more than one buffer, so that the MTU may be above a page.
    pub multi_buffer: bool,
}

/// What the driver of an interface can do.
///
/// # Errors
/// A kernel before 6.3, or no such interface.
pub fn xdp_features(index: u32) -> io::Result<XdpFeatures> {
    const BASIC: u64 = 1;
    const RX_SG: u64 = 1 << 5;
    let mut features = None;
    request("netdev", DEV_GET, &attribute(DEV_INDEX, &index.to_ne_bytes()), |kind, value| {
        if kind == DEV_XDP_FEATURES {
            features = value.try_into().ok().map(u64::from_ne_bytes);
        }
    })?;
    let bits = features.ok_or(io::ErrorKind::InvalidData)?;
    Ok(XdpFeatures {
        native: bits & BASIC != 0,
        multi_buffer: bits & RX_SG != 0,
    })
}

/// The names of the offloads that are on, as `ethtool -k` knows them under the hood (`rx-lro`).
///
/// # Errors
/// A kernel before 5.7, or no such interface.
pub fn offloads(index: u32) -> io::Result<Vec<String>> {
    let header = attribute(FEATURES_HEADER | NLA_F_NESTED, &attribute(HEADER_INDEX, &index.to_ne_bytes()));
    let mut names = Vec::new();
    request("ethtool", FEATURES_GET, &header, |kind, value| {
        if kind != FEATURES_ACTIVE {
            return;
        }
        for bits in nested(value).filter(|bits| bits.kind() == BITSET_BITS) {
            for bit in nested(bits.value()) {
                for name in nested(bit.value()).filter(|name| name.kind() == BIT_NAME) {
                    let text = String::from_utf8_lossy(name.value());
                    names.push(text.trim_end_matches('\0').to_owned());
                }
            }
        }
    })?;
    Ok(names)
}

/// Asks a family by its name; gives each attribute of the answer to `take`.
fn request(family: &str, command: u8, attributes: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut name = family.as_bytes().to_vec();
    name.push(0);
    let mut id = None;
    send(CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, &name), |kind, value| {
        if kind == FAMILY_ID {
            id = value.try_into().ok().map(u16::from_ne_bytes);
        }
    })?;
    let id = id.ok_or(io::ErrorKind::NotFound)?;
    send(id, command, attributes, &mut take)
}

fn send(kind: u16, command: u8, attributes: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    const REQUEST: u16 = 1;
    let length = u32::try_from(20 + attributes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    // Number of the request and of the sender: the kernel fills in what matters.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    exchange(NETLINK_GENERIC, &bytes, |message| {
        for one in nested(message.get(20..).unwrap_or_default()) {
            take(one.kind(), one.value());
        }
        Ok(())
    })
}

fn nested(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).filter_map(Result::ok)
}

/// One attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
