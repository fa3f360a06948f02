//! The loop of one worker: which socket next, and what becomes of a datagram.

use std::{io, net::IpAddr, net::SocketAddr, net::UdpSocket, sync::Arc, thread};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use sipauth_common::config::Lane;
use tokio_util::sync::CancellationToken;

use super::{
    Fault, Flows, Handler, WorkerError,
    batch::{self, BATCH, Outgoing, Receive},
    counters::Counters,
    latency::LatencyOf,
    queues::Waiting,
    release::{self, Release, Releaser},
    socket::Endpoint,
};
use crate::auth::{Action, Arrival};

/// What the bell is called among the sockets, which are called by their place.
const BELL: u64 = u64::MAX;
/// How many datagrams a socket is asked for that had fewer the last time. Room for more costs time to set up.
const FEW: usize = 4;

/// Everything of a worker but its handler, which is made in its thread.
pub(super) struct Worker {
    /// Level-triggered: a socket that was not emptied is told of again.
    epoll: Epoll,
    /// In the order of service.
    endpoints: Vec<Endpoint<Arc<UdpSocket>>>,
    releaser: Releaser,
    flows: Arc<dyn Flows>,
    counters: Arc<Counters>,
}

impl Worker {
    pub(super) fn new(endpoints: Vec<Endpoint<UdpSocket>>, flows: Arc<dyn Flows>) -> Result<Self, WorkerError> {
        let counters = Counters::new().map_err(WorkerError::Thread)?;
        let epoll = wait_for(&endpoints, &counters).map_err(|error| WorkerError::Thread(error.into()))?;
        let releaser = Releaser::new().map_err(WorkerError::Raw)?;
        let share = |one: Endpoint<UdpSocket>| Endpoint {
            socket: Arc::new(one.socket),
            lane: one.lane,
            protected: one.protected,
        };
        Ok(Self {
            epoll,
            endpoints: endpoints.into_iter().map(share).collect(),
            releaser,
            flows,
            counters: Arc::new(counters),
        })
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Its sockets, to ask what waits there.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Waiting> {
        self.endpoints.iter().map(|endpoint| Waiting {
            lane: endpoint.lane,
            socket: Arc::downgrade(&endpoint.socket),
        })
    }

    /// Serves until `stop`, of which the bell tells.
    pub(super) fn run(self, handler: impl Handler, stop: &CancellationToken) {
        let Self {
            epoll,
            endpoints,
            releaser,
            flows,
            counters,
        } = self;
        let mut desk = Desk {
            handler,
            releaser,
            flows,
            counters: Arc::clone(&counters),
            receive: Receive::new(),
            asked: vec![FEW; endpoints.len()],
            replies: Vec::with_capacity(BATCH),
            releases: Vec::with_capacity(BATCH),
            done: Vec::with_capacity(BATCH),
        };
        let mut events = vec![EpollEvent::empty(); endpoints.len() + 1];
        while !stop.is_cancelled() {
            let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => events.get_mut(..count).unwrap_or_default(),
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    // Its share of the sources would wait in vain: as for any other defect of ours, all ends.
                    panic!("the sockets cannot be waited for: {error}");
                }
            };
            // Their places are the order of service.
            ready.sort_unstable_by_key(EpollEvent::data);
            for event in ready {
                let place = usize::try_from(event.data()).unwrap_or(usize::MAX);
                match endpoints.get(place) {
                    Some(endpoint) => desk.round(place, endpoint),
                    None => counters.answer(),
                }
            }
        }
    }
}

fn wait_for(endpoints: &[Endpoint<UdpSocket>], counters: &Counters) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (place, endpoint) in (0..).zip(endpoints) {
        epoll.add(&endpoint.socket, EpollEvent::new(EpollFlags::EPOLLIN, place))?;
    }
    epoll.add(counters.bell(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
    Ok(epoll)
}

/// How many batches of how many datagrams a socket gets in one round. The sum over the lower lanes bounds how long a trusted
/// datagram waits; that none is zero is why no lane starves.
const fn share(lane: Lane) -> (usize, usize) {
    match lane {
        Lane::Trusted => (8, BATCH),
        Lane::Known => (2, BATCH),
        Lane::Untrusted => (1, BATCH),
        Lane::Denied => (1, BATCH / 4),
    }
}

/// A response on its way.
#[derive(Debug)]
struct Reply {
    /// Where the request came from.
    to: SocketAddr,
    /// What the request was sent to.
    from: IpAddr,
    bytes: Vec<u8>,
}

/// Where datagrams are worked off.
struct Desk<H> {
    handler: H,
    releaser: Releaser,
    flows: Arc<dyn Flows>,
    counters: Arc<Counters>,
    receive: Receive,
    /// How many datagrams each socket is to be asked for.
    asked: Vec<usize>,
    /// Of one batch.
    replies: Vec<Reply>,
    /// Of one batch.
    releases: Vec<Release>,
    /// What was done in this batch with datagrams that came at a time; empty where sockets do not stamp.
    done: Vec<(LatencyOf, u64)>,
}

impl<H: Handler> Desk<H> {
    /// What a socket may have in one round.
    fn round(&mut self, place: usize, endpoint: &Endpoint<Arc<UdpSocket>>) {
        let (batches, limit) = share(endpoint.lane);
        for _ in 0..batches {
            let asked = self.asked.get(place).map_or(limit, |asked| limit.min(*asked));
            let more = self.serve(endpoint, asked) == asked;
            if let Some(next) = self.asked.get_mut(place) {
                *next = if more { BATCH } else { FEW };
            }
            if !more {
                return;
            }
        }
    }

    /// One batch; says how many datagrams it had.
    fn serve(&mut self, endpoint: &Endpoint<Arc<UdpSocket>>, limit: usize) -> usize {
        let Self {
            receive,
            handler,
            counters,
            flows,
            replies,
            releases,
            done,
            ..
        } = self;
        let received = match receive.fill(&endpoint.socket, limit) {
            Ok(received) => received,
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    counters.fault(Fault::Receive);
                    tracing::debug!(%error, lane = endpoint.lane.label(), port = endpoint.protected, "receive failed");
                }
                return 0;
            }
        };
        for (place, datagram) in receive.datagrams().enumerate() {
            let Some(datagram) = datagram else {
                counters.fault(Fault::Unusable);
                continue;
            };
            let arrival = Arrival {
                source: datagram.source,
                destination: datagram.destination(endpoint.protected),
                trusted: endpoint.lane == Lane::Trusted,
                denied: endpoint.lane == Lane::Denied,
            };
            let mut note = |what| {
                if datagram.stamp > 0 {
                    done.push((what, datagram.stamp));
                }
            };
            match handler.handle(datagram.bytes, &arrival) {
                Action::Reply { response, outcome } => {
                    counters.outcome(outcome);
                    replies.push(Reply {
                        to: arrival.source,
                        from: arrival.destination.ip(),
                        bytes: response,
                    });
                    note(LatencyOf::Answer);
                }
                Action::Release { flow, outcome } => {
                    if let Some(Err(error)) = flow.map(|grant| flows.grant(arrival.source, grant)) {
                        counters.fault(Fault::Grant);
                        tracing::debug!(%error, source = %arrival.source, "the flow could not be entered");
                        continue;
                    }
                    counters.outcome(outcome);
                    match Release::new(datagram.bytes, place, arrival.source, arrival.destination) {
                        Ok(release) => releases.push(release),
                        Err(error) => lost(counters, (Fault::ReleaseBusy, Fault::Release), &error, arrival.source),
                    }
                    note(LatencyOf::Release);
                }
                Action::Absorb { outcome } => counters.outcome(outcome),
            }
        }
        self.flush(&endpoint.socket);
        self.counters.latency.record(endpoint.lane, &self.done);
        self.done.clear();
        received
    }

    /// Sends what the batch left to be sent.
    fn flush(&mut self, socket: &UdpSocket) {
        let (counters, receive, releaser) = (&self.counters, &self.receive, &self.releaser);
        send_all(
            &self.releases,
            |releases| releaser.send(releases, |place| receive.bytes(place)),
            |release, error| lost(counters, (Fault::ReleaseBusy, Fault::Release), error, release.source),
        );
        send_all(
            &self.replies,
            |replies| batch::send(socket, replies.iter().map(outgoing)),
            |reply, error| lost(counters, (Fault::ReplyBusy, Fault::Reply), error, reply.to),
        );
        self.releases.clear();
        for reply in self.replies.drain(..) {
            self.handler.reuse(reply.bytes);
        }
    }
}

fn outgoing(reply: &Reply) -> Outgoing<'_> {
    Outgoing {
        to: reply.to,
        from: Some(reply.from),
        parts: [&reply.bytes, &[]],
    }
}

/// Sends what can be sent at once. The rest is forgotten: a queue would answer requests that were sent again meanwhile.
fn send_all<T>(all: &[T], mut send: impl FnMut(&[T]) -> io::Result<usize>, mut failed: impl FnMut(&T, &io::Error)) {
    let mut rest = all;
    while let Some((first, others)) = rest.split_first() {
        match send(rest) {
            Ok(sent) if sent > 0 => rest = rest.get(sent..).unwrap_or_default(),
            Ok(_) => rest = others,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                failed(first, &error);
                rest = others;
            }
        }
    }
}

/// Counts what could not be sent: the first of `faults` where only room was lacking.
fn lost(counters: &Counters, (busy, other): (Fault, Fault), error: &io::Error, gateway: SocketAddr) {
    let fault = if release::is_busy(error) { busy } else { other };
    counters.fault(fault);
    tracing::debug!(%error, %gateway, fault = fault.label(), "a datagram could not be sent");
}

/// Cancels everything when a worker ends by a panic: its share of the sources would wait in vain.
pub(super) struct EndsAll(pub(super) CancellationToken);

impl Drop for EndsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.cancel();
        }
    }
}
