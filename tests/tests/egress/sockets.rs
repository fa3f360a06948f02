//! Both programs on an interface, with real sockets at both ends.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use sipauth_common::{config::Lane, decide::Lookup as _};
use sipauth_tests::{frame::INVITE, require_root};
use sipauth_user::datapath::{self, Attached, Pins, Programs, XdpMode};

use crate::{
    net::{FAR_ADDRESSES, Far, NEAR, NEAR_ADDRESSES, with_pair, without_offload},
    support::{PUNT, PinDir, SIP, address, load, turn},
};

/// Strangers are challenged in the lane of the untrusted.
const PUNTED: u16 = PUNT[Lane::Untrusted as usize];
/// Longer than anything takes that happens, also in an emulated VM.
const WAIT: Duration = Duration::from_secs(10);
/// How long nothing must happen.
const SILENCE: Duration = Duration::from_millis(300);

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse::<IpAddr>().expect("an address"), port)
}

fn udp(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(to).expect("a socket");
    socket.set_read_timeout(Some(WAIT)).expect("a timeout");
    socket
}

fn attach_in(programs: &mut Programs, pins: &Pins) {
    let program = programs.ingress().expect("the program");
    let attached = datapath::attach_ingress(program, NEAR, XdpMode::Native, pins).expect("native XDP on veth");
    assert_eq!(attached, Attached::Anew);
}

fn attach_out(programs: &mut Programs, pins: &Pins) {
    datapath::attach_egress(programs.egress().expect("the program"), NEAR, pins).expect("the way out");
}

/// Sockets of the host: the softswitch's and the agent's.
struct Host {
    softswitch: UdpSocket,
    agent: UdpSocket,
}

impl Host {
    /// A datagram arrives at one of the two, whole, from where it was sent, and not at the other. `reply` goes back; the answer is
    /// the port that it comes from at the other end.
    fn exchange(&self, far: &Far, client: &UdpSocket, near: SocketAddr, punted: bool, reply: &[u8]) -> u16 {
        let (here, elsewhere) = if punted {
            (&self.agent, &self.softswitch)
        } else {
            (&self.softswitch, &self.agent)
        };
        client.send_to(INVITE, near).expect("sent");
        let mut buffer = [0; 8_192];
        let (len, from) = here.recv_from(&mut buffer).expect("it arrives");
        assert_eq!(&buffer[..len], INVITE);
        assert_eq!(from, client.local_addr().expect("an address"));
        elsewhere.set_read_timeout(Some(SILENCE)).expect("a timeout");
        assert!(elsewhere.recv_from(&mut buffer).is_err(), "it arrived twice");
        elsewhere.set_read_timeout(Some(WAIT)).expect("a timeout");
        here.send_to(reply, from).expect("answered");
        far.run(|| {
            let mut buffer = [0; 8_192];
            let (len, from) = client.recv_from(&mut buffer).expect("the answer arrives");
            assert_eq!(&buffer[..len], reply);
            assert_eq!(from.ip(), near.ip());
            from.port()
        })
    }
}

fn datagrams(offload: bool) {
    let _turn = turn();
    let dir = PinDir::new();
    with_pair(|far| {
        if !offload {
            without_offload(far);
        }
        for (near, there) in NEAR_ADDRESSES.into_iter().zip(FAR_ADDRESSES) {
            let pins = dir.open();
            let mut programs = load(Some(&pins));
            let host = Host {
                softswitch: udp(at(near, SIP)),
                agent: udp(at(near, PUNTED)),
            };
            let client = far.run(|| udp(at(there, 40_000)));
            let sip = at(near, SIP);
            let short = b"SIP/2.0 401 Unauthorized\r\n\r\n";
            // Longer than a frame: leaves in fragments, of which only the first has ports and checksum.
            let long = [&b"SIP/2.0 401 Unauthorized\r\n"[..], &[b'x'; 4_000]].concat();

            assert_eq!(host.exchange(far, &client, sip, false, short), SIP, "without programs");
            attach_in(&mut programs, &pins);
            assert_eq!(host.exchange(far, &client, sip, true, short), PUNTED, "nobody undoes the port yet");
            attach_out(&mut programs, &pins);
            for reply in [&short[..], &long] {
                assert_eq!(host.exchange(far, &client, sip, true, reply), SIP, "punted and undone");
            }
            // From the wire the punt port is closed.
            client.send_to(INVITE, at(near, PUNTED)).expect("sent");
            host.agent.set_read_timeout(Some(SILENCE)).expect("a timeout");
            assert!(host.agent.recv_from(&mut [0; 100]).is_err(), "from the wire to the punt port");
            host.agent.set_read_timeout(Some(WAIT)).expect("a timeout");

            assert_eq!(programs.maps.peer(&address(there)), None, "answers teach nothing");
            host.softswitch.send_to(INVITE, at(there, 40_000)).expect("sent");
            assert!(programs.maps.peer(&address(there)).is_some(), "a request teaches");
            far.run(|| client.recv_from(&mut [0; 100])).expect("and arrives");
            // Whom the softswitch calls has another lane, where nobody listens here.
            programs.maps.delete_peer(&address(there)).expect("PEERS");

            drop(programs);
            assert_eq!(host.exchange(far, &client, sip, true, short), SIP, "without the loader");
            datapath::detach(&pins, None).expect("detached");
            assert_eq!(host.exchange(far, &client, sip, false, short), SIP, "detached");
            assert!(!dir.exists());
        }
    });
}

#[test]
fn a_datagram_is_punted_and_its_answer_leaves_from_the_protected_port() {
    require_root!();
    datagrams(true);
}

#[test]
fn checksums_of_datagrams_are_right_on_the_wire() {
    require_root!();
    datagrams(false);
}

fn connections(offload: bool) {
    let _turn = turn();
    let dir = PinDir::new();
    with_pair(|far| {
        if !offload {
            without_offload(far);
        }
        for (near, there) in NEAR_ADDRESSES.into_iter().zip(FAR_ADDRESSES) {
            let pins = dir.open();
            let mut programs = load(Some(&pins));
            let agent = TcpListener::bind(at(near, PUNTED)).expect("a listener");
            let connect = || far.run(|| TcpStream::connect_timeout(&at(near, SIP), WAIT));
            let refused = |why: &str| {
                let kind = connect().err().map(|error| error.kind());
                assert_eq!(kind, Some(std::io::ErrorKind::ConnectionRefused), "{why}");
            };
            refused("without programs nobody listens at the protected port");
            attach_out(&mut programs, &pins);
            attach_in(&mut programs, &pins);

            let mut client = connect().expect("the agent's listener accepts");
            assert_eq!(client.peer_addr().expect("an address"), at(near, SIP));
            let (mut server, from) = agent.accept().expect("a connection");
            assert_eq!(from, client.local_addr().expect("an address"));
            assert_eq!(from.ip(), there.parse::<IpAddr>().expect("an address"));
            assert_eq!(server.local_addr().expect("an address").port(), PUNTED);
            // Enough for segments that are larger than a frame inside the host.
            let up: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
            let down: Vec<u8> = up.iter().rev().copied().collect();
            for stream in [&client, &server] {
                stream.set_read_timeout(Some(WAIT)).expect("a timeout");
                stream.set_write_timeout(Some(WAIT)).expect("a timeout");
            }
            thread::scope(|scope| {
                let here = scope.spawn(|| transfer(&mut server, &down, up.len()));
                let got_down = transfer(&mut client, &up, down.len());
                assert!(got_down == down, "the softswitch's bytes");
                assert!(here.join().expect("the server") == up, "the gateway's bytes");
            });
            drop((client, server));

            datapath::detach(&pins, None).expect("detached");
            refused("detached");
            assert!(!dir.exists());
        }
    });
}

/// Sends `out` and receives `expected` bytes, at the same time.
fn transfer(stream: &mut TcpStream, out: &[u8], expected: usize) -> Vec<u8> {
    let mut sending = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        let sent = scope.spawn(move || sending.write_all(out));
        let mut received = vec![0; expected];
        stream.read_exact(&mut received).expect("received");
        sent.join().expect("the sender").expect("sent");
        received
    })
}

#[test]
fn a_connection_is_punted_and_carries_bytes_both_ways() {
    require_root!();
    connections(true);
}

#[test]
fn checksums_of_segments_are_right_on_the_wire() {
    require_root!();
    connections(false);
}
