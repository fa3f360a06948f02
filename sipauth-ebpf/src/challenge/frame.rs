//! The way back: the request's frame with the response in it, from where it came to where it came from.

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
};
use sipauth_common::decide::UDP;

use super::{REQUEST_ROOM, response};
use crate::{maps::SCRATCH, packet::Packet, parse::Parsed};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const HOPS: u16 = 64;

/// Makes the frame that of the response, whose `len` bytes (1 at least) are in the draft; 0 where it stays as it was.
///
/// # Safety
/// `ctx` is the context that the kernel called the program with.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) unsafe extern "C" fn sipauth_send_back(ctx: *mut xdp_md, len: u32) -> u32 {
    let Some(parsed) = SCRATCH.get(0) else { return 0 };
    // SAFETY: the caller's promise.
    u32::from(unsafe { send_back(ctx, parsed, len as usize) })
}

/// # Safety
/// As [`sipauth_send_back`].
#[inline(always)]
unsafe fn send_back(ctx: *mut xdp_md, parsed: &Parsed, len: usize) -> bool {
    // SAFETY: the caller's promise.
    let before = unsafe { packet(ctx) };
    let (v4, network) = match parsed.view.source.v4() {
        Some(_) => (true, parsed.transport.wrapping_sub(IPV4_HEADER)),
        None => (false, parsed.transport.wrapping_sub(IPV6_HEADER)),
    };
    // No options or extension headers, no group as receiver or sender.
    let plain = match (before.number(network), before.number(network + 6)) {
        (Some(first), _) if v4 => first >> 8 == 0x45,
        (Some(first), Some(next)) => first >> 12 == 6 && next >> 8 == u16::from(UDP),
        _ => false,
    };
    if !plain || before.number(0).is_none_or(|receiver| receiver & 0x100 != 0) || !answerable(&parsed.view.source.0, v4) {
        return false;
    }
    let grow = (parsed.payload + len) as i32 - before.len as i32;
    // SAFETY: the caller's promise.
    let after = unsafe {
        if bpf_xdp_adjust_tail(ctx, grow) != 0 {
            return false;
        }
        packet(ctx)
    };
    // From here on nothing can fail; if it did, the checksum would be wrong, and the request be sent again.
    let _ = ethernet(&after);
    let _ = if v4 {
        ipv4(&after, network, len)
    } else {
        ipv6(&after, network, len)
    };
    let _ = udp(&after, parsed, v4, len);
    if let Some(text) = response() {
        // The last byte's offset, so that the length below is seen to be 1 at least, which the helper wants.
        let mut last = len - 1;
        // SAFETY: masks a register, see `search::Request::word`. The draft is longer than that, and the context the caller's.
        unsafe {
            asm!("{last} &= 2047", last = inout(reg) last, options(nomem, nostack));
            bpf_xdp_store_bytes(ctx, parsed.payload as u32, text.cast(), last as u32 + 1);
        }
    }
    true
}

/// # Safety
/// As [`sipauth_send_back`].
#[inline(always)]
unsafe fn packet(ctx: *mut xdp_md) -> Packet {
    // SAFETY: the caller's promise. Volatile, so that it is read again after the length was changed.
    let (data, end) = unsafe {
        (
            (&raw const (*ctx).data).read_volatile() as usize,
            (&raw const (*ctx).data_end).read_volatile() as usize,
        )
    };
    let mut len = end - data;
    // SAFETY: adds nothing. The compiler cannot look through it, or it would put the difference of pointers off, to where it has only
    // 32 bits, which the verifier forbids.
    unsafe { asm!("{len} += 0", len = inout(reg) len, options(nomem, nostack)) };
    Packet::new(data, end, len)
}

/// Not this network, this host, or a group: nobody answers these.
#[inline(always)]
fn answerable(address: &[u32; 4], v4: bool) -> bool {
    let first = if v4 { address[3] } else { address[0] } as u8;
    if v4 {
        first != 0 && first != 127 && first < 224
    } else {
        first != 0 && first != 0xff
    }
}

/// Swaps two 16-bit fields.
#[inline(always)]
fn swap(packet: &Packet, one: usize, other: usize) -> Option<()> {
    let (a, b) = (packet.read::<u16>(one)?, packet.read::<u16>(other)?);
    (packet.write(one, b) && packet.write(other, a)).then_some(())
}

#[inline(always)]
fn ethernet(packet: &Packet) -> Option<()> {
    swap(packet, 0, 6)?;
    swap(packet, 2, 8)?;
    swap(packet, 4, 10)
}

#[inline(always)]
fn ipv4(packet: &Packet, at: usize, len: usize) -> Option<()> {
    let total = (IPV4_HEADER + UDP_HEADER + len) as u16;
    // Not to be told from the next one by its number, which matters to fragments only (RFC 6864); they are allowed.
    let fields = [(2, total), (4, packet.number(at + 4)?), (6, 0), (8, HOPS << 8 | u16::from(UDP))];
    let mut sum = u64::from(packet.read::<u16>(at)?);
    for (offset, value) in fields {
        sum += u64::from(value.to_be());
        packet.write(at + offset, value.to_be());
    }
    for offset in [12, 14, 16, 18] {
        sum += u64::from(packet.read::<u16>(at + offset)?);
    }
    packet.write(at + 10, !fold(sum));
    swap(packet, at + 12, at + 16)?;
    swap(packet, at + 14, at + 18)
}

#[inline(always)]
fn ipv6(packet: &Packet, at: usize, len: usize) -> Option<()> {
    packet.write(at + 4, ((UDP_HEADER + len) as u16).to_be());
    packet.write(at + 6, (u16::from(UDP) << 8 | HOPS).to_be());
    for offset in [8, 10, 12, 14, 16, 18, 20, 22] {
        swap(packet, at + offset, at + offset + 16)?;
    }
    Some(())
}

#[inline(always)]
fn udp(packet: &Packet, parsed: &Parsed, v4: bool, len: usize) -> Option<()> {
    let at = parsed.transport;
    let length = ((UDP_HEADER + len) as u16).to_be();
    swap(packet, at, at + 2)?;
    packet.write(at + 4, length);
    let mut sum = sipauth_sum(len as u32) + u64::from(u16::from(UDP).to_be()) + 2 * u64::from(length);
    sum += u64::from(packet.read::<u16>(at)?) + u64::from(packet.read::<u16>(at + 2)?);
    // The pseudo header's addresses; those of IPv4 without what the mapped form has in front.
    let (from, to) = (&parsed.view.source.0, &parsed.destination.0);
    sum += u64::from(from[3]) + u64::from(to[3]);
    if !v4 {
        for i in 0..3 {
            sum += u64::from(from[i]) + u64::from(to[i]);
        }
    }
    let checksum = match !fold(sum) {
        // Zero would mean "no checksum" (RFC 768).
        0 => u16::MAX,
        other => other,
    };
    packet.write(at + 6, checksum);
    Some(())
}

/// The sum for the Internet checksum over the first `len` bytes of the draft, which has zeros behind, in memory order.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_sum(len: u32) -> u64 {
    let Some(text) = response() else { return 0 };
    let text: *const u64 = text.cast();
    let mut sum = 0;
    for i in 0..REQUEST_ROOM / 8 {
        if i * 8 >= len as usize {
            break;
        }
        // SAFETY: inside the draft.
        let word = unsafe { *text.add(i) };
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    sum
}

/// Folded to 16 bits.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32 & 0xffff) + (sum >> 48);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
