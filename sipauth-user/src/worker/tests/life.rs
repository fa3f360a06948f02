use super::*;

#[test]
fn a_worker_that_is_stuck_is_noticed_and_one_that_is_busy_or_idle_is_not() {
    in_namespace("a_worker_that_is_stuck_is_noticed_and_one_that_is_busy_or_idle_is_not", || {
        gateways_are_local();
        let (workers, _, _) = start(2, |_| {
            |datagram: &[u8], _: &Arrival| {
                if datagram == b"stuck" {
                    thread::sleep(Duration::from_millis(1500));
                }
                reply(b"done".to_vec())
            }
        });
        let counts = workers.counts();
        let alive = || {
            thread::sleep(Duration::from_millis(300));
            counts.alive()
        };
        let socket = bound(at(GATEWAY[0], 5062));
        let send = |text: &[u8]| socket.send_to(text, at(SOFTSWITCH[0], PORTS.punt[0])).expect("sent");
        assert!(alive() && alive(), "idle");
        for _ in 0..200 {
            send(b"busy");
        }
        assert!(alive(), "busy");
        send(b"stuck");
        thread::sleep(Duration::from_millis(100));
        let _ = counts.alive();
        assert!(!alive(), "stuck");
        thread::sleep(Duration::from_millis(1500));
        let _ = counts.alive();
        assert!(alive(), "and free again");
    });
}
