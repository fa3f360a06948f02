//! Workers over real sockets, each test in a network namespace of its own.

use std::{
    net::IpAddr,
    sync::{Mutex, mpsc},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    unistd::gettid,
};
use sipauth_common::config::Lane;
use socket2::{Domain, Socket, Type};

mod life;
mod load;

use super::{
    namespace::{WAIT, at, bound, in_namespace, ip},
    *,
};

const SOFTSWITCH: [&str; 2] = ["203.0.113.1", "2001:db8::1"];
const GATEWAY: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];
const PORTS: PuntPorts = PuntPorts {
    protected: 5060,
    punt: [5161, 5162, 5163, 5164],
};

fn gateways_are_local() {
    ip("route add local 198.51.100.0/24 dev lo");
    ip("-6 route add local 2001:db8::/32 dev lo");
}

/// Calls a closure.
struct Call<F>(F);

impl<F: FnMut(&[u8], &Arrival) -> Action + 'static> Handler for Call<F> {
    fn reuse(&mut self, _: Vec<u8>) {}

    fn handle(&mut self, datagram: &[u8], arrival: &Arrival) -> Action {
        (self.0)(datagram, arrival)
    }
}

/// Remembers grants; fails for gateway 0.
#[derive(Default)]
struct Granted(Mutex<Vec<(SocketAddr, FlowGrant)>>);

impl Flows for Granted {
    fn grant(&self, source: SocketAddr, grant: FlowGrant) -> io::Result<()> {
        if grant.gateway == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.lock().expect("not poisoned").push((source, grant));
        Ok(())
    }

    fn term(&self, gateway: u32, _: SocketAddr) -> Option<u64> {
        (gateway != 0).then_some(0)
    }
}

fn start<F, C>(workers: usize, handler: F) -> (Workers, CancellationToken, Arc<Granted>)
where
    F: Fn(usize) -> C + Send + Sync + 'static,
    C: FnMut(&[u8], &Arrival) -> Action + 'static,
{
    let options = Options {
        workers: NonZeroUsize::new(workers).expect("workers"),
        ports: vec![PORTS],
        tcp: TcpLimits::default(),
        timestamps: false,
    };
    let (shutdown, flows) = (CancellationToken::new(), Arc::new(Granted::default()));
    let table: Arc<dyn Flows> = flows.clone();
    let workers = Workers::start(&options, &shutdown, move |index| Call(handler(index)), table).expect("workers");
    (workers, shutdown, flows)
}

fn reply(response: Vec<u8>) -> Action {
    Action::Reply {
        response,
        outcome: Outcome::Authenticated,
    }
}

fn release(gateway: u32) -> Action {
    Action::Release {
        flow: Some(FlowGrant {
            gateway,
            lifetime: None,
            caller: None,
        }),
        outcome: Outcome::Authenticated,
    }
}

fn count_of(workers: &Workers, fault: Fault) -> u64 {
    workers
        .faults()
        .into_iter()
        .filter(|(one, _)| *one == fault)
        .map(|(_, count)| count)
        .sum()
}

fn authenticated(workers: &Workers) -> u64 {
    workers
        .outcomes()
        .into_iter()
        .filter(|(one, _)| *one == Outcome::Authenticated)
        .map(|(_, count)| count)
        .sum()
}

#[test]
fn a_reply_comes_from_where_the_request_went() {
    in_namespace("a_reply_comes_from_where_the_request_went", || {
        gateways_are_local();
        ip("address add 203.0.113.2/32 dev lo");
        let (workers, _, _) = start(2, |_| {
            |datagram: &[u8], arrival: &Arrival| reply(format!("{} {arrival:?}", datagram.len()).into_bytes())
        });
        for (gateway, softswitch) in [
            (GATEWAY[0], SOFTSWITCH[0]),
            (GATEWAY[0], "203.0.113.2"),
            (GATEWAY[1], SOFTSWITCH[1]),
        ] {
            for (lane, (trusted, denied)) in [(true, false), (false, false), (false, false), (false, true)]
                .into_iter()
                .enumerate()
            {
                for size in [1, 4_096, 60_000] {
                    let source = at(gateway, 5062);
                    let socket = bound(source);
                    let asked = at(softswitch, PORTS.punt[lane]);
                    socket.send_to(&vec![b'x'; size], asked).expect("sent");
                    let mut buffer = [0; 1024];
                    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
                    assert_eq!(from, asked);
                    let arrival = Arrival {
                        source,
                        destination: at(softswitch, 5060),
                        trusted,
                        denied,
                    };
                    assert_eq!(String::from_utf8_lossy(&buffer[..length]), format!("{size} {arrival:?}"));
                }
            }
        }
        assert_eq!(authenticated(&workers), 36);
        assert!(workers.faults().iter().all(|(_, count)| *count == 0), "{:?}", workers.faults());
        workers.stop().expect("a regular end");
    });
}

#[test]
fn a_released_datagram_reaches_the_softswitch_after_its_flow() {
    in_namespace("a_released_datagram_reaches_the_softswitch_after_its_flow", || {
        gateways_are_local();
        let (workers, _, flows) = start(1, |_| |datagram: &[u8], _: &Arrival| release(u32::from(datagram == b"INVITE")));
        for (gateway, softswitch) in GATEWAY.into_iter().zip(SOFTSWITCH) {
            let (source, listening) = (at(gateway, 5062), bound(at(softswitch, 5060)));
            let socket = bound(source);
            // The grant for this one fails: it must not arrive before the next, nor at all.
            socket.send_to(b"no flow", at(softswitch, PORTS.punt[1])).expect("sent");
            socket.send_to(b"INVITE", at(softswitch, PORTS.punt[1])).expect("sent");
            let mut buffer = [0; 64];
            let (length, from) = listening.recv_from(&mut buffer).expect("a datagram");
            assert_eq!((&buffer[..length], from), (&b"INVITE"[..], source));
            assert_eq!(
                flows.0.lock().expect("not poisoned").pop(),
                Some((
                    source,
                    FlowGrant {
                        gateway: 1,
                        lifetime: None,
                        caller: None,
                    }
                ))
            );
        }
        assert_eq!((authenticated(&workers), count_of(&workers, Fault::Grant)), (2, 2));
        workers.stop().expect("a regular end");
    });
}

#[test]
fn a_request_in_fragments_is_answered_whole() {
    in_namespace("a_request_in_fragments_is_answered_whole", || {
        ip("link add inside mtu 1500 type veth peer name outside mtu 1500");
        let ((tell, thread), (moved, wait)) = (mpsc::channel(), mpsc::channel::<()>());
        let gateway = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            tell.send(gettid()).expect("a listener");
            wait.recv_timeout(WAIT).expect("the interface");
            for command in [
                "address add 192.0.2.7/24 dev outside",
                "address add 2001:db8:2::7/64 dev outside nodad",
                "link set outside up",
            ] {
                ip(command);
            }
            for (from, to) in [("192.0.2.7", "192.0.2.1"), ("2001:db8:2::7", "2001:db8:2::1")] {
                let socket = bound(at(from, 5062));
                socket.send_to(&[b'x'; 4_500], at(to, PORTS.punt[1])).expect("sent");
                let mut buffer = [0; 8_000];
                assert_eq!(socket.recv_from(&mut buffer).expect("an answer"), (4_500, at(to, PORTS.punt[1])));
            }
        });
        ip(&format!("link set outside netns {}", thread.recv_timeout(WAIT).expect("a thread")));
        for command in [
            "address add 192.0.2.1/24 dev inside",
            "address add 2001:db8:2::1/64 dev inside nodad",
            "link set inside up",
        ] {
            ip(command);
        }
        let (workers, _, _) = start(2, |_| |datagram: &[u8], _: &Arrival| reply(datagram.to_vec()));
        moved.send(()).expect("a listener");
        gateway.join().expect("no panic");
        assert_eq!(authenticated(&workers), 2);
        workers.stop().expect("a regular end");
    });
}

#[test]
fn a_source_has_one_worker_whatever_its_port() {
    in_namespace("a_source_has_one_worker_whatever_its_port", || {
        gateways_are_local();
        let (workers, _, _) = start(4, |index| {
            move |_: &[u8], _: &Arrival| reply(vec![u8::try_from(index).expect("few")])
        });
        for (family, softswitch) in SOFTSWITCH.into_iter().enumerate() {
            let mut used = [0; 4];
            for host in 1..=64_u8 {
                let address: IpAddr = match family {
                    0 => [198, 51, 100, host].into(),
                    _ => [0x2001, 0xdb8, 7, u16::from(host), 0, 0, 0, u16::from(host)].into(),
                };
                let answers: Vec<_> = (0..6)
                    .map(|port| {
                        let socket = bound(SocketAddr::new(address, 6000 + port));
                        socket
                            .send_to(b"x", at(softswitch, PORTS.punt[usize::from(port) % 4]))
                            .expect("sent");
                        let mut buffer = [0; 8];
                        let (length, _) = socket.recv_from(&mut buffer).expect("an answer");
                        assert_eq!(length, 1);
                        buffer[0]
                    })
                    .collect();
                assert!(answers.iter().all(|answer| *answer == answers[0]), "{address}: {answers:?}");
                used[usize::from(answers[0])] += 1;
            }
            // 16 each would be even; this is far from one worker having nearly all.
            assert!(used.iter().all(|count| *count >= 4), "{used:?}");
        }
        workers.stop().expect("a regular end");
    });
}

#[test]
fn a_port_that_is_taken_is_named_with_the_remedy() {
    in_namespace("a_port_that_is_taken_is_named_with_the_remedy", || {
        let taken = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        // As another process would that means to share the port with itself.
        taken.set_reuse_port(true).expect("an option");
        taken.bind(&at("0.0.0.0", PORTS.punt[1]).into()).expect("bound");
        let options = Options {
            workers: NonZeroUsize::MIN,
            ports: vec![PORTS],
            tcp: TcpLimits::default(),
            timestamps: false,
        };
        let handler = |_| Call(|_: &[u8], _: &Arrival| release(1));
        let error = Workers::start(&options, &CancellationToken::new(), handler, Arc::new(Granted::default())).expect_err("taken");
        let text = error.to_string();
        assert!(
            text.contains("5162") && text.contains("5060") && text.contains("`punt-port`"),
            "{text}"
        );
    });
}

#[test]
fn a_worker_that_panics_ends_all() {
    in_namespace("a_worker_that_panics_ends_all", || {
        gateways_are_local();
        let (workers, shutdown, _) = start(2, |_| |_: &[u8], _: &Arrival| panic!("as the test wants"));
        assert!(!shutdown.is_cancelled());
        bound(at(GATEWAY[0], 5062))
            .send_to(b"x", at(SOFTSWITCH[0], PORTS.punt[0]))
            .expect("sent");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime
            .block_on(async { tokio::time::timeout(WAIT, shutdown.cancelled()).await })
            .expect("cancelled");
        assert!(matches!(workers.stop(), Err(WorkerError::Panicked(_))));
    });
}
