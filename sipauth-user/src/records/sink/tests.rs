use std::{fs, net::SocketAddr};

use super::*;
use crate::control::Transport;

fn record(from: &str) -> Record {
    let time = SystemTime::UNIX_EPOCH;
    Record {
        time,
        last: time,
        count: 3,
        gateway: Some("office".to_owned()),
        source: Some(SocketAddr::from(([198, 51, 100, 66], 5060))),
        destination: None,
        transport: Transport::Udp,
        method: "INVITE",
        uri: None,
        call_id: None,
        from: Some(from.to_owned()),
        to: None,
        reason: "unknown_user",
        code: Some(401),
        cause: 21,
        termination: "unknown user",
        detail: None,
        sampled: false,
        monitored: false,
    }
}

/// A socket as the journal has one, what it got, and how the counts stand; then without it.
fn exchange(make: fn(PathBuf) -> Sink) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (mut sink, tally) = (make(path.clone()), Tally::new("test"));
    sink.write(&record("a"), &tally);
    assert_eq!((tally.written(), tally.lost()), (0, 1), "nobody is there");
    let socket = UnixDatagram::bind(&path).unwrap();
    sink.write(&record("a\nPRIORITY=0"), &tally);
    assert_eq!((tally.written(), tally.failing()), (1, None), "it is there now");
    let mut buffer = vec![0; 8_192];
    let length = socket.recv(&mut buffer).unwrap();
    // A reader that hangs makes nobody wait.
    for _ in 0..2_000 {
        sink.write(&record("a"), &tally);
    }
    assert!(tally.lost() > 1);
    drop(socket);
    fs::remove_file(&path).unwrap();
    let _again = UnixDatagram::bind(&path).unwrap();
    let before = tally.written();
    sink.write(&record("a"), &tally);
    assert_eq!(tally.written(), before + 1, "it was started anew");
    buffer.truncate(length);
    buffer
}

#[test]
fn the_journal_gets_every_field_by_its_name() {
    let entry = exchange(Sink::Journald);
    // `From` has a line end in it, and so its length before it.
    let mut wanted = b"\nSIPAUTH_FROM\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n".to_vec();
    assert!(entry.windows(wanted.len()).any(|part| part == wanted));
    wanted.clear();
    let text = String::from_utf8_lossy(&entry);
    for line in [
        "MESSAGE=INVITE from 198.51.100.66:5060 (gateway office) refused: unknown user (unknown_user), 3 times",
        "PRIORITY=5",
        "SYSLOG_IDENTIFIER=sipauth",
        "SIPAUTH_GATEWAY=office",
        "SIPAUTH_CODE=401",
        "SIPAUTH_COUNT=3",
        "SIPAUTH_SAMPLED=false",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}: {text}");
    }
    assert!(!text.contains("SIPAUTH_CALL_ID"), "what is not known is not there: {text}");
}

#[test]
fn syslog_gets_a_line_of_json_behind_priority_and_name() {
    let entry = exchange(Sink::Syslog);
    let text = String::from_utf8(entry).unwrap();
    let json = text.strip_prefix(&format!("<29>sipauth[{}]: ", process::id())).unwrap();
    let value: Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (&value["gateway"], &value["from"]),
        (&Value::from("office"), &Value::from("a\nPRIORITY=0"))
    );
    assert!(!text.contains('\n'));
}
