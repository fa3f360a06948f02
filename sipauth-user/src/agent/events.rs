//! Sampled refusals: kept for a while, and told to whoever follows.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sipauth_common::{decide::TCP, event::Event, reason::Reason};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{flows, state::Agent};
use crate::{
    control::{EventRecord, Transport},
    datapath::{Events, Told, monotonic_ns},
};

/// How many are kept for those who ask later.
const KEPT: usize = 1_000;
/// How far a follower may fall behind before it misses some.
const BEHIND: usize = 1_024;
/// Read from the ring at a time.
const BATCH: usize = 256;

/// The latest events, and a channel to followers.
#[derive(Clone)]
pub(super) struct EventLog {
    kept: Arc<Mutex<VecDeque<EventRecord>>>,
    followers: broadcast::Sender<EventRecord>,
}

impl EventLog {
    pub(super) fn new() -> Self {
        Self {
            kept: Arc::default(),
            followers: broadcast::channel(BEHIND).0,
        }
    }

    /// The latest, the oldest first; and what follows from now on.
    pub(super) fn subscribe(&self) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.followers.subscribe())
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

fn record(event: &Event, agent: &Agent) -> Option<EventRecord> {
    let reason = Reason::from_slot(u32::from(event.reason))?;
    let ago = Duration::from_nanos(monotonic_ns().saturating_sub(event.time_ns));
    let time = SystemTime::now().checked_sub(ago)?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let head = event.head.get(..usize::from(event.head_len)).unwrap_or_default();
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
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
        head: line
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() || *byte == b' ' {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect(),
    })
}
