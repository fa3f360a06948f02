//! A byte stream cut into SIP messages (RFC 3261, 18.3; RFC 5626, 3.5.1). No I/O: bytes go in, frames come out.
//!
//! Stricter than the parser of a datagram: what follows a message is the next one, so a softswitch that found the end elsewhere
//! would take part of a body for a request that nobody has authenticated. Therefore lines end in CRLF, the head has no other
//! control characters, and there is exactly one Content-Length, a plain number on one line.

use bytes::{Bytes, BytesMut};

use super::lines::{Headers, Kind, decimal, split};

/// Longest head, blank line included.
pub const MAX_HEAD: usize = 16 << 10;
/// Longest message of a gateway.
pub const MAX_MESSAGE: usize = 64 << 10;

const CRLF: &[u8] = b"\r\n";
const BLANK: &[u8] = b"\r\n\r\n";

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, byte for byte.
    Message(Bytes),
    /// Two line ends between messages: the peer wants one back ([`PONG`]).
    Ping,
}

/// The answer to [`Frame::Ping`].
pub const PONG: &[u8] = CRLF;

/// Why a stream cannot be read on. There is no way to find the next message after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StreamError {
    /// The head has not ended within [`MAX_HEAD`].
    #[error("the head is too long")]
    LongHead,
    /// Longer than the stream's limit.
    #[error("the message is too long")]
    LongMessage,
    /// A line end other than CRLF, a control character, or a first header line that is indented.
    #[error("the head has a byte where none of its kind may be")]
    BadByte,
    /// No Content-Length (RFC 3261, 18.3: it is mandatory here).
    #[error("there is no Content-Length")]
    NoLength,
    /// Several Content-Length headers, or one that is no plain number.
    #[error("Content-Length is not one plain number")]
    BadLength,
}

impl StreamError {
    /// Whether it is too long, rather than malformed.
    #[must_use]
    pub const fn is_oversized(self) -> bool {
        matches!(self, Self::LongHead | Self::LongMessage)
    }
}

/// Cuts one direction of one connection. Take all frames after each [`Framer::push`]: then no more is kept than one message
/// that is not complete.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limit: usize,
    /// So many bytes have been searched for the end of the head.
    searched: usize,
    /// Length of the head, once it is complete.
    head: Option<usize>,
    /// Length of the message, once it is known.
    total: Option<usize>,
}

impl Framer {
    /// For messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            searched: 0,
            head: None,
            total: None,
        }
    }

    /// More bytes from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until there are more bytes.
    ///
    /// # Errors
    /// When the stream cannot be read on; [`Framer::rejected`] has the head, for an answer.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.total.is_none() && self.head.is_none() && self.searched == 0 {
            while self.buffer.starts_with(CRLF) {
                if self.buffer.starts_with(BLANK) {
                    self.cut(BLANK.len());
                    return Ok(Some(Frame::Ping));
                }
                // Half a ping, or a line end between messages: the next bytes tell.
                if BLANK.starts_with(&self.buffer) {
                    return Ok(None);
                }
                self.cut(CRLF.len());
            }
            if self.buffer.is_empty() || CRLF.starts_with(&self.buffer) {
                return Ok(None);
            }
        }
        let total = match self.total {
            Some(total) => total,
            None => match self.measure()? {
                Some(total) => total,
                None => return Ok(None),
            },
        };
        if self.buffer.len() < total {
            return Ok(None);
        }
        let message = self.cut(total);
        (self.searched, self.head, self.total) = (0, None, None);
        Ok(Some(Frame::Message(message)))
    }

    /// Whether a message has begun that is not complete. Line ends between messages begin none.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.buffer.first().is_some_and(|first| *first != b'\r')
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// After an error: the head of the message that it is about, if that is complete.
    #[must_use]
    pub fn rejected(&self) -> Option<&[u8]> {
        self.head.and_then(|head| self.buffer.get(..head))
    }

    fn cut(&mut self, length: usize) -> Bytes {
        let cut = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // Otherwise an idle connection would keep the room of its largest message.
            self.buffer = BytesMut::new();
        }
        cut
    }

    /// The length of the message, once its head is complete.
    fn measure(&mut self) -> Result<Option<usize>, StreamError> {
        let window = &self.buffer[..self.buffer.len().min(MAX_HEAD)];
        // The end may straddle what was searched before.
        let from = self.searched.saturating_sub(BLANK.len() - 1);
        let Some(end) = memchr::memmem::find(&window[from..], BLANK) else {
            if window.len() == MAX_HEAD {
                return Err(StreamError::LongHead);
            }
            self.searched = window.len();
            return Ok(None);
        };
        let head = from + end + BLANK.len();
        self.head = Some(head);
        let body = content_length(&self.buffer[..head])?;
        match head.checked_add(body) {
            Some(total) if total <= self.limit => {
                self.total = Some(total);
                Ok(Some(total))
            }
            _ => Err(StreamError::LongMessage),
        }
    }
}

/// What a whole head says about the body.
fn content_length(head: &[u8]) -> Result<usize, StreamError> {
    let stray = |(i, byte): (usize, &u8)| match byte {
        b'\t' => false,
        b'\r' => head.get(i + 1) != Some(&b'\n'),
        b'\n' => i == 0 || head.get(i - 1) != Some(&b'\r'),
        _ => byte.is_ascii_control(),
    };
    if head.iter().enumerate().any(stray) {
        return Err(StreamError::BadByte);
    }
    let start = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    let rest = head.get(start..).unwrap_or_default();
    // Some would take an indented first line for a header, others for part of the request line.
    if matches!(rest.first(), Some(b' ' | b'\t')) {
        return Err(StreamError::BadByte);
    }
    let mut length = None;
    for line in (Headers { rest, done: false }) {
        let Some(header) = split(line) else { continue };
        if Kind::of(header.name) != Some(Kind::ContentLength) {
            continue;
        }
        if line.contains(&b'\n') || length.is_some() {
            return Err(StreamError::BadLength);
        }
        length = Some(decimal(header.value).ok_or(StreamError::BadLength)?);
    }
    let length = length.ok_or(StreamError::NoLength)?;
    usize::try_from(length).map_err(|_| StreamError::LongMessage)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
