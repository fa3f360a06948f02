//! One record. Its fields are a contract: others read them with jq, or from the journal.

use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use serde::{Serialize, Serializer};
use sipauth_common::reason;

use super::{
    Context, Refused,
    cause::{Reason, Termination},
    message, method,
};
use crate::{auth::Outcome, control::Transport};

/// A refused call, and how often it was refused again meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Of the first refusal.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Of the last.
    #[serde(serialize_with = "rfc3339")]
    pub last: SystemTime,
    /// How many refusals. Where `sampled`: how many were seen.
    pub count: u64,
    /// The gateway whose address or username it was.
    pub gateway: Option<String>,
    /// Where it came from; `None` for the rest of a flood from too many sources to name.
    pub source: Option<SocketAddr>,
    /// Where it went.
    pub destination: Option<SocketAddr>,
    /// Transport protocol.
    pub transport: Transport,
    /// Method of the request.
    pub method: &'static str,
    /// Request-URI of the first.
    pub uri: Option<String>,
    /// `Call-ID` of the first.
    pub call_id: Option<String>,
    /// `From` of the first.
    pub from: Option<String>,
    /// `To` of the first.
    pub to: Option<String>,
    /// Label of the reason, as in counters and events.
    pub reason: &'static str,
    /// Status of the answer; `None` for silence.
    pub code: Option<u16>,
    /// Cause value of Q.850.
    pub cause: u8,
    /// The same in words.
    pub termination: &'static str,
    /// What the client sent and what was expected.
    pub detail: Option<String>,
    /// The kernel program saw it: a sample, of which the first bytes are known.
    pub sampled: bool,
    /// In monitor mode: it would have been refused, and passed.
    pub monitored: bool,
}

/// What makes refusals the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: Option<IpAddr>,
    gateway: Option<String>,
    method: &'static str,
    reason: &'static str,
}

impl Record {
    pub(super) fn key(&self) -> Key {
        Key {
            source: self.source.map(|source| source.ip()),
            gateway: self.gateway.clone(),
            method: self.method,
            reason: self.reason,
        }
    }

    /// Counts another one in.
    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.time = self.time.min(other.time);
        self.last = self.last.max(other.last);
        self.detail = other.detail.or_else(|| self.detail.take());
        self.code = self.code.or(other.code);
        self.sampled |= other.sampled;
    }

    /// In a line for people.
    pub(super) fn sentence(&self) -> String {
        let source = self.source.map_or_else(|| "many sources".to_owned(), |source| source.to_string());
        let gateway = self.gateway.as_ref().map(|name| format!(" (gateway {name})")).unwrap_or_default();
        let times = if self.count > 1 {
            format!(", {} times", self.count)
        } else {
            String::new()
        };
        let refused = if self.monitored { "would be refused" } else { "refused" };
        format!(
            "{} from {source}{gateway} {refused}: {} ({}){times}",
            self.method, self.termination, self.reason
        )
    }
}

/// The record of one refusal.
pub(super) fn record(refused: &Refused, context: &dyn Context) -> Record {
    let parts = message::Parts::of(&refused.message);
    let username = message::username(&refused.message);
    Record {
        gateway: context.gateway(refused.gateway, username.as_deref(), refused.source),
        source: Some(refused.source),
        destination: Some(refused.destination),
        uri: parts.uri,
        call_id: parts.call_id,
        from: parts.from,
        to: parts.to,
        detail: refused.detail.clone(),
        ..anonymous(refused, context)
    }
}

/// Without what differs from source to source.
pub(super) fn anonymous(refused: &Refused, context: &dyn Context) -> Record {
    // The agent answers for the kernel program here, which has two reasons.
    let reason = match refused.reason {
        Reason::Agent(Outcome::Denied) if context.is_listed(refused.source) => Reason::Kernel(reason::Reason::PortMismatch),
        Reason::Agent(Outcome::Denied) => Reason::Kernel(reason::Reason::UnknownSource),
        reason => reason,
    };
    let termination = reason.termination().unwrap_or(Termination::Malformed);
    Record {
        time: refused.time,
        last: refused.time,
        count: 1,
        gateway: None,
        source: None,
        destination: None,
        transport: refused.transport,
        method: method(&refused.message).map_or("UNKNOWN", |method| method.as_str()),
        uri: None,
        call_id: None,
        from: None,
        to: None,
        reason: reason.label(),
        code: refused.code,
        cause: termination.cause(),
        termination: termination.text(),
        detail: None,
        sampled: matches!(refused.reason, Reason::Kernel(_)),
        monitored: refused.monitored,
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}
