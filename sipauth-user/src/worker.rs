//! Punted datagrams and connections: from the sockets to the core, and its answers back out.
//!
//! The agent starts [`Workers`] once. Each is a thread with sockets, buffers and a [`Handler`] of its own; they share nothing that is
//! written per datagram. All datagrams of one source address reach the same worker ([`socket`]), so what a handler remembers of a
//! source (failures, nonce counts) is complete. TCP connections have one more thread, with a handler of its own ([`tcp`]).
//!
//! What must stay true: a flow is in the kernel's map before its datagram is released; a datagram moves exactly one counter, of
//! [`Outcome`] or of [`Fault`], except that a reply or release that fails after the outcome is counted moves a fault too.

mod batch;
mod counters;
mod latency;
mod queues;
mod release;
mod serve;
mod socket;
mod tcp;

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::Arc,
    thread::{self, JoinHandle},
};

use sipauth_common::config::LANES;
use tokio_util::sync::CancellationToken;

use crate::auth::{Action, Arrival, FlowGrant, Outcome};
use counters::Counters;
pub use counters::Fault;
pub use latency::{Histogram, LatencyOf};
pub use queues::Queue;
pub use tcp::TcpLimits;

/// What decides about a datagram. Each worker has its own, so it needs no lock.
pub trait Handler: 'static {
    /// Decides. `datagram` is the whole UDP payload, or one message of a TCP connection.
    fn handle(&mut self, datagram: &[u8], arrival: &Arrival) -> Action;

    /// Takes back the bytes of an [`Action::Reply`] that was sent, so that the next needs no memory of its own.
    fn reuse(&mut self, response: Vec<u8>);
}

/// Where flows are entered; all workers share it.
pub trait Flows: Send + Sync + 'static {
    /// Enters the flow of a source. Called before the datagram is released; when it fails, the datagram is not.
    ///
    /// # Errors
    /// When the map cannot be written.
    fn grant(&self, source: SocketAddr, grant: FlowGrant) -> io::Result<()>;

    /// Which holder of its id a gateway is, if it is there and may call from `source` with a password. A TCP connection keeps its grant
    /// itself, and asks this before each use: another number is another gateway, which has the id of one that is gone.
    fn term(&self, gateway: u32, source: SocketAddr) -> Option<u64>;
}

/// A protected port and the ports that stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PuntPorts {
    /// The port that gateways send to and the softswitch listens on.
    pub protected: u16,
    /// Where its punted datagrams arrive, by [`sipauth_common::config::Lane`].
    pub punt: [u16; LANES],
}

/// How to start [`Workers`].
#[derive(Clone, Debug)]
pub struct Options {
    /// How many; one a core is right.
    pub workers: NonZeroUsize,
    /// All protected ports.
    pub ports: Vec<PuntPorts>,
    /// What TCP connections may take.
    pub tcp: TcpLimits,
    /// Whether to measure how long datagrams take. The kernel then stamps every packet that this host receives, at the cost of a look at
    /// its clock, so it is not done where nobody reads the figures.
    pub timestamps: bool,
}

impl Options {
    /// For these ports, with a worker for each core that this process may use.
    #[must_use]
    pub fn new(ports: Vec<PuntPorts>) -> Self {
        Self {
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            ports,
            tcp: TcpLimits::default(),
            timestamps: false,
        }
    }
}

/// Why the workers did not start, or how they ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A punt port could not be had.
    #[error(
        "cannot listen on UDP port {port}, where the kernel program hands over datagrams for port {protected}: {source}; \
             choose other ports with `punt-port` in the configuration"
    )]
    Bind {
        /// The punt port.
        port: u16,
        /// The protected port that it stands for.
        protected: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A punt port could not be had for TCP.
    #[error(
        "cannot listen on TCP port {port}, where the kernel program hands over connections for port {protected}: {source}; \
             choose other ports with `punt-port` in the configuration"
    )]
    Listen {
        /// The punt port.
        port: u16,
        /// The protected port that it stands for.
        protected: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// No raw socket.
    #[error("cannot open a raw socket, which hands authenticated datagrams to the softswitch: {0}; run as root or with CAP_NET_RAW")]
    Raw(io::Error),
    /// A thread or its event loop.
    #[error("cannot start a worker thread: {0}")]
    Thread(io::Error),
    /// A worker ended by a panic: a defect of ours.
    #[error("worker {0} panicked")]
    Panicked(usize),
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
    sockets: Vec<queues::Waiting>,
    connections_limit: usize,
    shutdown: CancellationToken,
}

impl Workers {
    /// Binds all sockets, then starts the threads. They end when `shutdown` is cancelled and [`Self::stop`] called; should one of them
    /// panic, it cancels `shutdown`.
    ///
    /// # Errors
    /// When a socket or thread cannot be had; nothing runs then.
    pub fn start<H, F>(options: &Options, shutdown: &CancellationToken, handler: F, flows: Arc<dyn Flows>) -> Result<Self, WorkerError>
    where
        H: Handler,
        F: Fn(usize) -> H + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let mut prepared = Vec::with_capacity(options.workers.get());
        for group in socket::bind(options)? {
            prepared.push(serve::Worker::new(group, Arc::clone(&flows))?);
        }
        let acceptor = tcp::Acceptor::new(tcp::bind(&options.ports, &options.tcp)?, options.tcp, flows)?;
        // Not the caller's token: when a thread cannot be started, those before it must end and the caller go on to report it.
        let starting = shutdown.child_token();
        let mut workers = Self {
            threads: Vec::new(),
            counters: Vec::new(),
            sockets: prepared.iter().flat_map(serve::Worker::waiting).collect(),
            connections_limit: options.tcp.total,
            shutdown: shutdown.clone(),
        };
        // Its number is that of no other worker.
        let (index, make) = (prepared.len(), Arc::clone(&handler));
        workers.counters.push(acceptor.counters());
        workers.launch("worker-tcp".into(), &starting, move |stop| acceptor.run(move || make(index), stop))?;
        for (index, worker) in prepared.into_iter().enumerate() {
            workers.counters.push(worker.counters());
            let handler = Arc::clone(&handler);
            workers.launch(format!("worker-{index}"), &starting, move |stop| worker.run(handler(index), stop))?;
        }
        Ok(workers)
    }

    /// Starts a thread; where that fails, ends those before it.
    fn launch(
        &mut self,
        name: String,
        starting: &CancellationToken,
        body: impl FnOnce(&CancellationToken) + Send + 'static,
    ) -> Result<(), WorkerError> {
        let (stop, all) = (starting.clone(), self.shutdown.clone());
        let run = move || {
            let _ends_all = serve::EndsAll(all);
            // What reads a peer's bytes has no rights but those of its sockets.
            match crate::privilege::relinquish() {
                Ok(()) => body(&stop),
                Err(error) => tracing::error!(%error, "a worker cannot give up its capabilities"),
            }
        };
        match thread::Builder::new().name(name).spawn(run) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                starting.cancel();
                self.counters.iter().for_each(|counters| counters.ring());
                for thread in self.threads.drain(..) {
                    let _ = thread.join();
                }
                return Err(WorkerError::Thread(error));
            }
        }
        Ok(())
    }

    /// How many datagrams had which outcome, since the start; every outcome is listed.
    #[must_use]
    pub fn outcomes(&self) -> Vec<(Outcome, u64)> {
        counters::outcomes(&self.counters)
    }

    /// What went wrong and how often, since the start; every fault is listed.
    #[must_use]
    pub fn faults(&self) -> Vec<(Fault, u64)> {
        counters::faults(&self.counters)
    }

    /// Reads the counters also where the workers themselves are not at hand.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            counters: self.counters.clone(),
            sockets: self.sockets.clone(),
            connections_limit: self.connections_limit,
        }
    }

    /// Ends the workers and waits for them. Blocks.
    ///
    /// # Errors
    /// When one of them panicked.
    pub fn stop(self) -> Result<(), WorkerError> {
        self.shutdown.cancel();
        self.counters.iter().for_each(|counters| counters.ring());
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        ends.iter()
            .position(Result::is_err)
            .map_or(Ok(()), |index| Err(WorkerError::Panicked(index)))
    }
}

/// The counters of [`Workers`].
#[derive(Clone, Debug)]
pub struct Counts {
    counters: Vec<Arc<Counters>>,
    sockets: Vec<queues::Waiting>,
    connections_limit: usize,
}

/// All that is known of the workers at one time.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// As [`Workers::outcomes`].
    pub outcomes: Vec<(Outcome, u64)>,
    /// As [`Workers::faults`].
    pub faults: Vec<(Fault, u64)>,
    /// How long datagrams took; all 0 without [`Options::timestamps`].
    pub latency: Vec<Histogram>,
    /// What waits at the sockets, by lane.
    pub queues: Vec<Queue>,
    /// Open TCP connections of gateways.
    pub connections: u64,
    /// [`TcpLimits::total`].
    pub connections_limit: u64,
}

impl Counts {
    /// Whether every worker has run its loop since the call before; seconds should lie between them.
    #[must_use]
    pub fn alive(&self) -> bool {
        counters::ask(&self.counters)
    }

    /// As [`Workers::outcomes`].
    #[must_use]
    pub fn outcomes(&self) -> Vec<(Outcome, u64)> {
        counters::outcomes(&self.counters)
    }

    /// As [`Workers::faults`].
    #[must_use]
    pub fn faults(&self) -> Vec<(Fault, u64)> {
        counters::faults(&self.counters)
    }

    /// Everything.
    #[must_use]
    pub fn work(&self) -> Work {
        Work {
            outcomes: self.outcomes(),
            faults: self.faults(),
            latency: latency::histograms(self.counters.iter().map(|one| &one.latency)),
            queues: queues::queues(&self.sockets),
            connections: counters::connections(&self.counters),
            connections_limit: u64::try_from(self.connections_limit).unwrap_or(u64::MAX),
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.counters.len()
    }
}

#[cfg(test)]
mod measured;
#[cfg(test)]
mod namespace;
#[cfg(test)]
mod tests;
