//! Connections over real sockets, each test in a network namespace of its own.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener as Listener, TcpStream as Stream},
    num::NonZeroUsize,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    auth::{Action, FlowGrant, Outcome},
    worker::{
        Options, Workers,
        namespace::{WAIT, at, in_namespace, ip},
    },
};

const SOFTSWITCH: [&str; 2] = ["203.0.113.1", "2001:db8::1"];
const PORTS: PuntPorts = PuntPorts {
    protected: 5060,
    punt: [5161, 5162, 5163, 5164],
};

/// By the method: INVITE authenticates, as gateway 7; what follows is released if it is trusted; the rest is refused.
struct Script;

impl Handler for Script {
    fn reuse(&mut self, _: Vec<u8>) {}

    fn handle(&mut self, message: &[u8], arrival: &Arrival) -> Action {
        match message.first() {
            Some(b'I') => Action::Release {
                flow: Some(FlowGrant {
                    gateway: 7,
                    lifetime: None,
                    caller: None,
                }),
                outcome: Outcome::Authenticated,
            },
            Some(b'B' | b'S') if arrival.trusted => Action::Release {
                flow: None,
                outcome: Outcome::InDialog,
            },
            Some(b'A') => Action::Absorb {
                outcome: Outcome::AckAbsorbed,
            },
            _ => Action::Reply {
                response: format!("{arrival:?}").into_bytes(),
                outcome: Outcome::Challenged,
            },
        }
    }
}

struct Standing;

impl Flows for Standing {
    fn grant(&self, source: SocketAddr, _: FlowGrant) -> io::Result<()> {
        panic!("a connection of {source} is no flow of the kernel program");
    }

    fn term(&self, _: u32, _: SocketAddr) -> Option<u64> {
        Some(0)
    }
}

fn start(tcp: TcpLimits) -> Workers {
    let options = Options {
        workers: NonZeroUsize::MIN,
        ports: vec![PORTS],
        tcp,
        timestamps: false,
    };
    Workers::start(&options, &CancellationToken::new(), |_| Script, Arc::new(Standing)).expect("workers")
}

fn message(method: &str) -> String {
    format!(
        "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c@h\r\n\
         CSeq: 7 {method}\r\nl: 4\r\n\r\nbody"
    )
}

fn dial(softswitch: &str, port: u16) -> Stream {
    let begin = Instant::now();
    let stream = loop {
        match Stream::connect(at(softswitch, port)) {
            Ok(stream) => break stream,
            // The kernel enters the route of a new IPv6 address a moment after the address.
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable && begin.elapsed() < WAIT => {
                thread::sleep(Duration::from_millis(10))
            }
            Err(error) => panic!("no connection: {error}"),
        }
    };
    stream.set_read_timeout(Some(WAIT)).expect("an option");
    stream
}

fn expect(stream: &mut Stream, wanted: &str) {
    let mut buffer = vec![0; wanted.len()];
    stream.read_exact(&mut buffer).expect("bytes");
    assert_eq!(String::from_utf8_lossy(&buffer), wanted);
}

/// Everything until the peer closes, gently or by a reset.
fn rest(stream: &mut Stream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => all.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("not closed: {error}"),
        }
    }
    String::from_utf8(all).expect("text")
}

fn fault(workers: &Workers, wanted: Fault) -> u64 {
    workers.faults().into_iter().filter(|(one, _)| *one == wanted).map(|(_, n)| n).sum()
}

fn outcome(workers: &Workers, wanted: Outcome) -> u64 {
    workers
        .outcomes()
        .into_iter()
        .filter(|(one, _)| *one == wanted)
        .map(|(_, n)| n)
        .sum()
}

#[test]
fn a_connection_is_authenticated_and_relayed_both_ways() {
    in_namespace("a_connection_is_authenticated_and_relayed_both_ways", || {
        let workers = start(TcpLimits::default());
        for softswitch in SOFTSWITCH {
            let listening = Listener::bind(at(softswitch, PORTS.protected)).expect("a listener");
            let mut gateway = dial(softswitch, PORTS.punt[1]);
            // Before it has authenticated: what belongs to a dialog is refused, an ACK absorbed, a ping answered.
            gateway
                .write_all(format!("{}{}\r\n\r\n", message("ACK"), message("BYE")).as_bytes())
                .expect("sent");
            let arrival = Arrival {
                source: gateway.local_addr().expect("an address"),
                destination: at(softswitch, PORTS.protected),
                trusted: false,
                denied: false,
            };
            expect(&mut gateway, &format!("{arrival:?}\r\n"));
            let invite = message("INVITE");
            let (one, two) = invite.split_at(70);
            gateway.write_all(one.as_bytes()).expect("sent");
            thread::sleep(Duration::from_millis(50));
            gateway.write_all(format!("{two}{}", message("BYE")).as_bytes()).expect("sent");
            let (mut switch, _) = listening.accept().expect("the agent");
            switch.set_read_timeout(Some(WAIT)).expect("an option");
            expect(&mut switch, &format!("{}{}", message("INVITE"), message("BYE")));
            let answer = message("SIP/2.0 200 OK");
            switch.write_all(format!("{answer}\r\n\r\n{answer}").as_bytes()).expect("sent");
            expect(&mut gateway, &format!("{answer}{answer}"));
            expect(&mut switch, "\r\n");
            gateway.write_all(answer.as_bytes()).expect("sent");
            expect(&mut switch, &answer);
            // Another connection of the same source has earned nothing.
            let mut other = dial(softswitch, PORTS.punt[1]);
            other.write_all(message("BYE").as_bytes()).expect("sent");
            expect(&mut other, "Arrival");
            drop(switch);
            assert_eq!(rest(&mut gateway), "");
        }
        assert_eq!(
            (outcome(&workers, Outcome::Authenticated), outcome(&workers, Outcome::InDialog)),
            (2, 4)
        );
        assert!(workers.faults().iter().all(|(_, count)| *count == 0), "{:?}", workers.faults());
        workers.stop().expect("a regular end");
    });
}

#[test]
fn slow_idle_endless_and_malformed_senders_are_cut_off() {
    in_namespace("slow_idle_endless_and_malformed_senders_are_cut_off", || {
        let workers = start(TcpLimits {
            message: Duration::from_millis(400),
            idle: Duration::from_millis(1_200),
            ..TcpLimits::default()
        });
        let begin = Instant::now();
        let mut slow = dial(SOFTSWITCH[0], PORTS.punt[1]);
        // A byte now and then does not help.
        for byte in message("INVITE").bytes().take(6) {
            if slow.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(rest(&mut slow), "");
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert_eq!(fault(&workers, Fault::SlowSender), 1);

        let begin = Instant::now();
        assert_eq!(rest(&mut dial(SOFTSWITCH[0], PORTS.punt[1])), "");
        assert!(begin.elapsed() > Duration::from_secs(1), "{:?}", begin.elapsed());

        let mut endless = dial(SOFTSWITCH[0], PORTS.punt[1]);
        while endless.write_all(&[b'x'; 4096]).is_ok() {}
        assert_eq!(fault(&workers, Fault::OversizedMessage), 1);

        let mut malformed = dial(SOFTSWITCH[0], PORTS.punt[1]);
        malformed
            .write_all(message("INVITE").replace("l: 4\r\n", "").as_bytes())
            .expect("sent");
        let answer = rest(&mut malformed);
        assert!(
            answer.starts_with("SIP/2.0 400 ") && answer.contains("Call-ID: c@h\r\n"),
            "{answer}"
        );
        let mut hopeless = dial(SOFTSWITCH[0], PORTS.punt[1]);
        hopeless.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        assert_eq!(rest(&mut hopeless), "");
        assert_eq!(
            (outcome(&workers, Outcome::BadRequest), outcome(&workers, Outcome::Unparseable)),
            (1, 1)
        );
        workers.stop().expect("a regular end");
    });
}

#[test]
fn a_peer_that_does_not_read_is_cut_off() {
    in_namespace("a_peer_that_does_not_read_is_cut_off", || {
        let workers = start(TcpLimits {
            write: Duration::from_millis(300),
            ..TcpLimits::default()
        });
        let mut gateway = dial(SOFTSWITCH[0], PORTS.punt[1]);
        gateway.set_write_timeout(Some(WAIT)).expect("an option");
        let burst = message("BYE").repeat(500);
        let begin = Instant::now();
        while gateway.write_all(burst.as_bytes()).is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(30), "never cut off");
        }
        assert_eq!(fault(&workers, Fault::Stalled), 1);
        workers.stop().expect("a regular end");
    });
}

/// A connection from an address, in a lane; `None` if there is no place for it.
fn served(source: &str, lane: Lane) -> Option<Stream> {
    let source = at(source, 0);
    let softswitch = SOFTSWITCH[usize::from(source.is_ipv6())];
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None).expect("a socket");
    socket.bind(&source.into()).expect("bound");
    socket
        .connect(&at(softswitch, PORTS.punt[lane as usize]).into())
        .expect("a connection");
    let mut stream = Stream::from(socket);
    stream.set_read_timeout(Some(WAIT)).expect("an option");
    // Refused after it was established, so the write may fail or not.
    let _ = stream.write_all(b"\r\n\r\n");
    matches!(stream.read(&mut [0; 2]), Ok(2)).then_some(stream)
}

#[test]
fn strangers_leave_room_for_gateways_however_many_addresses_they_have() {
    in_namespace("strangers_leave_room_for_gateways_however_many_addresses_they_have", || {
        ip("route add local 198.51.100.0/24 dev lo");
        for host in 1..=3 {
            ip(&format!("-6 addr add 2001:db8:5::{host}/128 dev lo nodad"));
        }
        let _listening = Listener::bind(at(SOFTSWITCH[0], PORTS.protected)).expect("a listener");
        let workers = start(TcpLimits {
            per_source: 2,
            total: 8,
            strangers: 3,
            ..TcpLimits::default()
        });
        let stranger = |source| served(source, Lane::Untrusted);
        let held = [stranger("2001:db8:5::1"), stranger("2001:db8:5::2")];
        assert!(held.iter().all(Option::is_some));
        assert!(stranger("2001:db8:5::3").is_none(), "one sender has a whole /64");
        let mut caller = stranger("198.51.100.7").expect("a place");
        assert!(stranger("198.51.100.8").is_none(), "a fourth stranger");
        assert!(
            served("198.51.100.8", Lane::Denied).is_none(),
            "whose refusal is answered, likewise"
        );
        assert!(served("198.51.100.9", Lane::Known).is_some(), "the address of a gateway");
        // Who has authenticated is no stranger any more, and gives no second place back when he leaves.
        caller.write_all(message("INVITE").as_bytes()).expect("sent");
        let begin = Instant::now();
        while outcome(&workers, Outcome::Authenticated) == 0 && begin.elapsed() < WAIT {
            thread::sleep(Duration::from_millis(10));
        }
        let another = stranger("198.51.100.8");
        assert!(another.is_some(), "the place of the one who authenticated");
        drop(caller);
        thread::sleep(Duration::from_millis(200));
        assert!(stranger("198.51.100.10").is_none(), "given back twice");
        workers.stop().expect("a regular end");
    });
}

#[test]
fn connections_are_limited_by_source_and_in_all() {
    in_namespace("connections_are_limited_by_source_and_in_all", || {
        ip("route add local 198.51.100.0/24 dev lo");
        let workers = start(TcpLimits {
            per_source: 2,
            total: 3,
            ..TcpLimits::default()
        });
        let from = |source: &str| served(source, Lane::Known);
        let (first, _second) = (from("198.51.100.7"), from("198.51.100.7"));
        assert!(first.is_some() && _second.is_some());
        assert!(from("198.51.100.7").is_none(), "a third of one source");
        let third = from("198.51.100.8");
        assert!(third.is_some());
        assert!(from("198.51.100.9").is_none(), "a fourth in all");
        assert_eq!(fault(&workers, Fault::ConnectionLimit), 2);
        drop(first);
        thread::sleep(Duration::from_millis(200));
        assert!(from("198.51.100.7").is_some(), "a place was given back");
        workers.stop().expect("a regular end");
    });
}

#[test]
fn without_a_softswitch_the_answer_is_503() {
    in_namespace("without_a_softswitch_the_answer_is_503", || {
        let workers = start(TcpLimits::default());
        let mut gateway = dial(SOFTSWITCH[1], PORTS.punt[1]);
        gateway.write_all(message("INVITE").as_bytes()).expect("sent");
        assert!(rest(&mut gateway).starts_with("SIP/2.0 503 "));
        assert_eq!(fault(&workers, Fault::Connect), 1);
        workers.stop().expect("a regular end");
    });
}
