//! UDP (RFC 768) and TCP (RFC 9293), up to the first bytes of the payload.

use core::arch::asm;

use sipauth_common::{
    decide::{Content, TCP},
    reason::Reason,
    sip::{self, WINDOW, Window},
};

use super::Parsed;
use crate::packet::Packet;

const SYN: u16 = 0x02;
const ACK: u16 = 0x10;

/// Reads the header of `protocol` at `at`, of which `len` bytes are in this IP packet.
#[inline(always)]
pub(crate) fn read(packet: &Packet, parsed: &mut Parsed, protocol: u8, at: usize, len: usize, first_fragment: bool) -> Result<(), Reason> {
    let (Some(source), Some(destination)) = (packet.number(at), packet.number(at + 2)) else {
        return Err(Reason::Truncated);
    };
    if len < 4 {
        return Err(Reason::Truncated);
    }
    parsed.view.source_port = source;
    parsed.view.destination_port = destination;
    parsed.transport = at;
    parsed.view.content = if protocol == TCP {
        tcp(packet, parsed, at, len, first_fragment)?
    } else {
        udp(packet, parsed, at, len, first_fragment)?
    };
    Ok(())
}

#[inline(always)]
fn udp(packet: &Packet, parsed: &mut Parsed, at: usize, len: usize, first_fragment: bool) -> Result<Content, Reason> {
    let Some(length) = packet.number(at + 4) else {
        return Err(Reason::Truncated);
    };
    if len < 8 {
        return Err(Reason::Truncated);
    }
    let length = length as usize;
    if length < 8 || (length > len && !first_fragment) {
        return Ok(Content::Malformed(Reason::BadUdpLength, 17));
    }
    let there = if length < len { length - 8 } else { len - 8 };
    let wanted = if length - 8 < WINDOW { length - 8 } else { WINDOW };
    parsed.payload = at + 8;
    parsed.payload_len = there;
    // A first fragment that hides the method from us would be judged by what it is not.
    if there < wanted {
        return Ok(Content::Malformed(Reason::TinyFragment, 17));
    }
    match head(packet, at + 8, wanted) {
        Some(window) => Ok(Content::Udp(sip::classify(window, length - 8))),
        None => Err(Reason::Truncated),
    }
}

/// The first `n` bytes (at most [`WINDOW`]) at `at`, padded with zeros. From two overlapping reads of fixed size, because the
/// verifier knows no other; shifts in little-endian terms put the second behind the first.
#[inline(always)]
fn head(packet: &Packet, at: usize, n: usize) -> Option<Window> {
    let (low, high): (u64, u64) = match n {
        0 => (0, 0),
        // The byte before the payload is the header's last.
        1 => (u64::from(u16::from_le(packet.read::<u16>(at - 1)?) >> 8), 0),
        2 | 3 => {
            let (first, last) = (
                u16::from_le(packet.read::<u16>(at)?),
                u16::from_le(packet.read::<u16>(at + bounded(n - 2))?),
            );
            (u64::from(first) | (u64::from(last) >> (8 * (4 - n)) << 16), 0)
        }
        4..8 => {
            let (first, last) = (
                u32::from_le(packet.read::<u32>(at)?),
                u32::from_le(packet.read::<u32>(at + bounded(n - 4))?),
            );
            (u64::from(first) | (u64::from(last) >> (8 * (8 - n)) << 32), 0)
        }
        8 => (u64::from_le(packet.read::<u64>(at)?), 0),
        9..WINDOW => (
            u64::from_le(packet.read::<u64>(at)?),
            u64::from_le(packet.read::<u64>(at + bounded(n - 8))?) >> (8 * (WINDOW - n)),
        ),
        _ => (u64::from_le(packet.read::<u64>(at)?), u64::from_le(packet.read::<u64>(at + 8)?)),
    };
    Some(Window { low, high })
}

/// `n`, which is below [`WINDOW`], so that the verifier knows it.
///
/// In assembly, because the compiler knows it too and would leave the mask and the packet's own check out; kernel 6.1 forgets the
/// bounds of a number that was compared in one register and is used in another ("math between pkt pointer and register with
/// unbounded min value is not allowed"). 6.18 does not.
#[inline(always)]
fn bounded(n: usize) -> usize {
    const { assert!(WINDOW == 16) };
    let mut n = n;
    // SAFETY: a bitwise and of one register.
    unsafe { asm!("{n} &= 15", n = inout(reg) n, options(pure, nomem, nostack)) };
    n
}

#[inline(always)]
fn tcp(packet: &Packet, parsed: &mut Parsed, at: usize, len: usize, first_fragment: bool) -> Result<Content, Reason> {
    if len < 20 {
        return if first_fragment {
            Ok(Content::Malformed(Reason::TinyFragment, TCP))
        } else {
            Err(Reason::Truncated)
        };
    }
    let Some(word) = packet.number(at + 12) else {
        return Err(Reason::Truncated);
    };
    let header = (word >> 12) as usize * 4;
    if header < 20 || header > len {
        return Ok(Content::Malformed(Reason::BadTcpHeader, TCP));
    }
    parsed.payload = at + header;
    parsed.payload_len = len - header;
    Ok(Content::Tcp {
        opens: word & (SYN | ACK) == SYN,
    })
}
