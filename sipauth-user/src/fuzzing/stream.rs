//! A byte stream, cut in more than one way.

use super::oracle;
use crate::sip::{
    Message, ParseError,
    stream::{Frame, Framer, MAX_HEAD, StreamError},
};

/// Small, so that short inputs reach it.
const LIMIT: usize = 1_000;

/// What came out of a stream, and how it ended.
type Outcome = (Vec<Frame>, Option<StreamError>, Option<Vec<u8>>);

/// The first byte of `data` says how the rest is cut. The frames must not depend on it, and each must end where any reader of
/// its head would say.
pub fn stream(data: &[u8]) -> &'static str {
    let Some((seed, bytes)) = data.split_first() else {
        return "empty";
    };
    let whole = frames(bytes, usize::MAX);
    for chunk in [1, 2 + usize::from(*seed)] {
        assert_eq!(frames(bytes, chunk), whole, "cut into {chunk}");
    }
    let (found, error, _) = &whole;
    let mut rest = bytes;
    let mut messages = 0;
    for frame in found {
        match frame {
            Frame::Ping => {
                let at = rest
                    .windows(4)
                    .position(|window| window == b"\r\n\r\n")
                    .expect("a ping is four bytes");
                assert!(rest[..at].iter().all(|byte| matches!(byte, b'\r' | b'\n')));
                rest = &rest[at + 4..];
            }
            Frame::Message(message) => {
                let at = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'\r' | b'\n'))
                    .expect("a message has a first byte");
                assert!(rest[at..].starts_with(message), "a message is what was sent, in order");
                rest = &rest[at + message.len()..];
                as_datagram(message);
                messages += 1;
            }
        }
    }
    match (error, messages) {
        (Some(StreamError::LongHead), _) => "long_head",
        (Some(StreamError::LongMessage), _) => "long_message",
        (Some(StreamError::BadByte), _) => "bad_byte",
        (Some(StreamError::NoLength), _) => "no_length",
        (Some(StreamError::BadLength), _) => "bad_length",
        (None, 0) if found.is_empty() => "incomplete",
        (None, 0) => "ping",
        (None, 1) => "message",
        (None, _) => "messages",
    }
}

fn frames(bytes: &[u8], chunk: usize) -> Outcome {
    let mut framer = Framer::new(LIMIT);
    let mut found = Vec::new();
    for piece in bytes.chunks(chunk.max(1)) {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => {
                    let head = framer.rejected().map(<[u8]>::to_vec);
                    if let Some(head) = &head {
                        // It is answered as a datagram would be.
                        let _ = Message::read(head);
                    }
                    return (found, Some(error), head);
                }
            }
        }
        // One incomplete message: less than a head, or less than the limit.
        assert!(framer.buffered() < MAX_HEAD.max(LIMIT), "{} bytes are kept", framer.buffered());
        assert!(framer.buffered() > 0 || !framer.is_within_message());
    }
    (found, None, None)
}

/// The parser of datagrams finds the same end, or no message at all.
fn as_datagram(frame: &[u8]) {
    let (head, body) = oracle::halves(frame).expect("a frame has a head");
    let lengths: Vec<_> = oracle::headers(head)
        .into_iter()
        .filter(|(name, _)| name == "content-length" || name == "l")
        .collect();
    assert_eq!(lengths.len(), 1);
    assert_eq!(lengths[0].1.parse::<usize>().ok(), Some(body.len()));
    match Message::read(frame) {
        Ok((message, fault)) => {
            assert_eq!(message.body(), body);
            assert!(!matches!(fault, Some(ParseError::ShortBody | ParseError::BadContentLength)));
        }
        Err(error) => assert!(error != ParseError::Truncated && error != ParseError::Empty),
    }
}
