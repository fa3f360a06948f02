//! Counts of one worker, written by it alone and read by whoever asks.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::unix::AsyncFd;

use super::latency::Latency;

use crate::auth::Outcome;

/// What can go wrong around a datagram, which is never the sender's doing, and around a connection, where it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The kernel failed to give us datagrams that it said it had.
    Receive,
    /// A datagram without a usable source or local address, or longer than a datagram can be.
    Unusable,
    /// The flow could not be entered, so the datagram was not released.
    Grant,
    /// No room to hand the datagram to the softswitch; the gateway sends it again.
    ReleaseBusy,
    /// The kernel refused the datagram for the softswitch.
    Release,
    /// No room to send a reply; the gateway sends its request again.
    ReplyBusy,
    /// The kernel refused a reply.
    Reply,
    /// A TCP connection could not be accepted.
    Accept,
    /// A TCP connection too many, of its source or in all; closed.
    ConnectionLimit,
    /// A TCP peer began a message and did not end it in time; cut off.
    SlowSender,
    /// A TCP peer sent a head or message that is too long; cut off.
    OversizedMessage,
    /// One side of a TCP connection did not read what was written to it in time; cut off.
    Stalled,
    /// The softswitch took no TCP connection; the request was answered 503.
    Connect,
    /// The softswitch sent something over TCP that is no SIP; cut off.
    SwitchStream,
}

impl Fault {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Receive,
        Self::Unusable,
        Self::Grant,
        Self::ReleaseBusy,
        Self::Release,
        Self::ReplyBusy,
        Self::Reply,
        Self::Accept,
        Self::ConnectionLimit,
        Self::SlowSender,
        Self::OversizedMessage,
        Self::Stalled,
        Self::Connect,
        Self::SwitchStream,
    ];

    /// Name in output and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Unusable => "unusable",
            Self::Grant => "grant",
            Self::ReleaseBusy => "release_busy",
            Self::Release => "release",
            Self::ReplyBusy => "reply_busy",
            Self::Reply => "reply",
            Self::Accept => "tcp_accept",
            Self::ConnectionLimit => "tcp_connection_limit",
            Self::SlowSender => "tcp_slow_sender",
            Self::OversizedMessage => "tcp_oversized",
            Self::Stalled => "tcp_stalled",
            Self::Connect => "tcp_connect",
            Self::SwitchStream => "tcp_switch_stream",
        }
    }
}

/// Two cache lines apart from its neighbours (the adjacent line is prefetched with it), so that workers do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Counters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    faults: [AtomicU64; Fault::ALL.len()],
    connections: AtomicU64,
    pub(super) latency: Latency,
    /// Wakes the worker's loop, however it waits: for a question, or because it is to end.
    bell: EventFd,
    /// How often the worker was asked whether its loop runs, and the last of these questions that it answered.
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Counters {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            outcomes: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            faults: [const { AtomicU64::new(0) }; Fault::ALL.len()],
            connections: AtomicU64::new(0),
            latency: Latency::new(),
            bell: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        })
    }

    /// What becomes readable by [`Self::ring`].
    pub(super) const fn bell(&self) -> &EventFd {
        &self.bell
    }

    pub(super) fn ring(&self) {
        // It fails only where it has been rung 2^64 times.
        let _ = self.bell.write(1);
    }

    /// To be called by the loop when the bell was rung.
    pub(super) fn answer(&self) {
        // Nothing to read is as good.
        let _ = self.bell.read();
        self.answered.store(self.asked.load(Relaxed), Relaxed);
    }

    pub(super) fn outcome(&self, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get(outcome as usize) {
            slot.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn fault(&self, fault: Fault) {
        if let Some(slot) = self.faults.get(fault as usize) {
            slot.fetch_add(1, Relaxed);
        }
    }
}

/// An open connection, as long as this lives.
pub(super) struct Connected(Arc<Counters>);

impl Connected {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.connections.fetch_add(1, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// The sum over workers.
pub(super) fn connections(counters: &[Arc<Counters>]) -> u64 {
    counters.iter().map(|one| one.connections.load(Relaxed)).sum()
}

/// Answers questions as a task of a runtime: it runs when the runtime's loop does.
///
/// # Errors
/// When the runtime cannot wait for the bell.
pub(super) async fn show_life(counters: Arc<Counters>) -> io::Result<()> {
    let bell = counters.bell().as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is owned by what registers it, and so stays open and the same.
    let bell = unsafe { AsyncFd::register(bell) }?;
    loop {
        bell.readable().await?.clear_ready();
        counters.answer();
    }
}

/// Whether all workers have answered the question before; asks the next. It costs each loop one wake-up, and there are questions only
/// where a service manager wants answers.
pub(super) fn ask(counters: &[Arc<Counters>]) -> bool {
    let mut all = true;
    for one in counters {
        all &= one.answered.load(Relaxed) == one.asked.fetch_add(1, Relaxed);
        one.ring();
    }
    all
}

/// The sum over workers.
pub(super) fn outcomes(counters: &[Arc<Counters>]) -> Vec<(Outcome, u64)> {
    let sum = |slot: usize| {
        counters
            .iter()
            .filter_map(|one| one.outcomes.get(slot))
            .map(|count| count.load(Relaxed))
            .sum()
    };
    Outcome::ALL.iter().map(|&outcome| (outcome, sum(outcome as usize))).collect()
}

/// The sum over workers.
pub(super) fn faults(counters: &[Arc<Counters>]) -> Vec<(Fault, u64)> {
    let sum = |slot: usize| {
        counters
            .iter()
            .filter_map(|one| one.faults.get(slot))
            .map(|count| count.load(Relaxed))
            .sum()
    };
    Fault::ALL.iter().map(|&fault| (fault, sum(fault as usize))).collect()
}
