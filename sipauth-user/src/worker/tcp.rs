//! Punted TCP connections: the listeners, who may connect how often, and the thread that serves them.
//!
//! One thread serves all of them, beside the workers for datagrams: so the limits and what the handler remembers of a source
//! are complete without a lock, and datagrams do not wait for connections. A connection is one task ([`connection`]).
//!
//! The kernel program judges the segments of a connection by their source alone, always in the same lane, so a connection that
//! has been accepted stays where it is. It is not entered into the flows: the kernel program would pass its segments by the agent.

mod connection;

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use sipauth_common::{address::Address, config::Lane};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::{JoinSet, LocalSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    Fault, Flows, Handler, PuntPorts, WorkerError,
    counters::{Connected, Counters},
    socket::{Endpoint, addresses, lacks_ipv6},
};
use crate::auth::Arrival;

/// Connections that wait to be accepted, of each listener.
const BACKLOG: i32 = 1024;
/// What is read at once.
const CHUNK: usize = 16 << 10;
/// After a failure to accept, most likely for want of file descriptors, which only time helps.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection may take. With them the memory of all connections is bounded: by `total` times two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections of one source address; of strangers, who can have as many addresses as they like, of one sender ([`Address::sender`]).
    pub per_source: usize,
    /// Connections of all.
    pub total: usize,
    /// Of these, at most, connections of strangers that have not authenticated. The rest is kept for gateways.
    pub strangers: usize,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Without a message, before the connection has authenticated.
    pub idle: Duration,
    /// Without a message or keep-alive, afterwards.
    pub idle_authenticated: Duration,
    /// Until a write is done: how long one side may leave the other waiting.
    pub write: Duration,
    /// Whether nobody listens in the denied lane, so that the kernel answers its connections by a reset.
    pub reset_denied: bool,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            per_source: 32,
            total: 4096,
            strangers: 2048,
            message: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            idle_authenticated: Duration::from_secs(3600),
            write: Duration::from_secs(10),
            reset_denied: false,
        }
    }
}

/// Sockets for each protected port, lane and family.
pub(super) struct Bound {
    listeners: Vec<Endpoint<StdListener>>,
    /// Bound and not listening: nobody else can take the port, and the kernel answers a connection by a reset.
    closed: Vec<Socket>,
}

/// Binds them all.
pub(super) fn bind(ports: &[PuntPorts], limits: &TcpLimits) -> Result<Bound, WorkerError> {
    let mut bound = Bound {
        listeners: Vec::new(),
        closed: Vec::new(),
    };
    for (lane, ports, address) in addresses(ports) {
        let opened = open(address).and_then(|socket| {
            if lane == Lane::Denied && limits.reset_denied {
                bound.closed.push(socket);
                return Ok(());
            }
            socket.listen(BACKLOG)?;
            bound.listeners.push(Endpoint {
                socket: socket.into(),
                lane,
                protected: ports.protected,
            });
            Ok(())
        });
        match opened {
            Ok(()) => {}
            Err(error) if address.is_ipv6() && lacks_ipv6(&error) => {}
            Err(source) => {
                return Err(WorkerError::Listen {
                    port: address.port(),
                    protected: ports.protected,
                    source,
                });
            }
        }
    }
    Ok(bound)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // For a restart, while connections of the last run are still in TIME_WAIT. It lets in no second listener.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Everything of the thread but its handler.
pub(super) struct Acceptor {
    runtime: Runtime,
    listeners: Vec<Endpoint<TcpListener>>,
    closed: Vec<Socket>,
    limits: TcpLimits,
    flows: Arc<dyn Flows>,
    counters: Arc<Counters>,
}

impl Acceptor {
    pub(super) fn new(bound: Bound, limits: TcpLimits, flows: Arc<dyn Flows>) -> Result<Self, WorkerError> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(WorkerError::Thread)?;
        let Bound { listeners, closed } = bound;
        let listeners = {
            let _context = runtime.enter();
            let wrap = |one: Endpoint<StdListener>| {
                TcpListener::from_std(one.socket).map(|socket| Endpoint {
                    socket,
                    lane: one.lane,
                    protected: one.protected,
                })
            };
            listeners
                .into_iter()
                .map(wrap)
                .collect::<io::Result<_>>()
                .map_err(WorkerError::Thread)?
        };
        Ok(Self {
            runtime,
            listeners,
            closed,
            limits,
            flows,
            counters: Arc::new(Counters::new().map_err(WorkerError::Thread)?),
        })
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop`, which closes all connections. The handler is made for the first of them.
    pub(super) fn run<H: Handler>(self, handler: impl FnOnce() -> H, stop: &CancellationToken) {
        let Self {
            runtime,
            listeners,
            closed: _closed,
            limits,
            flows,
            counters,
        } = self;
        let life = super::counters::show_life(Arc::clone(&counters));
        runtime.spawn(async {
            if let Err(error) = life.await {
                tracing::error!(%error, "the TCP worker cannot show that it runs");
            }
        });
        let shared = Shared {
            limits,
            flows,
            counters,
            scratch: RefCell::new(vec![0; CHUNK]),
        };
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = accept_all(&listeners, Rc::new(shared), handler) => {}
            }
        });
    }
}

/// What all connections share but the handler.
struct Shared {
    limits: TcpLimits,
    flows: Arc<dyn Flows>,
    counters: Arc<Counters>,
    /// Read into by one connection at a time: an idle one needs no room.
    scratch: RefCell<Vec<u8>>,
}

async fn accept_all<H: Handler>(listeners: &[Endpoint<TcpListener>], shared: Rc<Shared>, handler: impl FnOnce() -> H) {
    let desk: OnceCell<Rc<RefCell<H>>> = OnceCell::new();
    let mut make = Some(handler);
    let census = Rc::new(RefCell::new(Census::default()));
    let mut connections = JoinSet::new();
    loop {
        let (endpoint, accepted) = tokio::select! {
            biased;
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    // A defect of ours, which must not pass for a closed connection.
                    std::panic::resume_unwind(error.into_panic());
                }
                continue;
            }
            accepted = accept(listeners) => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.counters.fault(Fault::Accept);
                tracing::debug!(%error, lane = endpoint.lane.label(), port = endpoint.protected, "accept failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let free = connections.len() < shared.limits.total;
        let Some(place) = free
            .then(|| Place::take(&census, source.ip(), endpoint.lane, &shared.limits))
            .flatten()
        else {
            shared.counters.fault(Fault::ConnectionLimit);
            tracing::debug!(%source, "too many connections");
            continue;
        };
        let Ok(local) = stream.local_addr() else {
            // The peer has gone already.
            shared.counters.fault(Fault::Accept);
            continue;
        };
        let mut destination = local;
        destination.set_port(endpoint.protected);
        let arrival = Arrival {
            source,
            destination,
            trusted: endpoint.lane == Lane::Trusted,
            denied: endpoint.lane == Lane::Denied,
        };
        if let Some(make) = make.take() {
            // Empty until here.
            let _ = desk.set(Rc::new(RefCell::new(make())));
        }
        let Some(handler) = desk.get().cloned() else { return };
        let (shared, connected) = (Rc::clone(&shared), Connected::new(&shared.counters));
        connections.spawn_local(async move {
            let _connected = connected;
            connection::serve(stream, arrival, place, handler, shared).await;
        });
    }
}

/// Waits for the next connection; the listeners are in the order of lanes, and so are they served.
async fn accept(listeners: &[Endpoint<TcpListener>]) -> (&Endpoint<TcpListener>, io::Result<(TcpStream, SocketAddr)>) {
    poll_fn(|context| {
        for endpoint in listeners {
            if let Poll::Ready(accepted) = endpoint.socket.poll_accept(context) {
                return Poll::Ready((endpoint, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

/// Who has how many connections.
#[derive(Default)]
struct Census {
    sources: HashMap<Address, usize>,
    strangers: usize,
}

/// One of the connections that a source may have; given back when dropped.
struct Place {
    census: Rc<RefCell<Census>>,
    source: Address,
    stranger: bool,
}

impl Place {
    fn take(census: &Rc<RefCell<Census>>, source: IpAddr, lane: Lane, limits: &TcpLimits) -> Option<Self> {
        let stranger = matches!(lane, Lane::Untrusted | Lane::Denied);
        let address = Address::from(source);
        let source = if stranger { address.sender() } else { address };
        let mut counts = census.borrow_mut();
        let count = counts.sources.get(&source).copied().unwrap_or(0);
        if count >= limits.per_source || stranger && counts.strangers >= limits.strangers {
            return None;
        }
        counts.sources.insert(source, count + 1);
        counts.strangers += usize::from(stranger);
        Some(Self {
            census: Rc::clone(census),
            source,
            stranger,
        })
    }

    /// The connection has authenticated: it is a gateway's.
    fn prove(&mut self) {
        self.census.borrow_mut().strangers -= usize::from(std::mem::take(&mut self.stranger));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.prove();
        if let Entry::Occupied(mut entry) = self.census.borrow_mut().sources.entry(self.source) {
            if *entry.get() > 1 {
                *entry.get_mut() -= 1;
            } else {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
