//! IPv4 (RFC 791), with options and fragments.

use sipauth_common::{
    address::Address,
    decide::{TCP, UDP},
    reason::Reason,
};

use super::{Network, Next};
use crate::packet::Packet;

const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub fn read(packet: &Packet, at: usize) -> Result<Network, Reason> {
    let words = [
        packet.read::<u32>(at),
        packet.read(at + 4),
        packet.read(at + 8),
        packet.read(at + 12),
        packet.read(at + 16),
    ];
    let [Some(first), Some(second), Some(third), Some(source), Some(destination)] = words else {
        return Err(Reason::Truncated);
    };
    let first = u32::from_be(first);
    let header = ((first >> 24) & 0xf) as usize * 4;
    let total = (first & 0xffff) as usize;
    if first >> 28 != 4 || header < 20 || total < header {
        return Err(Reason::BadIpHeader);
    }
    // Bytes beyond `total` are the padding of a short Ethernet frame.
    if at + total > packet.len {
        return Err(Reason::Truncated);
    }
    let fragment = (u32::from_be(second) & 0xffff) as u16;
    let protocol = ((u32::from_be(third) >> 16) & 0xff) as u8;
    let next = if protocol != UDP && protocol != TCP {
        Next::Other
    } else if fragment & FRAGMENT_OFFSET != 0 {
        Next::LaterFragment
    } else {
        Next::Transport {
            protocol,
            offset: at + header,
            len: total - header,
            first_fragment: fragment & MORE_FRAGMENTS != 0,
        }
    };
    Ok(Network {
        source: Address::from_v4(source),
        destination: Address::from_v4(destination),
        next,
    })
}
