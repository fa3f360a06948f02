//! What the workers measure of themselves, over real sockets.

use std::{num::NonZeroUsize, thread, time::Duration};

use sipauth_common::config::Lane;

use super::{
    namespace::{at, bound, in_namespace, ip},
    *,
};

const PORTS: PuntPorts = PuntPorts {
    protected: 5060,
    punt: [5161, 5162, 5163, 5164],
};
const STEP: Duration = Duration::from_millis(30);

/// Takes its time; answers what begins with `a`, and hands over the rest.
struct Slow;

impl Handler for Slow {
    fn reuse(&mut self, _: Vec<u8>) {}

    fn handle(&mut self, datagram: &[u8], _: &Arrival) -> Action {
        thread::sleep(STEP);
        let outcome = Outcome::InDialog;
        match datagram.first() {
            Some(b'a') => Action::Reply {
                response: datagram.to_vec(),
                outcome,
            },
            Some(b'r') => Action::Release { flow: None, outcome },
            _ => Action::Absorb { outcome },
        }
    }
}

struct Nothing;

impl Flows for Nothing {
    fn grant(&self, _: SocketAddr, _: FlowGrant) -> io::Result<()> {
        Ok(())
    }

    fn term(&self, _: u32, _: SocketAddr) -> Option<u64> {
        None
    }
}

fn measure(timestamps: bool) -> Vec<Histogram> {
    let options = Options {
        workers: NonZeroUsize::MIN,
        ports: vec![PORTS],
        tcp: TcpLimits::default(),
        timestamps,
    };
    let workers = Workers::start(&options, &CancellationToken::new(), |_| Slow, Arc::new(Nothing)).expect("workers");
    for (gateway, softswitch) in [("198.51.100.7", "203.0.113.1"), ("2001:db8:7::7", "2001:db8::1")] {
        let socket = bound(at(gateway, 5062));
        // The second and third wait in the queue or the batch for those before them.
        for datagram in [b"a1", b"r2", b"x3", b"a4"] {
            socket.send_to(datagram, at(softswitch, PORTS.punt[1])).expect("sent");
        }
        let mut buffer = [0; 16];
        for expected in [b"a1", b"a4"] {
            let (length, _) = socket.recv_from(&mut buffer).expect("an answer");
            assert_eq!(&buffer[..length], expected);
        }
    }
    // An answer is counted after it has been sent.
    thread::sleep(STEP);
    let work = workers.counts().work();
    workers.stop().expect("a regular end");
    work.latency
}

#[test]
fn latency_has_the_time_in_the_queue_in_both_families_and_only_where_it_is_asked_for() {
    in_namespace("latency_has_the_time_in_the_queue", || {
        ip("route add local 198.51.100.0/24 dev lo");
        ip("-6 route add local 2001:db8::/32 dev lo");
        let count = |histogram: &Histogram| histogram.buckets.iter().map(|(_, count)| count).sum::<u64>();
        let measured = measure(true);
        let filled: Vec<&Histogram> = measured.iter().filter(|one| count(one) > 0).collect();
        let [answers, releases] = filled.as_slice() else {
            panic!("{measured:?}")
        };
        assert_eq!((count(answers), count(releases)), (4, 2), "{measured:?}");
        assert_eq!((answers.lane, releases.lane), (Lane::Known, Lane::Known), "{measured:?}");
        // Of each family the last answer waited for all four steps, and the first for one.
        let step = STEP.as_secs_f64();
        assert!(answers.seconds >= 2.0 * 5.0 * step, "{measured:?}");
        assert!(answers.seconds < 60.0, "{measured:?}");
        let none = measure(false);
        assert!(none.len() == 2 * LANES && none.iter().all(|one| count(one) == 0), "{none:?}");
    });
}
