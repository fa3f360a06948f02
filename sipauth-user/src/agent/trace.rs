//! The dialogue of one gateway or address, live. While nobody traces, a message costs one load of a word that nobody writes.
//!
//! Bounded, however much comes: a trace takes so many messages a second and has room for so many; the rest is counted and told.

mod subject;

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, interval, sleep_until},
};

use self::subject::{Interest, Subject};
use super::{
    directory::Accounts,
    events::{EventLog, first_line},
    state::Agent,
};
use crate::{
    auth::{Action, Arrival, Diagnosis, Judgement},
    control::{Reply, Response, TraceField, TraceLine, TraceRecord, TraceRequest, Transport},
    sip::{Message, StartLine, redact},
};

/// Messages of a trace that wait to be told.
const ROOM: usize = 256;
/// Messages of a trace in a second.
const RATE: u32 = 200;
/// Messages without credentials that may turn out to be the gateway's.
const HELD: usize = 64;
/// Of a message's first line.
const HEAD: usize = 256;

/// All traces that run.
#[derive(Clone, Default)]
pub(super) struct Tracing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    active: AtomicUsize,
    tracers: Mutex<Vec<Arc<Tracer>>>,
}

impl Tracing {
    /// Asked for each message.
    pub(super) fn is_active(&self) -> bool {
        self.0.active.load(Ordering::Relaxed) != 0
    }

    fn tracers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Tracer>>> {
        self.0.tracers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, tracer: Arc<Tracer>) -> Running {
        let mut tracers = self.tracers();
        tracers.push(Arc::clone(&tracer));
        self.0.active.store(tracers.len(), Ordering::Relaxed);
        drop(tracers);
        Running {
            tracing: self.clone(),
            tracer,
        }
    }
}

/// A trace that runs until this is dropped.
struct Running {
    tracing: Tracing,
    tracer: Arc<Tracer>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut tracers = self.tracing.tracers();
        tracers.retain(|one| !Arc::ptr_eq(one, &self.tracer));
        self.tracing.0.active.store(tracers.len(), Ordering::Relaxed);
    }
}

struct Tracer {
    subject: Subject,
    messages: bool,
    sender: mpsc::Sender<Box<TraceRecord>>,
    lost: AtomicU64,
    state: Mutex<Pace>,
}

/// How much a trace has taken, and what it holds back.
struct Pace {
    second: Instant,
    /// Of this second: what is told, and what may never be. Apart, so that strangers take nothing from the subject.
    used: [u32; 2],
    held: VecDeque<Box<TraceRecord>>,
}

impl Tracer {
    fn new(subject: Subject, messages: bool) -> (Arc<Self>, mpsc::Receiver<Box<TraceRecord>>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        let tracer = Self {
            subject,
            messages,
            sender,
            lost: AtomicU64::new(0),
            state: Mutex::new(Pace {
                second: Instant::now(),
                used: [0; 2],
                held: VecDeque::new(),
            }),
        };
        (Arc::new(tracer), receiver)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is time and room for another message.
    fn may_take(&self, certain: bool) -> bool {
        let mut pace = self.state();
        if pace.second.elapsed() >= Duration::from_secs(1) {
            (pace.second, pace.used) = (Instant::now(), [0; 2]);
        }
        let used = &mut pace.used[usize::from(certain)];
        *used += 1;
        *used <= RATE && self.sender.capacity() > 0
    }

    /// Tells a record, and before it what was held back of the same call.
    fn tell(&self, record: Box<TraceRecord>) {
        let held = {
            let mut pace = self.state();
            let of_it = |one: &TraceRecord| one.call_id == record.call_id && one.source.ip() == record.source.ip();
            let (of_it, others) = pace.held.drain(..).partition(|one| of_it(one));
            pace.held = others;
            of_it
        };
        let held: VecDeque<Box<TraceRecord>> = held;
        for one in held.into_iter().chain([record]) {
            if self.sender.try_send(one).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn hold(&self, record: Box<TraceRecord>) {
        let mut pace = self.state();
        if pace.held.len() == HELD {
            pace.held.pop_front();
        }
        pace.held.push_back(record);
    }
}

/// A message that a worker has dealt with.
pub(super) struct Seen<'a> {
    pub(super) datagram: &'a [u8],
    pub(super) arrival: &'a Arrival,
    pub(super) transport: Transport,
    pub(super) action: &'a Action,
    pub(super) diagnosis: Option<&'a Diagnosis>,
}

/// Tells those who trace the source.
pub(super) fn show(agent: &Agent, accounts: &Accounts, seen: &Seen<'_>, judge: impl Fn(&Message<'_>) -> Judgement) {
    let tracers: Vec<Arc<Tracer>> = agent.tracing.tracers().clone();
    for tracer in tracers {
        let interest = tracer.subject.interest(seen, agent, accounts);
        if interest == Interest::No {
            continue;
        }
        let certain = interest == Interest::Yes;
        if !tracer.may_take(certain) {
            if certain {
                tracer.lost.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        }
        let record = Box::new(record(agent, seen, &judge, tracer.messages));
        if certain {
            tracer.tell(record);
        } else {
            tracer.hold(record);
        }
    }
}

fn record(agent: &Agent, seen: &Seen<'_>, judge: &impl Fn(&Message<'_>) -> Judgement, messages: bool) -> TraceRecord {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let message = Message::read(seen.datagram).ok().map(|(message, _)| message);
    let judgement = message.as_ref().map(judge).unwrap_or_default();
    let outcome = seen.action.outcome();
    let text = |bytes: &[u8]| first_line(bytes.get(..HEAD).unwrap_or(bytes));
    let method = message.as_ref().and_then(|message| match message.start() {
        StartLine::Request { token, .. } => Some(text(token)),
        StartLine::Response { .. } => None,
    });
    let (action, reply) = match seen.action {
        Action::Reply { response, .. } => ("reply", Some(response)),
        Action::Release { .. } => ("release", None),
        Action::Absorb { .. } => ("none", None),
    };
    let hex = |bytes: &[u8]| messages.then(|| hex(&redact(bytes)));
    TraceRecord {
        time: time.as_secs_f64(),
        source: seen.arrival.source,
        destination: seen.arrival.destination,
        transport: seen.transport,
        bytes: seen.datagram.len(),
        trusted: seen.arrival.trusted,
        method: method.unwrap_or_default(),
        head: text(seen.datagram),
        call_id: message.as_ref().map(|message| text(message.call_id())).unwrap_or_default(),
        cseq: message.as_ref().map(|message| text(message.cseq())).unwrap_or_default(),
        credentials: !judgement.fields.is_empty(),
        gateway: judgement.gateway.and_then(|id| agent.name_of(id)),
        fields: judgement
            .fields
            .into_iter()
            .map(|judged| TraceField {
                field: judged.field.to_owned(),
                sent: judged.sent,
                right: judged.right,
                note: judged.note,
            })
            .collect(),
        outcome: outcome.label().to_owned(),
        text: seen
            .diagnosis
            .map_or_else(|| outcome.text().to_owned(), |diagnosis| diagnosis.detail.clone()),
        action: action.to_owned(),
        reply: reply.map(|bytes| text(bytes)),
        challenges: reply.map(|bytes| challenges(bytes)).unwrap_or_default(),
        message: hex(seen.datagram),
        reply_message: reply.and_then(|bytes| hex(bytes)),
    }
}

/// The challenges of an answer of our own, without their nonces.
fn challenges(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply);
    let value = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        matches!(name, "WWW-Authenticate" | "Proxy-Authenticate").then_some(())?;
        let fields: Vec<&str> = value.split(", ").filter(|field| !field.contains("nonce=")).collect();
        Some(fields.join(", "))
    };
    text.lines().filter_map(value).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Agent {
    /// Begins a trace; it ends with its time, its count, or the connection.
    pub(super) fn trace(&self, request: &TraceRequest) -> Reply {
        let subject = match Subject::find(&request.subject, &self.accounts().snapshot) {
            Ok(subject) => subject,
            Err(refusal) => return Response::no(&refusal).into(),
        };
        let notes = subject.notes(self);
        let (tracer, records) = Tracer::new(subject, request.messages);
        let end = request.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let (sender, receiver) = mpsc::channel(16);
        let running = self.tracing.begin(tracer);
        // The kernel program's challenges would be missing in it. Once it is over, the next heartbeat gives them back.
        if let Err(error) = self.refresh_challenge() {
            tracing::warn!(%error, "requests that the kernel program challenges are not in the trace");
        }
        let events = self.events.clone();
        let count = request.count;
        tokio::spawn(async move {
            if sender.send(Response::Trace(TraceLine::Begin { notes })).await.is_ok() {
                follow(&running.tracer, records, &events, &sender, (end, count)).await;
            }
        });
        Reply::Stream(receiver)
    }
}

async fn follow(
    tracer: &Tracer,
    mut records: mpsc::Receiver<Box<TraceRecord>>,
    events: &EventLog,
    sender: &mpsc::Sender<Response>,
    (end, count): (Option<Instant>, Option<u64>),
) {
    let mut refusals = events.follow();
    let mut ticks = interval(Duration::from_secs(1));
    let mut told = 0;
    let until = async move {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(until);
    while count.is_none_or(|count| told < count) {
        let line = tokio::select! {
            biased;
            () = sender.closed() => return,
            Some(record) = records.recv() => Some(TraceLine::Message(record)),
            refusal = refusals.recv() => match refusal {
                // The agent's own refusals are among the messages.
                Ok(refusal) if refusal.verdict != "refuse" && tracer.subject.refused(&refusal) => Some(TraceLine::Refusal(refusal)),
                Ok(_) => None,
                // Samples anyway.
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            },
            _ = ticks.tick() => None,
            () = &mut until => break,
        };
        if let Some(line) = line {
            told += 1;
            if sender.send(Response::Trace(line)).await.is_err() {
                return;
            }
        }
        if !tell_lost(tracer, sender).await {
            return;
        }
    }
    tell_lost(tracer, sender).await;
}

/// False where nobody listens any more.
async fn tell_lost(tracer: &Tracer, sender: &mpsc::Sender<Response>) -> bool {
    match tracer.lost.swap(0, Ordering::Relaxed) {
        0 => true,
        count => sender.send(Response::Trace(TraceLine::Lost { count })).await.is_ok(),
    }
}

#[cfg(test)]
mod tests;
