//! Ethernet II, with up to two VLAN tags (802.1Q, 802.1ad). A frame with more is dropped: the kernel strips any number of
//! tags that name VLAN 0 and delivers what is inside, so passed unread it could be SIP.

use crate::packet::Packet;

/// EtherType of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
/// EtherType of a tag (802.1Q).
pub(crate) const VLAN: u16 = 0x8100;
/// EtherType of a service tag (802.1ad).
pub(crate) const VLAN_SERVICE: u16 = 0x88a8;

/// The EtherType behind the first two tags and the offset of what follows it; `None` for a frame that ends before.
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
