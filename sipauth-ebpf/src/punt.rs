//! Hands a packet to the agent: another destination port, and the checksum to match.

use sipauth_common::decide::Content;

use crate::{packet::Packet, parse::Parsed};

/// Rewrites the destination port (given and taken in host order); false where the packet cannot be written, and must not pass.
#[inline(always)]
pub(crate) fn redirect(packet: &Packet, parsed: &Parsed, port: u16) -> bool {
    if port == 0 {
        return false;
    }
    let udp = matches!(parsed.view.content, Content::Udp(_));
    let checksum_at = parsed.transport + if udp { 6 } else { 16 };
    let (old, new) = (parsed.view.destination_port, port);
    let Some(checksum) = packet.number(checksum_at) else { return false };
    // A UDP checksum of zero means that there is none (RFC 768).
    if !(udp && checksum == 0) {
        let mut updated = update(checksum, old, new);
        if udp && updated == 0 {
            updated = 0xffff;
        }
        if !packet.write(checksum_at, updated.to_be()) {
            return false;
        }
    }
    packet.write(parsed.transport + 2, new.to_be())
}

/// RFC 1624, equation 3: the checksum after one 16-bit field changed.
#[inline(always)]
fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
