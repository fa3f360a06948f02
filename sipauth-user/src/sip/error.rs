//! What can be wrong with a message. Always the peer's fault.

/// Why a datagram is not an acceptable SIP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.label())]
pub enum ParseError {
    /// Nothing but line ends.
    Empty,
    /// No blank line ends the head.
    Truncated,
    /// Neither request line nor status line.
    BadStartLine,
    /// A Request-URI that is empty or has a space in it.
    BadUri,
    /// Another protocol than SIP/2.0.
    BadVersion,
    /// More than [`MAX_HEADERS`](super::MAX_HEADERS).
    TooManyHeaders,
    /// A header line without a colon or with a control character in its name, or a first one that is indented.
    BadHeader,
    /// A control character in a header that we need, if it is not escaped; in any other, one that parsers disagree about.
    BadByte,
    /// A header that may occur once occurs twice.
    Repeated,
    /// Via, From, To, Call-ID or CSeq is not there.
    MissingHeader,
    /// CSeq is not a number and the request's method.
    BadCSeq,
    /// Content-Length is no number.
    BadContentLength,
    /// The body is shorter than Content-Length says.
    ShortBody,
}

impl ParseError {
    /// Name in output and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::BadStartLine => "bad_start_line",
            Self::BadUri => "bad_uri",
            Self::BadVersion => "bad_version",
            Self::TooManyHeaders => "too_many_headers",
            Self::BadHeader => "bad_header",
            Self::BadByte => "bad_byte",
            Self::Repeated => "repeated_header",
            Self::MissingHeader => "missing_header",
            Self::BadCSeq => "bad_cseq",
            Self::BadContentLength => "bad_content_length",
            Self::ShortBody => "short_body",
        }
    }
}
