//! IPv6 (RFC 8200), with its extension headers and fragments.

use sipauth_common::{
    address::Address,
    decide::{TCP, UDP},
    reason::Reason,
};

use super::{Network, Next};
use crate::packet::Packet;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// More extension headers than any sane sender uses. A packet with more is dropped: passed unread it could be SIP.
const MAX_EXTENSIONS: usize = 8;
/// Likewise for their length.
const MAX_EXTENSION_BYTES: usize = 1_024;

#[inline(always)]
pub(crate) fn read(packet: &Packet, at: usize) -> Result<Network, Reason> {
    let (Some(first), Some(second)) = (packet.read::<u32>(at), packet.read::<u32>(at + 4)) else {
        return Err(Reason::Truncated);
    };
    let (Some(source), Some(destination)) = (address(packet, at + 8), address(packet, at + 24)) else {
        return Err(Reason::Truncated);
    };
    if u32::from_be(first) >> 28 != 6 {
        return Err(Reason::BadIpHeader);
    }
    // An IPv4-mapped source must not appear on the wire; here it would be taken for the IPv4 gateway. Linux drops it too, from 5.5 on.
    if source.v4().is_some() {
        return Err(Reason::BadIpHeader);
    }
    let second = u32::from_be(second);
    let payload = (second >> 16) as usize;
    if at + 40 + payload > packet.len {
        return Err(Reason::Truncated);
    }
    let next = extensions(packet, (second >> 8 & 0xff) as u8, at + 40, payload)?;
    Ok(Network { source, destination, next })
}

#[inline(always)]
fn address(packet: &Packet, at: usize) -> Option<Address> {
    Some(Address([
        packet.read(at)?,
        packet.read(at + 4)?,
        packet.read(at + 8)?,
        packet.read(at + 12)?,
    ]))
}

/// Walks the chain of `len` bytes at `start`, up to a transport header.
#[inline(always)]
fn extensions(packet: &Packet, first: u8, start: usize, len: usize) -> Result<Next, Reason> {
    let mut protocol = first;
    let mut skipped = 0;
    let mut first_fragment = false;
    for walked in 0..=MAX_EXTENSIONS {
        if protocol == UDP || protocol == TCP {
            return Ok(Next::Transport {
                protocol,
                offset: start + skipped,
                len: len - skipped,
                first_fragment,
            });
        }
        if !is_extension(protocol) {
            return Ok(Next::Other);
        }
        // Before it is read: as a later fragment it would pass.
        if walked == MAX_EXTENSIONS {
            return Err(Reason::BadExtension);
        }
        if skipped + 8 > len {
            return Err(Reason::Truncated);
        }
        let Some(word) = packet.read::<u32>(start + skipped) else {
            return Err(Reason::Truncated);
        };
        let word = u32::from_be(word);
        let follows = (word >> 24) as u8;
        let units = (word >> 16 & 0xff) as usize;
        let size = match protocol {
            FRAGMENT => {
                let fragment = word & 0xffff;
                if fragment >> 3 != 0 {
                    // What comes next in the whole packet is in its first fragment only; an extension may hide anything.
                    let ours = follows == UDP || follows == TCP || is_extension(follows);
                    return Ok(if ours { Next::LaterFragment } else { Next::Other });
                }
                first_fragment |= fragment & 1 != 0;
                8
            }
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        skipped += size;
        if skipped > len {
            return Err(Reason::Truncated);
        }
        if skipped > MAX_EXTENSION_BYTES {
            return Err(Reason::BadExtension);
        }
        protocol = follows;
    }
    Err(Reason::BadExtension)
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}
