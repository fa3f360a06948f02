//! What must happen to a frame: a second parser, over slices, and the maps as plain hash maps.
//!
//! The parser shares no code with the kernel program. Only `decide` is the same: it is the specification.

use std::collections::HashMap;

use sipauth_common::{
    address::Address,
    config::{Config, PortRole, flags},
    decide::{Content, Decision, Lookup, PacketView, acknowledged, decide, may_be_own_ack},
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Possible,
    reason::{Reason, Verdict},
    sip,
};

/// IPv6 extension headers that are followed; one more is [`Reason::BadExtension`].
const MAX_EXTENSIONS: usize = 8;
/// Bytes of them that are followed.
const MAX_EXTENSION_BYTES: usize = 1_024;

/// A frame that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// What `decide` judges.
    pub view: PacketView,
    /// Offset of the transport header; 0 where there is none to speak of.
    pub transport: usize,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn other(source: Address, content: Content) -> Read {
    Read {
        view: PacketView {
            source,
            source_port: 0,
            destination_port: 0,
            content,
        },
        transport: 0,
    }
}

/// Reads a frame from its Ethernet header on.
///
/// # Errors
/// The reason to drop what is broken whatever its port.
pub fn read(frame: &[u8]) -> Result<Read, Reason> {
    let nothing = other(Address([0; 4]), Content::Other);
    let Some(mut kind) = be16(frame, 12) else { return Ok(nothing) };
    let mut at = 14;
    let mut tags = 0;
    while tags < 2 && (kind == 0x8100 || kind == 0x88a8) {
        let Some(next) = be16(frame, at + 2) else { return Ok(nothing) };
        (kind, at, tags) = (next, at + 4, tags + 1);
    }
    let ip = &frame[at.min(frame.len())..];
    let mut read = match kind {
        0x0800 => ipv4(ip)?,
        0x86dd => ipv6(ip)?,
        0x8100 | 0x88a8 => return Err(Reason::BadExtension),
        _ => return Ok(nothing),
    };
    if read.transport != 0 {
        read.transport += at;
    }
    Ok(read)
}

fn ipv4(ip: &[u8]) -> Result<Read, Reason> {
    let header = ip.get(..20).ok_or(Reason::Truncated)?;
    let (version, size) = (header[0] >> 4, usize::from(header[0] & 15) * 4);
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if version != 4 || size < 20 || total < size {
        return Err(Reason::BadIpHeader);
    }
    let packet = ip.get(..total).ok_or(Reason::Truncated)?;
    let source = Address::from_v4(u32::from_ne_bytes([header[12], header[13], header[14], header[15]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    match header[9] {
        6 | 17 if fragment & 0x1fff != 0 => Ok(other(source, Content::LaterFragment)),
        protocol @ (6 | 17) => transport(source, protocol, packet, size, fragment & 0x2000 != 0),
        _ => Ok(other(source, Content::Other)),
    }
}

fn ipv6(ip: &[u8]) -> Result<Read, Reason> {
    let header = ip.get(..40).ok_or(Reason::Truncated)?;
    let mut source = [0; 16];
    source.copy_from_slice(&header[8..24]);
    // An IPv4-mapped source would be taken for the IPv4 gateway.
    if header[0] >> 4 != 6 || source.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]) {
        return Err(Reason::BadIpHeader);
    }
    let source = Address::from_octets(source);
    let packet = ip
        .get(..40 + usize::from(u16::from_be_bytes([header[4], header[5]])))
        .ok_or(Reason::Truncated)?;
    let (mut next, mut at, mut count, mut first) = (header[6], 40, 0, false);
    while is_extension(next) {
        if count == MAX_EXTENSIONS {
            return Err(Reason::BadExtension);
        }
        let extension = packet.get(at..at + 8).ok_or(Reason::Truncated)?;
        let size = match next {
            44 => {
                let word = u16::from_be_bytes([extension[2], extension[3]]);
                if word >> 3 != 0 {
                    let ours = matches!(extension[0], 6 | 17) || is_extension(extension[0]);
                    return Ok(other(source, if ours { Content::LaterFragment } else { Content::Other }));
                }
                first |= word & 1 != 0;
                8
            }
            51 => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        (next, at, count) = (extension[0], at + size, count + 1);
        if at > packet.len() {
            return Err(Reason::Truncated);
        }
        if at - 40 > MAX_EXTENSION_BYTES {
            return Err(Reason::BadExtension);
        }
    }
    match next {
        6 | 17 => transport(source, next, packet, at, first),
        _ => Ok(other(source, Content::Other)),
    }
}

fn is_extension(number: u8) -> bool {
    [0, 43, 44, 51, 60].contains(&number)
}

fn transport(source: Address, protocol: u8, packet: &[u8], at: usize, first_fragment: bool) -> Result<Read, Reason> {
    let segment = &packet[at..];
    let (Some(source_port), Some(destination_port)) = (be16(segment, 0), be16(segment, 2)) else {
        return Err(Reason::Truncated);
    };
    let content = if protocol == 17 {
        udp(segment, first_fragment)?
    } else {
        tcp(segment, first_fragment)?
    };
    Ok(Read {
        view: PacketView {
            source,
            source_port,
            destination_port,
            content,
        },
        transport: at,
    })
}

fn udp(segment: &[u8], first_fragment: bool) -> Result<Content, Reason> {
    let payload = segment.get(8..).ok_or(Reason::Truncated)?;
    let length = usize::from(u16::from_be_bytes([segment[4], segment[5]]));
    let Some(whole) = length.checked_sub(8) else {
        return Ok(Content::Malformed(Reason::BadUdpLength, 17));
    };
    if whole > payload.len() && !first_fragment {
        return Ok(Content::Malformed(Reason::BadUdpLength, 17));
    }
    if payload.len() < whole.min(sip::WINDOW) {
        return Ok(Content::Malformed(Reason::TinyFragment, 17));
    }
    // The class depends on the first bytes and the length only, so zeros stand for what other fragments bring.
    let mut text = payload[..whole.min(payload.len())].to_vec();
    text.resize(whole, 0);
    Ok(Content::Udp(sip::classify_payload(&text)))
}

fn tcp(segment: &[u8], first_fragment: bool) -> Result<Content, Reason> {
    let Some(header) = segment.get(..20) else {
        return if first_fragment {
            Ok(Content::Malformed(Reason::TinyFragment, 6))
        } else {
            Err(Reason::Truncated)
        };
    };
    let size = usize::from(header[12] >> 4) * 4;
    if size < 20 || size > segment.len() {
        return Ok(Content::Malformed(Reason::BadTcpHeader, 6));
    }
    Ok(Content::Tcp {
        opens: header[13] & 0x12 == 0x02,
    })
}

/// The maps.
#[derive(Clone, Default, Debug)]
pub struct Tables {
    /// `CONFIG`.
    pub config: Option<Config>,
    /// `PORT_ROLES`.
    pub roles: HashMap<u16, PortRole>,
    /// `HOSTS_*`.
    pub hosts: HashMap<Address, Policy>,
    /// `NETS_*`, by prefix and its length of 128.
    pub nets: HashMap<(Address, u8), Policy>,
    /// `PORTS`.
    pub ports: HashMap<PortKey, u32>,
    /// `FLOWS`.
    pub flows: HashMap<FlowKey, Flow>,
    /// `PEERS`.
    pub peers: HashMap<Address, u64>,
    /// `BANS`.
    pub bans: HashMap<Address, Ban>,
    /// `CLOCK_MONOTONIC`, ns. Times in the tables keep far from it, so that how long the test takes changes nothing.
    pub now: u64,
}

impl Lookup for Tables {
    fn config(&self) -> Option<Config> {
        self.config
    }
    fn port_role(&self, port: u16) -> PortRole {
        self.roles.get(&port).copied().unwrap_or_default()
    }
    /// Without a prefilter, which must make no difference.
    fn possible(&self, _: &Address) -> Possible {
        Possible::ALL
    }
    fn host(&self, address: &Address) -> Option<Policy> {
        self.hosts.get(address).copied()
    }
    fn net(&self, address: &Address) -> Option<Policy> {
        // One trie a family: no IPv6 prefix contains an IPv4 address.
        let shortest = if address.v4().is_some() { 96 } else { 0 };
        (shortest..=128)
            .rev()
            .find_map(|prefix| self.nets.get(&(address.network(prefix), prefix)).copied())
    }
    fn port(&self, key: &PortKey) -> Option<u32> {
        self.ports.get(key).copied()
    }
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flows.get(key).copied()
    }
    fn peer(&self, address: &Address) -> Option<u64> {
        self.peers.get(address).copied()
    }
    fn ban(&self, address: &Address) -> Option<Ban> {
        self.bans.get(address).copied()
    }
    fn now(&self) -> u64 {
        self.now
    }
}

/// What must happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whether the frame passes.
    pub passes: bool,
    /// The counter that moves.
    pub reason: Reason,
    /// Whose traffic it is; 0 for nobody's.
    pub gateway: u32,
    /// Offset of the transport header and the new destination port, where it is rewritten.
    pub rewritten: Option<(usize, u16)>,
}

/// The whole decision about a frame that was read.
pub fn judge<L: Lookup>(frame: &[u8], read: &Read, maps: &L) -> Decision {
    let length = usize::from(be16(frame, read.transport + 4).unwrap_or_default());
    let end = frame.len().min(read.transport + length);
    let message = frame.get(read.transport + 8..end).unwrap_or_default();
    let decision = decide(&read.view, maps);
    match maps.config() {
        Some(config) if may_be_own_ack(&read.view, &decision) => acknowledged(decision, sip::ack_to(message, config.own_mark)),
        _ => decision,
    }
}

/// What must happen to a frame while no budget is used up.
#[must_use]
pub fn expect<L: Lookup>(frame: &[u8], maps: &L) -> Expected {
    let (decision, read) = match read(frame) {
        Ok(read) => (judge(frame, &read, maps), Some(read)),
        Err(reason) => (Decision::new(reason, 0), None),
    };
    let monitor = maps.config().is_some_and(|config| config.layout != 0 && config.has(flags::MONITOR));
    let verdict = decision.reason.verdict();
    let rewritten = match read {
        Some(read) if verdict == Verdict::Punt && !monitor => {
            let port = maps.port_role(read.view.destination_port).punt[decision.lane as usize];
            (port != 0).then_some((read.transport, port))
        }
        _ => None,
    };
    let passes = monitor || verdict == Verdict::Pass || rewritten.is_some();
    Expected {
        passes,
        reason: decision.reason,
        gateway: decision.gateway,
        rewritten,
    }
}
