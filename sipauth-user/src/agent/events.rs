//! Sampled refusals: kept for a while, and told to whoever follows.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sipauth_common::{
    decide::TCP,
    event::{EVENT_HEAD, Event},
    reason::Reason,
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{flows, refusals, state::Agent};
use crate::{
    auth::{Arrival, Diagnosis},
    control::{EventRecord, Transport},
    datapath::{Events, Told, monotonic_ns},
};

/// How many are kept for those who ask later.
const KEPT: usize = 1_000;
/// How far a follower may fall behind before it misses some.
const BEHIND: usize = 1_024;
/// Read from the ring at a time.
const BATCH: usize = 256;

/// How many refusals of a gateway's credentials are kept.
const KEPT_OF_GATEWAY: usize = 5;

/// The latest events, and a channel to followers.
#[derive(Clone)]
pub(super) struct EventLog {
    kept: Arc<Mutex<VecDeque<EventRecord>>>,
    /// By gateway, so that a flood of other events does not push them out.
    refusals: Arc<Mutex<HashMap<u32, VecDeque<EventRecord>>>>,
    followers: broadcast::Sender<EventRecord>,
}

impl EventLog {
    pub(super) fn new() -> Self {
        Self {
            kept: Arc::default(),
            refusals: Arc::default(),
            followers: broadcast::channel(BEHIND).0,
        }
    }

    /// The latest, the oldest first; and what follows from now on.
    pub(super) fn subscribe(&self) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.followers.subscribe())
    }

    /// What follows from now on.
    pub(super) fn follow(&self) -> broadcast::Receiver<EventRecord> {
        self.followers.subscribe()
    }

    /// A refusal of credentials.
    pub(super) fn refused(&self, refusal: &Refused<'_>, agent: &Agent) {
        let record = refusal.record(agent);
        if let (Some(gateway), Some(_)) = (refusal.diagnosis.gateway, &record.gateway) {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = refusals.entry(gateway).or_default();
            if kept.len() == KEPT_OF_GATEWAY {
                kept.pop_front();
            }
            kept.push_back(record.clone());
        }
        self.push(record);
    }

    /// The latest refusals of a gateway's credentials, the oldest first.
    pub(super) fn refusals(&self, gateway: u32) -> Vec<EventRecord> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.get(&gateway).into_iter().flatten().cloned().collect()
    }

    /// The latest refusals of a source address, the oldest first, `most` of them.
    pub(super) fn of_source(&self, address: IpAddr, most: usize) -> Vec<EventRecord> {
        let from_it = |record: &&EventRecord| record.source.ip().to_canonical() == address;
        let mut found: Vec<EventRecord> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter().filter(from_it).cloned().collect()
        };
        // A flood may have pushed these out of what is kept of everybody.
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        for record in refusals.values().flatten().filter(from_it) {
            if !found.contains(record) {
                found.push(record.clone());
            }
        }
        drop(refusals);
        found.sort_by(|a, b| a.time.total_cmp(&b.time));
        found.split_off(found.len().saturating_sub(most))
    }

    /// The gateway is gone, and another one may get its id.
    pub(super) fn forget(&self, gateway: u32) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).remove(&gateway);
    }

    fn push(&self, record: EventRecord) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(record.clone());
        // Nobody follows: nobody needs it.
        let _ = self.followers.send(record);
    }

    /// Reads the kernel's events until the end.
    pub(super) async fn collect(self, events: &mut Events, agent: &Agent, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let read = tokio::select! {
                () = shutdown.cancelled() => return,
                read = events.read(&mut batch, BATCH) => read,
            };
            if let Err(error) = read {
                tracing::error!(%error, "no more events can be read");
                return;
            }
            for event in batch.drain(..) {
                match event {
                    Told::Refusal(event) => {
                        refusals::sampled(agent, &event);
                        if let Some(record) = record(&event, agent) {
                            tracing::debug!(source = %record.source, reason = record.reason, "refused");
                            self.push(record);
                        }
                    }
                    Told::Registered(shown) => {
                        if let Err(error) = flows::registered(agent, &shown) {
                            tracing::warn!(%error, "the time that the softswitch granted a registration could not be entered");
                        }
                    }
                }
            }
        }
    }
}

/// What a worker knows of credentials that it refused.
pub(super) struct Refused<'a> {
    pub(super) diagnosis: &'a Diagnosis,
    pub(super) arrival: &'a Arrival,
    pub(super) transport: Transport,
    pub(super) datagram: &'a [u8],
}

impl Refused<'_> {
    fn record(&self, agent: &Agent) -> EventRecord {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        EventRecord {
            time: time.as_secs_f64(),
            source: self.arrival.source,
            destination: self.arrival.destination,
            transport: self.transport,
            verdict: "refuse".to_owned(),
            reason: self.diagnosis.outcome.label().to_owned(),
            gateway: self.diagnosis.gateway.and_then(|id| agent.name_of(id)),
            monitored: false,
            frame_len: u32::try_from(self.datagram.len()).unwrap_or(u32::MAX),
            detail: Some(self.diagnosis.detail.clone()),
            head: first_line(self.datagram.get(..EVENT_HEAD).unwrap_or(self.datagram)),
        }
    }
}

/// What is not printable becomes a dot.
pub(super) fn first_line(head: &[u8]) -> String {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let printable = |byte: &u8| {
        if byte.is_ascii_graphic() || *byte == b' ' {
            char::from(*byte)
        } else {
            '.'
        }
    };
    line.iter().map(printable).collect()
}

/// When it happened.
pub(super) fn time(event: &Event) -> SystemTime {
    let ago = Duration::from_nanos(monotonic_ns().saturating_sub(event.time_ns));
    SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH)
}

fn record(event: &Event, agent: &Agent) -> Option<EventRecord> {
    let reason = Reason::from_slot(u32::from(event.reason))?;
    let time = time(event).duration_since(UNIX_EPOCH).unwrap_or_default();
    let head = event.head.get(..usize::from(event.head_len)).unwrap_or_default();
    Some(EventRecord {
        time: time.as_secs_f64(),
        source: SocketAddr::new(IpAddr::from(event.source), event.source_port),
        destination: SocketAddr::new(IpAddr::from(event.destination), event.destination_port),
        transport: if event.protocol == TCP { Transport::Tcp } else { Transport::Udp },
        verdict: reason.verdict().label().to_owned(),
        reason: reason.label().to_owned(),
        gateway: agent.name_of(event.gateway),
        monitored: event.monitored != 0,
        frame_len: event.frame_len,
        detail: None,
        head: first_line(head),
    })
}
