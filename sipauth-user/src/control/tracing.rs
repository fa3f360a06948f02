//! What a trace tells, line by line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{EventRecord, Transport};

/// What to trace, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// Name of a gateway, or an address.
    pub subject: String,
    /// End after so many seconds.
    pub seconds: Option<u64>,
    /// End after so many messages and refusals.
    pub count: Option<u64>,
    /// Send the messages themselves, redacted.
    pub messages: bool,
}

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TraceLine {
    /// The first line: what is traced, and what of it is not seen here.
    Begin {
        /// A sentence each.
        notes: Vec<String>,
    },
    /// A message that came to the agent, and what became of it.
    Message(Box<TraceRecord>),
    /// A refusal of the kernel program: a sample.
    Refusal(EventRecord),
    /// So many messages were left out, since they came faster than they can be told.
    Lost {
        /// How many.
        count: u64,
    },
}

/// A message that came to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceRecord {
    /// Seconds since 1970.
    pub time: f64,
    /// Where it came from.
    pub source: SocketAddr,
    /// What it was sent to.
    pub destination: SocketAddr,
    /// Transport protocol.
    pub transport: Transport,
    /// Bytes of the message.
    pub bytes: usize,
    /// The source had authenticated before.
    pub trusted: bool,
    /// Method of a request; empty for anything else.
    pub method: String,
    /// Its first line, printable.
    pub head: String,
    /// Call-ID.
    pub call_id: String,
    /// `CSeq`.
    pub cseq: String,
    /// Whether it had digest credentials.
    pub credentials: bool,
    /// The gateway that the username belongs to.
    pub gateway: Option<String>,
    /// Each field of the credentials.
    pub fields: Vec<TraceField>,
    /// Label of the agent's outcome.
    pub outcome: String,
    /// What it means; where credentials were refused, what was sent and what was expected.
    pub text: String,
    /// What the agent did: `reply`, `release` (to the softswitch) or `none`.
    pub action: String,
    /// First line of a reply.
    pub reply: Option<String>,
    /// Realm, algorithm and qop of the challenges in it.
    pub challenges: Vec<String>,
    /// The message, in hex, where asked for; what proves the password is replaced by `x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The reply likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_message: Option<String>,
}

#[cfg(test)]
impl TraceRecord {
    /// Of a message that nothing is known of, for tests to fill in.
    pub(crate) fn bare(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            time: 0.0,
            source,
            destination,
            transport,
            bytes: 0,
            trusted: false,
            method: String::new(),
            head: String::new(),
            call_id: String::new(),
            cseq: String::new(),
            credentials: false,
            gateway: None,
            fields: Vec::new(),
            outcome: String::new(),
            text: String::new(),
            action: String::new(),
            reply: None,
            challenges: Vec::new(),
            message: None,
            reply_message: None,
        }
    }
}

/// A field of credentials, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceField {
    /// Its name.
    pub field: String,
    /// What was sent; never what proves the password.
    pub sent: String,
    /// Whether it is right; `None` where that cannot be said.
    pub right: Option<bool>,
    /// What was expected, or what it means.
    pub note: String,
}
