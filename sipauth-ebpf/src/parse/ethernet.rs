//! Ethernet II, with up to two VLAN tags (802.1Q, 802.1ad).

use crate::packet::Packet;

/// EtherType of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const VLAN_SERVICE: u16 = 0x88a8;

/// The EtherType behind the tags and the offset of what follows it; `None` for a frame that ends before.
#[inline(always)]
pub(crate) fn read(packet: &Packet) -> Option<(u16, usize)> {
    let mut offset = 14;
    let mut kind = packet.number(12)?;
    for _ in 0..2 {
        if kind != VLAN && kind != VLAN_SERVICE {
            break;
        }
        kind = packet.number(offset + 2)?;
        offset += 4;
    }
    Some((kind, offset))
}
