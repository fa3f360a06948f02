use super::*;

fn record(call_id: &str, source: &str) -> Box<TraceRecord> {
    let source = source.parse().expect("an address");
    Box::new(TraceRecord {
        method: "INVITE".to_owned(),
        call_id: call_id.to_owned(),
        ..TraceRecord::bare(source, "203.0.113.10:5060".parse().expect("an address"), Transport::Udp)
    })
}

fn address() -> Subject {
    Subject::Address("203.0.113.5".parse().expect("an address"))
}

#[test]
fn nobody_is_traced_once_the_last_trace_has_ended() {
    let tracing = Tracing::default();
    assert!(!tracing.is_active());
    let (one, two) = (
        tracing.begin(Tracer::new(address(), false).0),
        tracing.begin(Tracer::new(address(), false).0),
    );
    drop(one);
    assert!(tracing.is_active());
    drop(two);
    assert!(!tracing.is_active() && tracing.tracers().is_empty());
}

#[test]
fn what_comes_too_fast_is_counted_and_not_kept() {
    let (tracer, mut records) = Tracer::new(address(), false);
    assert_eq!((0..10_000).filter(|_| tracer.may_take(false)).count(), RATE as usize);
    let taken = (0..10_000).filter(|_| tracer.may_take(true)).count();
    assert_eq!(taken, RATE as usize, "strangers take nothing from the subject");
    (0..ROOM + 7).for_each(|_| tracer.tell(record("a", "203.0.113.5:5060")));
    assert_eq!(tracer.lost.load(Ordering::Relaxed), 7);
    assert!(!tracer.may_take(true), "there is no room");
    let mut kept = 0;
    while records.try_recv().is_ok() {
        kept += 1;
    }
    assert_eq!(kept, ROOM);
}

#[test]
fn what_was_held_back_is_told_once_its_call_turns_out_to_be_the_gateways() {
    let (tracer, mut records) = Tracer::new(address(), false);
    for (call, source) in [("a", "203.0.113.5:1"), ("b", "203.0.113.5:1"), ("a", "203.0.113.6:1")] {
        tracer.hold(record(call, source));
    }
    assert!(records.try_recv().is_err());
    tracer.tell(record("a", "203.0.113.5:2"));
    let told: Vec<u16> = std::iter::from_fn(|| records.try_recv().ok())
        .map(|one| one.source.port())
        .collect();
    assert_eq!(told, [1, 2]);
    (0..1_000).for_each(|n| tracer.hold(record(&n.to_string(), "203.0.113.5:1")));
    assert_eq!(tracer.state().held.len(), HELD);
}

#[test]
fn a_challenge_is_told_without_its_nonce() {
    let reply =
        b"SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"sipauth\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"\r\n\r\n";
    assert_eq!(challenges(reply), ["Digest realm=\"sipauth\", algorithm=MD5, qop=\"auth\""]);
    assert_eq!(hex(b"\x00\xffA"), "00ff41");
}
