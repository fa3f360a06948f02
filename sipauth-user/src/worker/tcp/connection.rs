//! One connection of a gateway, and the agent's own to the softswitch behind it.
//!
//! The task reads from one side, deals with whole messages and writes them before it reads on: so neither side can make it
//! keep more than a message, and an answer of the agent never lands inside a message of the softswitch.

use std::{
    cell::RefCell,
    future,
    hash::{BuildHasher as _, RandomState},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::{Fault, Handler, Place, Shared};
use crate::{
    auth::{Action, Arrival, FlowGrant, Outcome, registration},
    sip::{
        Message, Response, StartLine, Status,
        stream::{Frame, Framer, MAX_MESSAGE, PONG, StreamError},
    },
};
use sipauth_common::sip::Method;

/// The softswitch is no attacker, but a message has to fit into memory.
const MAX_SWITCH_MESSAGE: usize = 256 << 10;
/// The softswitch is on this host.
const CONNECT: Duration = Duration::from_secs(5);
/// How long, and for how many reads, a peer that was cut off may go on sending. Without it the kernel would answer what is
/// still under way by a reset, which can overtake our last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 16;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// One side closed it, or it was idle.
    Closed,
    /// We do, after an answer that should arrive.
    Answered,
    /// Cut off.
    Fault(Fault),
}

/// What the connection has earned: a flow, but for this connection alone.
struct Trust {
    gateway: u32,
    /// See [`super::Flows::term`].
    term: u64,
    /// `None`: as long as the connection.
    until: Option<Instant>,
}

struct Connection<H> {
    gateway: TcpStream,
    switch: Option<TcpStream>,
    from_gateway: Framer,
    from_switch: Framer,
    arrival: Arrival,
    place: Place,
    trust: Option<Trust>,
    /// The last sign of life that counts.
    active: Instant,
    /// When the message began that is not complete.
    begun: Option<Instant>,
    handler: Rc<RefCell<H>>,
    shared: Rc<Shared>,
}

/// Serves a connection until it ends.
pub(super) async fn serve<H: Handler>(gateway: TcpStream, arrival: Arrival, place: Place, handler: Rc<RefCell<H>>, shared: Rc<Shared>) {
    // A message is written at once, so waiting for more to send would only delay it. Where it fails, it is only slower.
    let _ = gateway.set_nodelay(true);
    let mut connection = Connection {
        gateway,
        switch: None,
        from_gateway: Framer::new(MAX_MESSAGE),
        from_switch: Framer::new(MAX_SWITCH_MESSAGE),
        arrival,
        place,
        trust: None,
        active: Instant::now(),
        begun: None,
        handler,
        shared,
    };
    let source = arrival.source;
    match connection.run().await {
        End::Closed => tracing::debug!(%source, "connection ended"),
        End::Answered => {
            tracing::debug!(%source, "connection closed after an answer");
            connection.linger().await;
        }
        End::Fault(fault) => {
            connection.shared.counters.fault(fault);
            tracing::debug!(%source, fault = fault.label(), "connection cut off");
        }
    }
}

impl<H: Handler> Connection<H> {
    async fn run(&mut self) -> End {
        loop {
            let deadline = self.deadline();
            let step = tokio::select! {
                _ = self.gateway.readable() => self.read_gateway().await,
                () = readable(self.switch.as_ref()) => self.read_switch().await,
                () = sleep_until(deadline) => Err(self.begun.map_or(End::Closed, |_| End::Fault(Fault::SlowSender))),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn deadline(&self) -> Instant {
        let limits = &self.shared.limits;
        match self.begun {
            Some(begun) => begun + limits.message,
            None if self.trust.is_some() => self.active + limits.idle_authenticated,
            None => self.active + limits.idle,
        }
    }

    /// Reads once, and deals with what is complete.
    async fn read_gateway(&mut self) -> Result<(), End> {
        if !read(&self.gateway, &mut self.from_gateway, &self.shared)? {
            return Ok(());
        }
        if self.trust.is_some() {
            self.active = Instant::now();
        }
        loop {
            match self.from_gateway.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    (self.active, self.begun) = (Instant::now(), None);
                    self.deal_with(&message).await?;
                }
                Ok(Some(Frame::Ping)) => write(&mut self.gateway, PONG, &self.shared).await?,
                Ok(None) => break,
                Err(error) => return Err(self.reject(error).await),
            }
        }
        if self.from_gateway.is_within_message() {
            self.begun = self.begun.or_else(|| Some(Instant::now()));
        }
        Ok(())
    }

    async fn deal_with(&mut self, message: &Bytes) -> Result<(), End> {
        let arrival = Arrival {
            trusted: self.is_trusted(),
            ..self.arrival
        };
        let action = self.handler.borrow_mut().handle(message, &arrival);
        let outcome = action.outcome();
        match action {
            Action::Reply { response, .. } => {
                self.shared.counters.outcome(outcome);
                write(&mut self.gateway, &response, &self.shared).await?;
                self.handler.borrow_mut().reuse(response);
            }
            Action::Release { flow, .. } => self.release(message, flow, outcome).await?,
            Action::Absorb { .. } => self.shared.counters.outcome(outcome),
        }
        match outcome {
            // Whoever sends such messages is not worth a connection; a refused one has its answer.
            Outcome::BadRequest | Outcome::Unparseable | Outcome::UnknownSource | Outcome::Denied => Err(End::Answered),
            _ => Ok(()),
        }
    }

    /// A grant counts as long as its gateway is there.
    fn is_trusted(&mut self) -> bool {
        let (flows, source, now) = (&self.shared.flows, self.arrival.source, Instant::now());
        if !self
            .trust
            .as_ref()
            .is_some_and(|trust| trust.until.is_none_or(|until| now < until) && flows.term(trust.gateway, source) == Some(trust.term))
        {
            self.trust = None;
        }
        self.arrival.trusted || self.trust.is_some()
    }

    async fn release(&mut self, message: &Bytes, flow: Option<FlowGrant>, outcome: Outcome) -> Result<(), End> {
        if let Some(grant) = flow {
            let Some(term) = self.shared.flows.term(grant.gateway, self.arrival.source) else {
                return Err(End::Fault(Fault::Grant));
            };
            self.grant(grant, term);
        }
        self.shared.counters.outcome(outcome);
        if self.switch.is_none() {
            match connect(self.arrival.destination).await {
                Ok(stream) => self.switch = Some(stream),
                Err(error) => {
                    self.shared.counters.fault(Fault::Connect);
                    tracing::debug!(%error, destination = %self.arrival.destination, "the softswitch takes no connection");
                    self.answer(message, Status::ServiceUnavailable).await?;
                    return Err(End::Answered);
                }
            }
        }
        match &mut self.switch {
            Some(switch) => write(switch, message, &self.shared).await,
            None => Err(End::Closed),
        }
    }

    fn grant(&mut self, grant: FlowGrant, term: u64) {
        self.place.prove();
        // A registration must not cut short what a call has: its BYE may come after the registration has ended.
        if self
            .trust
            .as_ref()
            .is_some_and(|trust| (trust.gateway, trust.term) == (grant.gateway, term) && trust.until.is_none())
        {
            return;
        }
        self.trust = Some(Trust {
            gateway: grant.gateway,
            term,
            until: grant.lifetime.map(|lifetime| Instant::now() + lifetime),
        });
    }

    /// The stream cannot be read on.
    async fn reject(&mut self, error: StreamError) -> End {
        tracing::debug!(%error, source = %self.arrival.source, "no way to find the next message");
        if error.is_oversized() {
            return End::Fault(Fault::OversizedMessage);
        }
        let head = self.from_gateway.rejected().map(Bytes::copy_from_slice);
        let answered = match head {
            Some(head) if !self.arrival.denied => self.answer(&head, Status::BadRequest).await,
            _ => Ok(false),
        };
        match answered {
            Ok(answered) => {
                let outcome = if answered { Outcome::BadRequest } else { Outcome::Unparseable };
                self.shared.counters.outcome(outcome);
                End::Answered
            }
            Err(end) => end,
        }
    }

    /// Answers a request by ourselves, if it is one that is answered; says whether it is.
    async fn answer(&mut self, request: &[u8], status: Status) -> Result<bool, End> {
        let Ok((message, _)) = Message::read(request) else {
            return Ok(false);
        };
        match message.start() {
            StartLine::Request { method, .. } if method != Method::Ack => {}
            _ => return Ok(false),
        }
        // The connection ends after this answer, so no ACK has to be recognised by its tag.
        let tag = format!("{:016x}", RandomState::new().hash_one(message.call_id()));
        let response = Response::new(Vec::new(), status, &message, self.arrival.source, tag.as_bytes()).finish();
        write(&mut self.gateway, &response, &self.shared).await.map(|()| true)
    }

    /// From the softswitch back to the gateway. Keep-alives are between neighbours (RFC 5626, 3.5.1).
    async fn read_switch(&mut self) -> Result<(), End> {
        let Some(switch) = &mut self.switch else { return Ok(()) };
        if !read(switch, &mut self.from_switch, &self.shared)? {
            return Ok(());
        }
        loop {
            match self.from_switch.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    self.active = Instant::now();
                    // What the softswitch granted a registration counts, not what its client asked for.
                    if let Some(until) = self.trust.as_mut().and_then(|trust| trust.until.as_mut())
                        && let Some(seconds) = Message::parse(&message).ok().and_then(|message| message.granted_expiry())
                    {
                        *until = Instant::now() + registration(seconds);
                    }
                    write(&mut self.gateway, &message, &self.shared).await?;
                }
                Ok(Some(Frame::Ping)) => write(switch, PONG, &self.shared).await?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "the softswitch sent what is no SIP");
                    return Err(End::Fault(Fault::SwitchStream));
                }
            }
        }
    }

    /// Lets the last answer arrive.
    async fn linger(&mut self) {
        let drain = async {
            self.gateway.shutdown().await?;
            for _ in 0..LINGER_READS {
                self.gateway.readable().await?;
                match self.gateway.try_read(&mut self.shared.scratch.borrow_mut()) {
                    Ok(0) => break,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                    _ => {}
                }
            }
            io::Result::Ok(())
        };
        // It is closed in any case.
        let _ = timeout(LINGER, drain).await;
    }
}

async fn readable(stream: Option<&TcpStream>) {
    match stream {
        // An error is met again when the stream is read.
        Some(stream) => drop(stream.readable().await),
        None => future::pending().await,
    }
}

/// Reads what is there, at most a chunk; false if there is nothing yet.
fn read(stream: &TcpStream, framer: &mut Framer, shared: &Shared) -> Result<bool, End> {
    let mut scratch = shared.scratch.borrow_mut();
    match stream.try_read(&mut scratch) {
        Ok(0) => Err(End::Closed),
        Ok(length) => {
            framer.push(scratch.get(..length).unwrap_or_default());
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
        Err(_) => Err(End::Closed),
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8], shared: &Shared) -> Result<(), End> {
    match timeout(shared.limits.write, stream.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Closed),
        Err(_) => Err(End::Fault(Fault::Stalled)),
    }
}

/// To where the gateway connected: the softswitch may listen on that address only.
async fn connect(destination: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(destination))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
