use std::{fs, net::IpAddr, sync::Mutex, time::Duration};

use serde_json::{Value, json};
use sipauth_common::reason;

use super::*;
use crate::auth::Outcome;

/// Gateway 7 is `office` with the username `u`, and has the address 203.0.113.7.
struct Fake(Mutex<Wanted>);

impl Context for Fake {
    fn gateway(&self, id: Option<u32>, username: Option<&[u8]>, source: SocketAddr) -> Option<String> {
        (id == Some(7) || username == Some(b"u") || self.is_listed(source)).then(|| "office".to_owned())
    }

    fn is_listed(&self, source: SocketAddr) -> bool {
        source.ip() == IpAddr::from([203, 0, 113, 7])
    }

    fn wanted(&self) -> Wanted {
        self.0.lock().unwrap().clone()
    }
}

fn fake(directory: &tempfile::TempDir) -> Fake {
    Fake(Mutex::new(Wanted {
        target: Target::File,
        directory: directory.path().to_owned(),
        files: 2,
    }))
}

fn request(method: &str, more: &str) -> Vec<u8> {
    format!(
        "{method} sip:100@lab SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@lab>;tag=1\r\nTo: <sip:100@lab>\r\n\
         Call-ID: one@lab\r\nCSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn refused(source: [u8; 4], reason: Reason, message: &[u8]) -> Refused {
    Refused {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        source: SocketAddr::from((source, 5060)),
        destination: SocketAddr::from(([203, 0, 113, 10], 5060)),
        transport: Transport::Udp,
        reason,
        gateway: None,
        code: None,
        detail: None,
        monitored: false,
        message: kept(message),
    }
}

const STRANGER: [u8; 4] = [198, 51, 100, 66];
const UNKNOWN: Reason = Reason::Kernel(reason::Reason::UnknownSource);

/// What the thread writes for these refusals.
fn written(all: Vec<Refused>) -> (Vec<Value>, Arc<Tally>) {
    let directory = tempfile::tempdir().unwrap();
    let (records, waiting) = queue();
    let thread = start(&records, waiting, Arc::new(fake(&directory))).unwrap();
    for one in all {
        records.queue.send(Item::Refused(Box::new(one))).unwrap();
    }
    records.end();
    thread.join().unwrap();
    let text = fs::read_to_string(directory.path().join("records.jsonl")).unwrap_or_default();
    (
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        records.tally,
    )
}

#[test]
fn a_record_has_what_an_operator_asks_for() {
    let message = request(
        "INVITE",
        "Authorization: Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"sip:100@lab\", response=\"00000000000000000000000000000000\"\r\n",
    );
    let wrong = Refused {
        code: Some(401),
        detail: Some("why".to_owned()),
        ..refused(STRANGER, Reason::Agent(Outcome::WrongPassword), &message)
    };
    let (lines, tally) = written(vec![wrong]);
    assert_eq!(
        lines,
        [json!({
            "time": "1970-01-01T00:00:01.000Z", "last": "1970-01-01T00:00:01.000Z", "count": 1, "gateway": "office",
            "source": "198.51.100.66:5060", "destination": "203.0.113.10:5060", "transport": "udp", "method": "INVITE",
            "uri": "sip:100@lab", "call_id": "one@lab", "from": "<sip:a@lab>;tag=1", "to": "<sip:100@lab>",
            "reason": "wrong_password", "code": 401, "cause": 21, "termination": "authentication failed", "detail": "why",
            "sampled": false, "monitored": false
        })]
    );
    assert_eq!((tally.written(), tally.lost()), (1, 0));
}

#[test]
fn a_sample_says_that_it_is_one_and_shows_what_is_there() {
    let message = request("REGISTER", "");
    let head = message.get(..100).unwrap();
    let (lines, _) = written(vec![Refused {
        monitored: true,
        ..refused(STRANGER, UNKNOWN, head)
    }]);
    let line = &lines[0];
    assert_eq!((&line["sampled"], &line["monitored"]), (&json!(true), &json!(true)));
    assert_eq!((&line["uri"], &line["call_id"]), (&json!("sip:100@lab"), &Value::Null));
    assert_eq!(
        (&line["termination"], &line["code"]),
        (&json!("address not authorized"), &Value::Null)
    );
}

#[test]
fn what_the_kernel_leaves_to_the_agent_has_the_kernels_reason() {
    let denied = |source| Refused {
        code: Some(403),
        ..refused(source, Reason::Agent(Outcome::Denied), &request("INVITE", ""))
    };
    let (lines, _) = written(vec![denied(STRANGER), denied([203, 0, 113, 7])]);
    let said: Vec<_> = lines.iter().map(|line| (line["reason"].clone(), line["gateway"].clone())).collect();
    assert_eq!(
        said,
        [(json!("unknown_source"), Value::Null), (json!("port_mismatch"), json!("office"))]
    );
}

#[test]
fn the_same_refusal_of_a_source_is_folded_and_another_is_not() {
    let invite = request("INVITE", "");
    let mut all: Vec<Refused> = (0..50)
        .map(|second| Refused {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            ..refused(STRANGER, UNKNOWN, &invite)
        })
        .collect();
    all.push(refused([198, 51, 100, 67], UNKNOWN, &invite));
    all.push(refused(STRANGER, UNKNOWN, &request("REGISTER", "")));
    all.push(refused(STRANGER, Reason::Kernel(reason::Reason::Banned), &invite));
    let (lines, _) = written(all);
    let counts: Vec<u64> = lines.iter().filter_map(|line| line["count"].as_u64()).collect();
    assert_eq!(counts, [50, 1, 1, 1]);
    assert_eq!(
        (&lines[0]["time"], &lines[0]["last"]),
        (&json!("1970-01-01T00:00:00.000Z"), &json!("1970-01-01T00:00:49.000Z"))
    );
}

#[test]
fn a_flood_from_ever_new_addresses_makes_a_few_lines_and_every_refusal_is_counted() {
    let invite = request("INVITE", "");
    let sources = (0..20_000_u32).map(|number| number.to_be_bytes());
    let all: Vec<Refused> = sources.map(|source| refused(source, UNKNOWN, &invite)).collect();
    let (lines, tally) = written(all);
    assert_eq!(lines.len(), fold::MOST + 1);
    let counted: u64 = lines.iter().filter_map(|line| line["count"].as_u64()).sum();
    assert_eq!(counted, 20_000);
    let rest = lines.last().unwrap();
    assert_eq!((&rest["source"], &rest["call_id"]), (&Value::Null, &Value::Null));
    assert_eq!(rest["reason"], "unknown_source");
    assert_eq!(tally.lost(), 0);
}

#[test]
fn a_source_that_is_known_is_told_apart_during_a_flood_and_there_is_room_again_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let context = fake(&directory);
    let (mut folder, start, invite) = (Folder::default(), Instant::now(), request("INVITE", ""));
    for number in 0..1_000_u32 {
        folder.add(&refused(number.to_be_bytes(), UNKNOWN, &invite), &context, start);
    }
    folder.add(&refused([0, 0, 0, 5], UNKNOWN, &invite), &context, start);
    // Another reason of the same source has no room.
    folder.add(
        &refused([0, 0, 0, 5], Reason::Kernel(reason::Reason::Banned), &invite),
        &context,
        start,
    );
    let all: Vec<Record> = std::iter::from_fn(|| folder.due(start + fold::INTERVAL)).collect();
    assert_eq!(all.len(), fold::MOST + 2);
    assert_eq!(all[5].count, 2);
    assert!(all[fold::MOST..].iter().all(|rest| rest.source.is_none() && rest.gateway.is_none()));
    assert_eq!(all.iter().map(|record| record.count).sum::<u64>(), 1_002);
    folder.add(&refused([9, 9, 9, 9], UNKNOWN, &invite), &context, start);
    assert!(folder.all()[0].source.is_some());
}

#[test]
fn a_record_is_written_when_its_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let context = fake(&directory);
    let mut folder = Folder::default();
    let one = refused(STRANGER, UNKNOWN, &request("INVITE", ""));
    let start = Instant::now();
    assert_eq!(folder.wait(start), None);
    folder.add(&one, &context, start);
    folder.add(&one, &context, start + fold::INTERVAL / 2);
    assert_eq!(folder.wait(start), Some(fold::INTERVAL));
    assert!(folder.due(start + fold::INTERVAL / 2).is_none());
    assert_eq!(folder.due(start + fold::INTERVAL).unwrap().count, 2);
    // The next begins another.
    folder.add(&one, &context, start + fold::INTERVAL);
    assert_eq!(folder.all().len(), 1);
}

#[test]
fn a_full_queue_never_waits_and_is_counted() {
    let (records, waiting) = queue();
    for _ in 0..QUEUE + 10 {
        records.refused(refused(STRANGER, UNKNOWN, b"INVITE x"));
    }
    assert_eq!(records.tally.lost(), 10);
    drop(waiting);
    records.refused(refused(STRANGER, UNKNOWN, b"INVITE x"));
    assert_eq!(records.tally.lost(), 11);
    records.end();
}

#[test]
fn only_what_begins_something_is_a_call() {
    for call in ["INVITE", "REGISTER", "SUBSCRIBE", "REFER", "MESSAGE", "PUBLISH"] {
        assert!(is_call(&request(call, "")), "{call}");
    }
    assert!(is_call(b"\r\n\r\nINVITE sip:a"));
    for other in [
        &b"OPTIONS sip:a SIP/2.0\r\n"[..],
        b"ACK sip:a",
        b"BYE sip:a",
        b"FOO sip:a",
        b"SIP/2.0 200 OK",
        b"",
        b"\r\n",
        b"\0\x01",
    ] {
        assert!(!is_call(other), "{other:?}");
    }
}

#[test]
fn whatever_a_peer_sends_is_one_line_of_json() {
    let evil = b"INVITE sip:\xff\x1b[2J SIP/2.0\r\nFrom: \"\x01\xc2\x9b\r\n forged\" <sip:a>\nTo: {\"a\":1}\nCall-ID: \0\n\n";
    let (lines, _) = written(vec![refused(STRANGER, Reason::Agent(Outcome::Unparseable), evil)]);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["uri"], "sip:\u{fffd}\u{1b}[2J");
    assert_eq!(lines[0]["to"], "{\"a\":1}");
    assert_eq!(lines[0]["call_id"], "\0");
}

#[test]
fn settings_count_from_the_next_record_on() {
    let directory = tempfile::tempdir().unwrap();
    let context = Arc::new(fake(&directory));
    context.0.lock().unwrap().target = Target::Off;
    let (records, waiting) = queue();
    let thread = start(&records, waiting, Arc::clone(&context) as _).unwrap();
    context.0.lock().unwrap().target = Target::File;
    records.refused(refused(STRANGER, UNKNOWN, &request("INVITE", "")));
    records.end();
    thread.join().unwrap();
    assert!(directory.path().join("records.jsonl").exists());
}
