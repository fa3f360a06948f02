//! Records of refused calls: who was refused, why, and how often.
//!
//! Two sources: the workers, which have the whole message, and the kernel program's samples, which are the first bytes of some of the
//! packets that it dropped. Both only copy bytes into a bounded queue; one thread reads them, folds what repeats ([`fold`]) and writes
//! ([`sink`]). Where the queue is full a refusal is counted and forgotten: a call never waits for a record, and no flood makes
//! more of them than [`fold::MOST`] in each [`fold::INTERVAL`], and those without a source.
//!
//! Recorded are refused requests that begin something ([`is_call`]). A request without credentials is challenged, which is no refusal,
//! nor is a challenge because its nonce has expired.

pub mod cause;
mod entry;
mod fold;
mod message;
mod sink;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use sipauth_common::sip::{Class, Method, classify_payload};

pub use self::{cause::Reason, entry::Record};
use self::{fold::Folder, sink::Sink};
use crate::{control::Transport, tally::Tally};

/// Refusals that wait to be read: a few MB at most.
const QUEUE: usize = 2_048;
/// Bytes of a message that are kept: all that the interesting headers ever need.
const KEPT: usize = 2_048;

/// The thread gives way to the workers.
const NICE: i32 = 10;

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// `records.jsonl` in the log directory.
    File,
    /// The journal of systemd, each field by its name.
    Journald,
    /// `/dev/log`.
    Syslog,
    /// Nowhere.
    Off,
}

impl Target {
    /// Name in settings and output.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
            Self::Off => "off",
        }
    }
}

/// What can be set, also while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where records go.
    pub target: Target,
    /// Directory of files.
    pub directory: PathBuf,
    /// How many files are kept.
    pub files: usize,
}

/// A refused packet, as it was seen.
#[derive(Debug)]
pub struct Refused {
    /// When.
    pub time: SystemTime,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// Transport protocol.
    pub transport: Transport,
    /// Why.
    pub reason: Reason,
    /// The gateway, where that is known.
    pub gateway: Option<u32>,
    /// Status of the answer; `None` for silence.
    pub code: Option<u16>,
    /// What the client sent and what was expected, where somebody looked into it.
    pub detail: Option<String>,
    /// In monitor mode, so that it passed.
    pub monitored: bool,
    /// The message, or its first bytes.
    pub message: Box<[u8]>,
}

/// What a record needs to know of the gateways, and how to write. The agent.
pub trait Context: Send + Sync + 'static {
    /// Name of the gateway that a refusal is about: of its id, else of the username, else of the source address.
    fn gateway(&self, id: Option<u32>, username: Option<&[u8]>, source: SocketAddr) -> Option<String>;
    /// A refusal that the kernel program left to the agent: whether its source address is a gateway's.
    fn is_listed(&self, source: SocketAddr) -> bool;
    /// As it is set now.
    fn wanted(&self) -> Wanted;
}

#[derive(Debug)]
enum Item {
    Refused(Box<Refused>),
    End,
}

/// The end of the queue that everybody has.
#[derive(Clone, Debug)]
pub struct Records {
    queue: SyncSender<Item>,
    /// Records written and lost.
    pub tally: Arc<Tally>,
}

/// The end of the queue that the thread has.
#[derive(Debug)]
pub struct Waiting(Receiver<Item>);

/// The files of records in a directory, the oldest first.
#[must_use]
pub fn files(directory: PathBuf) -> Vec<PathBuf> {
    sink::file(directory, 0).files()
}

/// Whether a message is one that is recorded when it is refused: it begins a dialog or a binding, or is one that is paid for.
#[must_use]
pub fn is_call(message: &[u8]) -> bool {
    matches!(
        method(message),
        Some(Method::Invite | Method::Register | Method::Subscribe | Method::Refer | Method::Message | Method::Publish)
    )
}

/// RFC 3261, 7.5: leading line ends are ignored.
fn method(message: &[u8]) -> Option<Method> {
    let begin = message.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    match classify_payload(message.get(begin..)?) {
        Class::Request(method) => Some(method),
        Class::Response | Class::KeepAlive => None,
    }
}

/// The bytes of a message that a [`Refused`] has.
#[must_use]
pub fn kept(message: &[u8]) -> Box<[u8]> {
    message.get(..KEPT).unwrap_or(message).into()
}

/// The queue.
#[must_use]
pub fn queue() -> (Records, Waiting) {
    let (queue, waiting) = sync_channel(QUEUE);
    let tally = Arc::new(Tally::new("records"));
    (Records { queue, tally }, Waiting(waiting))
}

impl Records {
    /// Takes note of a refused call. Never waits.
    pub fn refused(&self, refused: Refused) {
        match self.queue.try_send(Item::Refused(Box::new(refused))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.tally.lose(1),
        }
    }

    /// Has what is waiting written, and the thread end. Blocks while the queue is full.
    pub fn end(&self) {
        // The thread is gone already: nothing to end.
        let _ = self.queue.send(Item::End);
    }
}

/// Starts the thread.
///
/// # Errors
/// When the system has no thread for it.
pub fn start(records: &Records, waiting: Waiting, context: Arc<dyn Context>) -> io::Result<JoinHandle<()>> {
    let tally = Arc::clone(&records.tally);
    thread::Builder::new()
        .name("records".into())
        .spawn(move || work(&waiting.0, &*context, &tally))
}

fn work(queue: &Receiver<Item>, context: &dyn Context, tally: &Tally) {
    // Under a flood the processors are for calls. Where it is not permitted, the thread is one among others.
    // SAFETY: plain numbers; 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    let mut folder = Folder::default();
    let mut wanted = context.wanted();
    let mut sink = Sink::new(&wanted);
    let mut write = |record: &Record| {
        let current = context.wanted();
        if current != wanted {
            sink = Sink::new(&current);
            wanted = current;
        }
        sink.write(record, tally);
    };
    loop {
        let wait = folder.wait(Instant::now()).unwrap_or(fold::INTERVAL);
        let item = match queue.recv_timeout(wait) {
            Ok(Item::Refused(refused)) => Some(refused),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Item::End) | Err(RecvTimeoutError::Disconnected) => break,
        };
        let now = Instant::now();
        if let Some(refused) = item {
            folder.add(&refused, context, now);
        }
        while let Some(record) = folder.due(now) {
            write(&record);
        }
    }
    folder.all().iter().for_each(write);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
