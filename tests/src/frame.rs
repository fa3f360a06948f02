//! Frames for the tests of the kernel program: a valid INVITE, of which each case changes one thing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A datagram that the softswitch would take for a call.
pub const INVITE: &[u8] = b"INVITE sip:100@192.0.2.1 SIP/2.0\r\nCall-ID: 1\r\n\r\n";
/// TCP flags.
pub const SYN: u8 = 0x02;
/// TCP flags.
pub const ACK: u8 = 0x10;

/// A frame to build. Lengths and checksums are right unless an override says otherwise.
#[derive(Clone, Debug)]
pub struct Frame {
    /// EtherTypes of the VLAN tags, outermost first.
    pub tags: Vec<u16>,
    /// EtherType behind the tags; by the addresses when `None`.
    pub ether_type: Option<u16>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// IP version in the header.
    pub version: Option<u8>,
    /// IPv4 header length in words.
    pub ihl: Option<u8>,
    /// IPv4 total length, or IPv6 payload length.
    pub ip_length: Option<u16>,
    /// IPv4 options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IPv6 extension headers: number, and bytes of which the first is filled in.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// UDP length.
    pub udp_length: Option<u16>,
    /// UDP without a checksum.
    pub no_checksum: bool,
    /// TCP flags.
    pub flags: u8,
    /// TCP data offset in words.
    pub data_offset: Option<u8>,
    /// What the transport carries.
    pub payload: Vec<u8>,
    /// Bytes of the IP payload that are kept: a fragment is shorter than what its headers speak of.
    pub keep: Option<usize>,
    /// Bytes behind the IP packet.
    pub padding: usize,
}

impl Frame {
    /// The valid INVITE over UDP and IPv4.
    #[must_use]
    pub fn invite() -> Self {
        Self {
            tags: Vec::new(),
            ether_type: None,
            source: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5)),
            destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            source_port: 5060,
            destination_port: 5060,
            protocol: 17,
            version: None,
            ihl: None,
            ip_length: None,
            options: Vec::new(),
            fragment: 0,
            extensions: Vec::new(),
            udp_length: None,
            no_checksum: false,
            flags: SYN,
            data_offset: None,
            payload: INVITE.to_vec(),
            keep: None,
            padding: 0,
        }
    }

    /// The same over IPv6.
    #[must_use]
    pub fn invite_v6() -> Self {
        Self {
            source: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5)),
            destination: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1)),
            ..Self::invite()
        }
    }

    /// The bytes, from the Ethernet header on.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            out.extend(tag.to_be_bytes());
            out.extend([0, 7]);
        }
        let natural = if self.source.is_ipv4() { 0x0800u16 } else { 0x86dd };
        out.extend(self.ether_type.unwrap_or(natural).to_be_bytes());
        let mut transport = self.transport();
        if let Some(keep) = self.keep {
            transport.truncate(keep);
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(&mut out, source, destination, &transport),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(&mut out, source, destination, &transport),
            _ => panic!("addresses of one family"),
        }
        out.extend(std::iter::repeat_n(0xaa, self.padding));
        out
    }

    fn ipv4(&self, out: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr, transport: &[u8]) {
        let words = 5 + self.options.len() / 4;
        let total = self.ip_length.unwrap_or(narrow(words * 4 + transport.len()));
        let mut header = vec![self.version.unwrap_or(4) << 4 | self.ihl.unwrap_or(narrow8(words)), 0];
        header.extend(total.to_be_bytes());
        header.extend([0, 1]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([64, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.extend(header);
        out.extend(transport);
    }

    fn ipv6(&self, out: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr, transport: &[u8]) {
        let mut chain = Vec::new();
        for (i, (_, bytes)) in self.extensions.iter().enumerate() {
            let at = chain.len();
            chain.extend(bytes);
            if at < chain.len() {
                chain[at] = self.extensions.get(i + 1).map_or(self.protocol, |next| next.0);
            }
        }
        out.extend([self.version.unwrap_or(6) << 4, 0, 0, 0]);
        out.extend(self.ip_length.unwrap_or(narrow(chain.len() + transport.len())).to_be_bytes());
        out.extend([self.extensions.first().map_or(self.protocol, |first| first.0), 64]);
        out.extend(source.octets());
        out.extend(destination.octets());
        out.extend(chain);
        out.extend(transport);
    }

    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.source_port.to_be_bytes());
        out.extend(self.destination_port.to_be_bytes());
        let checksum_at = match self.protocol {
            17 => {
                out.extend(self.udp_length.unwrap_or(narrow(8 + self.payload.len())).to_be_bytes());
                out.extend([0, 0]);
                6
            }
            6 => {
                out.extend([
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    2,
                    self.data_offset.unwrap_or(5) << 4,
                    self.flags,
                    0xff,
                    0xff,
                    0,
                    0,
                    0,
                    0,
                ]);
                16
            }
            _ => return self.payload.clone(),
        };
        out.extend(&self.payload);
        if !(self.no_checksum && self.protocol == 17) {
            let checksum = match !sum(&[&pseudo(self.source, self.destination, self.protocol, out.len()), &out]) {
                0 if self.protocol == 17 => 0xffff,
                other => other,
            };
            out[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        out
    }
}

/// An IPv6 fragment header for [`Frame::extensions`].
#[must_use]
pub fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let word = (offset << 3 | u16::from(more)).to_be_bytes();
    (44, vec![0, 0, word[0], word[1], 0, 0, 0, 9])
}

/// Whether the checksum of an unfragmented UDP or TCP packet whose transport header is at `at` is right; `protocol` as in the IP header.
#[must_use]
pub fn checksum_holds(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> bool {
    sum(&[&pseudo(source, destination, protocol, transport.len()), transport]) == 0xffff
}

/// Whether an IPv4 header has the right checksum.
#[must_use]
pub fn ipv4_checksum_holds(header: &[u8]) -> bool {
    sum(&[header]) == 0xffff
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => out.extend(v4.octets()),
            IpAddr::V6(v6) => out.extend(v6.octets()),
        }
    }
    out.extend([0, protocol]);
    out.extend(narrow(len).to_be_bytes());
    out
}

/// The ones' complement sum (RFC 1071); all parts but the last have even lengths.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        total += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    narrow(usize::try_from(total).unwrap_or(0))
}

fn narrow(n: usize) -> u16 {
    u16::try_from(n).expect("a length of 16 bits")
}

fn narrow8(n: usize) -> u8 {
    u8::try_from(n).expect("a length of 8 bits")
}
