//! A capture file (pcap, link type RAW) of messages, with IP, UDP and TCP headers made for it: what a capture on the wire would show, but for
//! fragments, TCP's handshake and acknowledgements, and what proves a password.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use etherparse::PacketBuilder;

use crate::control::{TraceRecord, Transport};

/// Microseconds, the machine's byte order.
const MAGIC: u32 = 0xa1b2_c3d4;
/// Packets begin with their IP header.
const LINKTYPE_RAW: u32 = 101;
const LONGEST: u32 = 262_144;
const HOPS: u8 = 64;
/// Of a TCP segment.
const SEGMENT: usize = 1_400;

/// Each direction of a connection: how far it is.
type Streams = HashMap<(SocketAddr, SocketAddr), u32>;

/// A capture file in the making. Each packet is written at once, so that an interrupted trace leaves a whole file.
pub(super) struct Capture<W> {
    file: W,
    streams: Streams,
}

impl Capture<File> {
    /// Makes the file, for its owner alone: it has numbers of callers.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Self::new(File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?)
    }
}

impl<W: Write> Capture<W> {
    fn new(mut file: W) -> io::Result<Self> {
        let mut header = MAGIC.to_ne_bytes().to_vec();
        header.extend(2_u16.to_ne_bytes());
        header.extend(4_u16.to_ne_bytes());
        // Time zone and accuracy: always 0.
        header.extend([0; 8]);
        header.extend(LONGEST.to_ne_bytes());
        header.extend(LINKTYPE_RAW.to_ne_bytes());
        file.write_all(&header)?;
        Ok(Self {
            file,
            streams: Streams::new(),
        })
    }

    /// A message in hex and the reply to it.
    pub(super) fn dialogue(&mut self, record: &TraceRecord, message: &str, reply: Option<&str>) -> io::Result<()> {
        let (from, to) = (record.source, record.destination);
        self.message(record, (from, to), &bytes(message)?)?;
        match reply {
            Some(reply) => self.message(record, (to, from), &bytes(reply)?),
            None => Ok(()),
        }
    }

    fn message(&mut self, record: &TraceRecord, (from, to): (SocketAddr, SocketAddr), message: &[u8]) -> io::Result<()> {
        let time = Duration::from_secs_f64(record.time.max(0.0));
        match record.transport {
            Transport::Udp => self.packet(time, &udp(from, to, message)?),
            Transport::Tcp => {
                for segment in message.chunks(SEGMENT) {
                    let other = self.streams.get(&(to, from)).copied().unwrap_or(1);
                    let sequence = self.streams.entry((from, to)).or_insert(1);
                    let packet = tcp(from, to, (*sequence, other), segment)?;
                    *sequence = sequence.wrapping_add(u32::try_from(segment.len()).unwrap_or(0));
                    self.packet(time, &packet)?;
                }
                Ok(())
            }
        }
    }

    fn packet(&mut self, time: Duration, packet: &[u8]) -> io::Result<()> {
        let length = u32::try_from(packet.len()).map_err(io::Error::other)?;
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(16 + packet.len());
        for number in [seconds, time.subsec_micros(), length, length] {
            record.extend(number.to_ne_bytes());
        }
        record.extend(packet);
        self.file.write_all(&record)?;
        self.file.flush()
    }
}

fn udp(from: SocketAddr, to: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let builder = ip(from, to)?.udp(from.port(), to.port());
    let mut packet = Vec::with_capacity(builder.size(message.len()));
    builder.write(&mut packet, message).map_err(io::Error::other)?;
    Ok(packet)
}

fn tcp(from: SocketAddr, to: SocketAddr, (sequence, acknowledged): (u32, u32), segment: &[u8]) -> io::Result<Vec<u8>> {
    let builder = ip(from, to)?
        .tcp(from.port(), to.port(), sequence, u16::MAX)
        .ack(acknowledged)
        .psh();
    let mut packet = Vec::with_capacity(builder.size(segment.len()));
    builder.write(&mut packet, segment).map_err(io::Error::other)?;
    Ok(packet)
}

fn ip(from: SocketAddr, to: SocketAddr) -> io::Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(PacketBuilder::ipv6(from.octets(), to.octets(), HOPS)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn bytes(hex: &str) -> io::Result<Vec<u8>> {
    let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let all = (0..hex.len()).step_by(2).map(digit).collect::<Option<Vec<u8>>>();
    all.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const V4: [&str; 2] = ["203.0.113.23:5070", "203.0.113.10:5060"];
    const V6: [&str; 2] = ["[2001:db8::23]:5070", "[2001:db8::10]:5060"];

    fn capture(transport: Transport, [from, to]: [&str; 2], message: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut capture = Capture::new(&mut file).expect("a header");
        let (from, to) = (from.parse().expect("an address"), to.parse().expect("an address"));
        let record = |source, destination| TraceRecord {
            time: 1.5,
            ..TraceRecord::bare(source, destination, transport)
        };
        let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        capture.dialogue(&record(from, to), &hex, Some("5349502f")).expect("written");
        file
    }

    /// Each packet behind the header.
    fn packets(file: &[u8]) -> Vec<&[u8]> {
        let mut rest = &file[24..];
        let mut packets = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
            packets.push(&rest[16..16 + length]);
            rest = &rest[16 + length..];
        }
        packets
    }

    #[test]
    fn datagrams_have_the_addresses_and_ports_of_the_dialogue() {
        for ends in [V4, V6] {
            let file = capture(Transport::Udp, ends, b"INVITE");
            assert_eq!(file[..4], MAGIC.to_ne_bytes());
            let packets = packets(&file);
            assert_eq!(packets.len(), 2);
            for (packet, ports, payload) in [(packets[0], (5070, 5060), &b"INVITE"[..]), (packets[1], (5060, 5070), b"SIP/")] {
                let read = SlicedPacket::from_ip(packet).expect("a packet");
                let Some(TransportSlice::Udp(udp)) = read.transport else {
                    panic!("not UDP")
                };
                assert_eq!((udp.source_port(), udp.destination_port()), ports);
                assert_eq!(udp.payload(), payload);
            }
        }
    }

    #[test]
    fn a_long_message_over_tcp_is_cut_into_segments_that_follow_each_other() {
        let message = vec![b'a'; 3_000];
        let file = capture(Transport::Tcp, V4, &message);
        let packets = packets(&file);
        let mut sequences = Vec::new();
        let mut joined = Vec::new();
        for packet in &packets[..3] {
            let read = SlicedPacket::from_ip(packet).expect("a packet");
            let Some(TransportSlice::Tcp(tcp)) = read.transport else {
                panic!("not TCP")
            };
            sequences.push(tcp.sequence_number());
            joined.extend_from_slice(tcp.payload());
            assert!(matches!(read.net, Some(NetSlice::Ipv4(_))));
        }
        assert_eq!((sequences, joined), (vec![1, 1_401, 2_801], message));
        let read = SlicedPacket::from_ip(packets[3]).expect("a packet");
        let Some(TransportSlice::Tcp(answer)) = read.transport else {
            panic!("not TCP")
        };
        assert_eq!((answer.sequence_number(), answer.acknowledgment_number()), (1, 3_001));
    }
}
