use proptest::prelude::*;

use super::*;

const OPTIONS: &str = "OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
    Call-ID: c@h\r\nCSeq: 7 OPTIONS\r\nContent-Length: 5\r\n\r\nhello";

fn framed(chunks: &[&[u8]]) -> Result<Vec<Frame>, StreamError> {
    let mut framer = Framer::new(MAX_MESSAGE);
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        while let Some(frame) = framer.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn message(text: &str) -> Frame {
    Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn messages_and_keep_alives_come_in_order() {
    let compact = OPTIONS.replace("Content-Length", "l").replace("5\r\n\r\nhello", "0\r\n\r\n");
    let stream = format!("{OPTIONS}\r\n{compact}\r\n\r\n{OPTIONS}\r\n\r\n\r\n\r\n\r\n{OPTIONS}");
    let expected = [
        message(OPTIONS),
        message(&compact),
        Frame::Ping,
        message(OPTIONS),
        Frame::Ping,
        Frame::Ping,
        message(OPTIONS),
    ];
    assert_eq!(framed(&[stream.as_bytes()]).unwrap(), expected);
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(framed(&bytes).unwrap(), expected);
}

#[test]
fn a_line_end_begins_no_message_and_the_first_byte_of_one_does() {
    let mut framer = Framer::new(MAX_MESSAGE);
    for (bytes, within) in [(&b"\r"[..], false), (b"\n", false), (b"O", true)] {
        framer.push(bytes);
        assert_eq!(framer.next_frame(), Ok(None));
        assert_eq!(framer.is_within_message(), within, "{bytes:?}");
    }
}

#[test]
fn what_two_readers_could_cut_differently_is_an_error() {
    for (from, to, expected) in [
        ("Content-Length: 5\r\n", "", StreamError::NoLength),
        ("Content-Length: 5", "Content-Length: 5\r\nl: 5", StreamError::BadLength),
        ("Content-Length: 5", "Content-Length: +5", StreamError::BadLength),
        ("Content-Length: 5", "Content-Length: 5, 5", StreamError::BadLength),
        ("Content-Length: 5", "Content-Length:\r\n 5", StreamError::BadLength),
        ("Content-Length: 5", "Content-Length:", StreamError::BadLength),
        ("Content-Length: 5", "Content-Length: 70000", StreamError::LongMessage),
        ("Content-Length: 5", "Content-Length: 99999999999999999", StreamError::LongMessage),
        ("SIP/2.0\r\nVia", "SIP/2.0\nVia", StreamError::BadByte),
        ("CSeq: 7", "CSeq: 7\n\nINVITE", StreamError::BadByte),
        ("CSeq: 7", "CSeq: 7\r", StreamError::BadByte),
        ("CSeq: 7", "CSeq: 7\0", StreamError::BadByte),
        ("SIP/2.0\r\nVia", "SIP/2.0\r\n l: 0\r\nVia", StreamError::BadByte),
    ] {
        assert_eq!(
            framed(&[OPTIONS.replacen(from, to, 1).as_bytes()]),
            Err(expected),
            "{from:?} -> {to:?}"
        );
    }
    assert_eq!(framed(&[b"\nOPTIONS x SIP/2.0\r\nl: 0\r\n\r\n"]), Err(StreamError::BadByte));
}

#[test]
fn a_head_and_a_message_have_their_limits() {
    let long = |padding: usize| OPTIONS.replacen("CSeq", &format!("X: {}\r\nCSeq", "x".repeat(padding)), 1);
    let room = MAX_HEAD - (OPTIONS.len() - 5) - "X: \r\n".len();
    assert_eq!(framed(&[long(room).as_bytes()]).unwrap(), [message(&long(room))]);
    assert_eq!(framed(&[long(room + 1).as_bytes()]), Err(StreamError::LongHead));
    let body = |length: usize| OPTIONS.replacen("5\r\n\r\nhello", &format!("{length}\r\n\r\n{}", "x".repeat(length)), 1);
    let room = MAX_MESSAGE - (OPTIONS.len() - 6) - 5;
    assert_eq!(body(room).len(), MAX_MESSAGE);
    assert_eq!(framed(&[body(room).as_bytes()]).unwrap(), [message(&body(room))]);
    // Known from the head alone: the body is not waited for.
    assert_eq!(framed(&[&body(room + 1).as_bytes()[..400]]), Err(StreamError::LongMessage));
}

#[test]
fn an_error_shows_the_head_if_it_is_complete() {
    let mut framer = Framer::new(MAX_MESSAGE);
    framer.push(OPTIONS.replace("Content-Length: 5\r\n", "").as_bytes());
    assert_eq!(framer.next_frame(), Err(StreamError::NoLength));
    assert!(framer.rejected().unwrap().ends_with(b"CSeq: 7 OPTIONS\r\n\r\n"));
}

/// One of the things that a valid stream consists of.
fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..200), any::<bool>()).prop_map(|(body, compact)| {
            let name = if compact { "l" } else { "Content-Length" };
            let mut bytes = format!("INFO sip:b@h SIP/2.0\r\nX: a\r\n b\r\n{name} : {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend(body);
            bytes
        }),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(parts in proptest::collection::vec(part(), 0..8), cuts in proptest::collection::vec(1..60_usize, 1..40)) {
        let stream = parts.concat();
        let whole = framed(&[&stream]).unwrap();
        let mut chunks = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, next) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = next;
        }
        prop_assert_eq!(framed(&chunks).unwrap(), whole.clone());
        let messages = parts.iter().filter(|part| part.starts_with(b"INFO"));
        let found = whole.iter().filter_map(|frame| match frame { Frame::Message(bytes) => Some(bytes.to_vec()), Frame::Ping => None });
        prop_assert!(messages.cloned().eq(found));
    }

    #[test]
    fn no_bytes_panic_or_are_kept_without_bound(chunks in proptest::collection::vec(proptest::collection::vec(
        prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'l'), Just(b'9')], 0..200), 0..12)) {
        let mut framer = Framer::new(1_000);
        'stream: for chunk in chunks {
            framer.push(&chunk);
            loop {
                match framer.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            prop_assert!(framer.buffered() < MAX_HEAD);
        }
    }
}
