use super::*;

#[test]
fn trusted_datagrams_go_first_and_no_lane_starves() {
    in_namespace("trusted_datagrams_go_first_and_no_lane_starves", || {
        gateways_are_local();
        let (open, gate) = mpsc::channel::<()>();
        let (tell, order) = mpsc::channel::<u8>();
        let gate = Mutex::new(Some(gate));
        let (workers, _, _) = start(1, move |_| {
            let gate = gate.lock().expect("not poisoned").take();
            let tell = tell.clone();
            move |datagram: &[u8], _: &Arrival| {
                if datagram == b"gate" {
                    gate.as_ref().map(|gate| gate.recv_timeout(WAIT));
                } else {
                    tell.send(datagram[0]).expect("a listener");
                }
                Action::Absorb {
                    outcome: Outcome::Authenticated,
                }
            }
        });
        let socket = bound(at(GATEWAY[0], 5062));
        socket.send_to(b"gate", at(SOFTSWITCH[0], PORTS.punt[3])).expect("sent");
        thread::sleep(Duration::from_millis(200));
        for lane in Lane::ALL.into_iter().rev() {
            for _ in 0..100 {
                socket
                    .send_to(&[lane as u8], at(SOFTSWITCH[0], PORTS.punt[lane as usize]))
                    .expect("sent");
            }
        }
        open.send(()).expect("the gate");
        let order: Vec<_> = (0..400).map(|_| order.recv_timeout(WAIT).expect("all arrive")).collect();
        let first = |lane: Lane| order.iter().position(|one| *one == lane as u8).expect("some of each");
        let last = |lane: Lane| order.iter().rposition(|one| *one == lane as u8).expect("some of each");
        assert_eq!(
            (first(Lane::Trusted), last(Lane::Trusted), first(Lane::Known)),
            (0, 99, 100),
            "trusted first"
        );
        for [higher, lower] in [[Lane::Known, Lane::Untrusted], [Lane::Untrusted, Lane::Denied]] {
            assert!(
                first(higher) < first(lower) && first(lower) < last(higher),
                "{}: no lane starves",
                lower.label()
            );
            assert!(last(higher) < last(lower), "{} goes before {}", higher.label(), lower.label());
        }
        workers.stop().expect("a regular end");
    });
}

#[test]
fn a_socket_has_room_for_a_burst() {
    in_namespace("a_socket_has_room_for_a_burst", || {
        let options = Options {
            workers: NonZeroUsize::MIN,
            ports: vec![PORTS],
            tcp: TcpLimits::default(),
            timestamps: false,
        };
        let groups = socket::bind(&options).expect("sockets");
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [8]);
        for endpoint in groups.into_iter().flatten() {
            // The kernel doubles what was asked for, for its own use.
            assert_eq!(Socket::from(endpoint.socket).recv_buffer_size().expect("a size"), 8 << 20);
        }
    });
}

#[test]
fn a_burst_is_answered_in_full() {
    in_namespace("a_burst_is_answered_in_full", || {
        gateways_are_local();
        let (workers, _, _) = start(2, |_| |datagram: &[u8], _: &Arrival| reply(datagram.to_vec()));
        let socket = bound(at(GATEWAY[0], 5062));
        // Room for all answers: on a busy machine this thread may not run while they come, and the kernel would drop them here.
        setsockopt(&socket, RcvBufForce, &(4 << 20)).expect("an option");
        let sender = socket.try_clone().expect("a copy");
        let sending = thread::spawn(move || {
            for number in 0..2_000_u32 {
                sender
                    .send_to(&number.to_be_bytes(), at(SOFTSWITCH[0], PORTS.punt[1]))
                    .expect("sent");
                if number % 100 == 99 {
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let mut seen = vec![false; 2_000];
        for _ in 0..2_000 {
            let mut buffer = [0; 4];
            socket.recv(&mut buffer).expect("an answer");
            seen[u32::from_be_bytes(buffer) as usize] = true;
        }
        sending.join().expect("no panic");
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(authenticated(&workers), 2_000);
        workers.stop().expect("a regular end");
    });
}

#[test]
fn of_a_batch_each_datagram_goes_its_own_way_with_its_own_bytes() {
    in_namespace("of_a_batch_each_datagram_goes_its_own_way_with_its_own_bytes", || {
        gateways_are_local();
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(Some(gate));
        let (workers, _, _) = start(1, move |_| {
            let gate = gate.lock().expect("not poisoned").take();
            move |datagram: &[u8], _: &Arrival| match datagram[0] {
                b'g' => {
                    gate.as_ref().map(|gate| gate.recv_timeout(WAIT));
                    Action::Absorb {
                        outcome: Outcome::UnknownSource,
                    }
                }
                b'r' => release(1),
                b'n' => release(0),
                b'a' => reply(datagram.to_vec()),
                _ => Action::Absorb {
                    outcome: Outcome::UnknownSource,
                },
            }
        });
        {
            let (gateway, softswitch) = (GATEWAY[0], SOFTSWITCH[0]);
            let (source, listening) = (at(gateway, 5062), bound(at(softswitch, 5060)));
            let socket = bound(source);
            for end in [&listening, &socket] {
                setsockopt(end, RcvBufForce, &(4 << 20)).expect("an option");
            }
            let send = |text: String| socket.send_to(text.as_bytes(), at(softswitch, PORTS.punt[1])).expect("sent");
            send("gate".into());
            thread::sleep(Duration::from_millis(100));
            // While the worker is held up they gather, to be read together. Only `r` may reach the softswitch.
            for number in 0..200 {
                for kind in ["x", "r", "n", "a"] {
                    send(format!("{kind}{number} {}", "-".repeat(number)));
                }
            }
            open.send(()).expect("the gate");
            for (kind, socket) in [("r", &listening), ("a", &socket)] {
                for number in 0..200 {
                    let mut buffer = [0; 300];
                    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
                    let expected = format!("{kind}{number} {}", "-".repeat(number));
                    assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
                    assert_eq!(from, if kind == "r" { source } else { at(softswitch, PORTS.punt[1]) });
                }
            }
            listening.set_read_timeout(Some(Duration::from_millis(200))).expect("an option");
            assert!(listening.recv_from(&mut [0; 300]).is_err(), "nothing else");
        }
        assert_eq!(count_of(&workers, Fault::Grant), 200);
        workers.stop().expect("a regular end");
    });
}
