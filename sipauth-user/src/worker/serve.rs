//! The loop of one worker: which socket next, and what becomes of a datagram.

use std::{future::poll_fn, io, net::UdpSocket as StdSocket, sync::Arc, task::Poll, thread};

use sipauth_common::config::Lane;
use tokio::{
    io::Interest,
    net::UdpSocket,
    runtime::{Builder, Runtime},
};
use tokio_util::sync::CancellationToken;

use super::{
    Fault, Flows, Handler, WorkerError,
    batch::{self, BATCH, Receive, Reply},
    counters::{Counters, show_life},
    latency::LatencyOf,
    queues::Waiting,
    release::{self, Releaser},
    socket::Endpoint,
};
use crate::auth::{Action, Arrival};

/// Everything of a worker but its handler, which is made in its thread.
pub(super) struct Worker {
    runtime: Runtime,
    endpoints: Vec<Endpoint<Arc<UdpSocket>>>,
    releaser: Releaser,
    flows: Arc<dyn Flows>,
    counters: Arc<Counters>,
}

impl Worker {
    pub(super) fn new(endpoints: Vec<Endpoint<StdSocket>>, flows: Arc<dyn Flows>) -> Result<Self, WorkerError> {
        let runtime = Builder::new_current_thread().enable_io().build().map_err(WorkerError::Thread)?;
        let endpoints = {
            let _context = runtime.enter();
            let wrap = |one: Endpoint<StdSocket>| {
                UdpSocket::from_std(one.socket).map(|socket| Endpoint {
                    socket: Arc::new(socket),
                    lane: one.lane,
                    protected: one.protected,
                })
            };
            endpoints
                .into_iter()
                .map(wrap)
                .collect::<io::Result<_>>()
                .map_err(WorkerError::Thread)?
        };
        let releaser = Releaser::new().map_err(WorkerError::Raw)?;
        Ok(Self {
            runtime,
            endpoints,
            releaser,
            flows,
            counters: Arc::new(Counters::new()),
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

    /// Serves until `stop`.
    pub(super) fn run(self, handler: impl Handler, stop: &CancellationToken) {
        let Self {
            runtime,
            endpoints,
            releaser,
            flows,
            counters,
        } = self;
        runtime.spawn(show_life(Arc::clone(&counters)));
        let mut desk = Desk {
            handler,
            releaser,
            flows,
            counters,
            receive: Receive::new(),
            replies: Vec::with_capacity(BATCH),
            done: Vec::with_capacity(BATCH),
        };
        runtime.block_on(async {
            loop {
                let busy = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = readable(&endpoints) => desk.round(&endpoints),
                };
                if busy {
                    // So that the runtime asks the kernel for news of the other sockets, however busy this one is. Otherwise it does
                    // when it waits for them.
                    tokio::task::yield_now().await;
                }
            }
        });
    }
}

/// Waits until any of the sockets has something.
async fn readable(endpoints: &[Endpoint<Arc<UdpSocket>>]) {
    poll_fn(|context| {
        let mut ready = Poll::Pending;
        for endpoint in endpoints {
            // An error is met again when the socket is read, and counted there.
            if endpoint.socket.poll_recv_ready(context).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    })
    .await;
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

/// Where datagrams are worked off.
struct Desk<H> {
    handler: H,
    releaser: Releaser,
    flows: Arc<dyn Flows>,
    counters: Arc<Counters>,
    receive: Receive,
    replies: Vec<Reply>,
    /// What was done in this batch with datagrams that came at a time; empty where sockets do not stamp.
    done: Vec<(LatencyOf, u64)>,
}

impl<H: Handler> Desk<H> {
    /// Each socket once, in the order of lanes; says whether one of them may have more.
    fn round(&mut self, endpoints: &[Endpoint<Arc<UdpSocket>>]) -> bool {
        let mut busy = false;
        for endpoint in endpoints {
            let (batches, limit) = share(endpoint.lane);
            busy |= (0..batches).all(|_| self.serve(endpoint, limit) == limit);
        }
        busy
    }

    /// One batch; says how many datagrams it had.
    fn serve(&mut self, endpoint: &Endpoint<Arc<UdpSocket>>, limit: usize) -> usize {
        let Self {
            receive,
            handler,
            counters,
            releaser,
            flows,
            replies,
            done,
        } = self;
        let mut received = 0;
        let read = endpoint.socket.try_io(Interest::READABLE, || {
            received = receive.fill(&endpoint.socket, limit)?;
            // Fewer than there was room for: the kernel has no more. Said at once, it saves another call to hear so.
            if received < limit {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match read {
            Ok(()) => {}
            Err(_) if received > 0 => {}
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    counters.fault(Fault::Receive);
                    tracing::debug!(%error, lane = endpoint.lane.label(), port = endpoint.protected, "receive failed");
                }
                return 0;
            }
        }
        for datagram in receive.datagrams() {
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
                    if let Err(error) = releaser.release(datagram.bytes, arrival.source, arrival.destination) {
                        counters.fault(if release::is_busy(&error) {
                            Fault::ReleaseBusy
                        } else {
                            Fault::Release
                        });
                        tracing::debug!(%error, source = %arrival.source, destination = %arrival.destination, "release failed");
                    }
                    note(LatencyOf::Release);
                }
                Action::Absorb { outcome } => counters.outcome(outcome),
            }
        }
        send_all(&endpoint.socket, replies, counters);
        counters.latency.record(endpoint.lane, done);
        done.clear();
        received
    }
}

/// Sends what can be sent at once. The rest is forgotten: a queue would answer requests that were sent again meanwhile.
fn send_all(socket: &UdpSocket, replies: &mut Vec<Reply>, counters: &Counters) {
    let mut rest = replies.as_slice();
    while let Some((first, others)) = rest.split_first() {
        match batch::send(socket, rest) {
            Ok(sent) if sent > 0 => rest = rest.get(sent..).unwrap_or_default(),
            Ok(_) => rest = others,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                counters.fault(if release::is_busy(&error) { Fault::ReplyBusy } else { Fault::Reply });
                tracing::debug!(%error, to = %first.to, "reply failed");
                rest = others;
            }
        }
    }
    replies.clear();
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
