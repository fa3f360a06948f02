//! The decision about a punted datagram.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use sipauth_common::{
    challenge::{Challenge, Nonce, Text},
    sip::{Class, Method, classify_payload},
};

use super::{
    Action, Arrival, Diagnosis, Directory, FlowGrant, NonceKeys, Outcome, Settings, Source, Timestamp,
    account::Dummy,
    challenge,
    diagnosis::Budget,
    failures::{BanRequest, Failures, Standing},
    nonce::{Mint, run},
    registration,
    replay::Replay,
    uses::Uses,
    verify::Refusal,
};
use crate::sip::{Message, ParseError, Response, StartLine, Status};

/// A binding without `Expires` (RFC 3261, 10.2.1.1).
const DEFAULT_EXPIRY: u32 = 3600;

/// Authenticates what one worker receives.
///
/// Nonces are good at the worker that issued them: the kernel keeps a source at one worker, so replay memory is shared with nobody.
/// Those of the kernel program are good at any that takes datagrams, which for a source is the same one.
pub struct Authenticator {
    pub(super) settings: Arc<Settings>,
    pub(super) mint: Mint,
    pub(super) replay: Replay,
    /// Of nonces of the kernel program; none where they are not good. Their first use, and what further ones were made.
    pub(super) of_kernel: Option<(Uses, Replay)>,
    pub(super) failures: Failures,
    pub(super) ban: Option<BanRequest>,
    pub(super) diagnosis: Option<Diagnosis>,
    pub(super) curiosity: Budget,
    pub(super) dummy: Dummy,
    pub(super) worker: u16,
    pub(super) started: Timestamp,
    serial: u64,
    /// Buffers of responses that were sent.
    spare: Vec<Vec<u8>>,
}

/// So many buffers are kept for more responses, and none that has grown beyond so many bytes.
const SPARE: usize = 32;
const SPARE_ROOM: usize = 4_096;

impl Authenticator {
    /// For worker `worker` (each its own number), starting at `started`. A start makes all earlier nonces stale, since what was
    /// used of them is not remembered.
    #[must_use]
    pub fn new(settings: Arc<Settings>, keys: &NonceKeys, worker: u16, started: Timestamp) -> Self {
        let mint = Mint::new(keys);
        let replay = Replay::new(settings.replay_capacity);
        let failures = Failures::new(settings.failure_capacity);
        // A nonce has 48 bits for it.
        let started = Timestamp(started.0 & ((1 << 48) - 1));
        Self {
            settings,
            mint,
            replay,
            of_kernel: None,
            failures,
            ban: None,
            diagnosis: None,
            curiosity: Budget::default(),
            dummy: Dummy::default(),
            worker,
            started,
            serial: 0,
            spare: Vec::new(),
        }
    }

    /// Takes nonces of the kernel program too, which has used up those that it finds in `uses`. For a worker to which all datagrams of its
    /// sources come: else one nonce count could be used at several.
    #[must_use]
    pub fn with_kernel(mut self, uses: Uses) -> Self {
        self.of_kernel = Some((uses, Replay::new(self.settings.replay_capacity)));
        self
    }

    /// What the kernel program needs to challenge by itself, with `boot_s` as in [`Challenge`]; `None` where it cannot make what the
    /// settings want. `started` is that of all authenticators.
    #[must_use]
    pub fn of_kernel(settings: &Settings, realm: &str, keys: &NonceKeys, started: Timestamp, boot_s: u32) -> Option<Challenge> {
        let [status, before, behind] = challenge::parts(&settings.rules, realm)?;
        let ticks = (settings.rules.nonce_lifetime.as_nanos() >> Nonce::TICK).try_into();
        Some(Challenge {
            realm_at: challenge::realm_at(&settings.rules),
            lifetime: ticks.unwrap_or(u32::MAX),
            key: keys.of_kernel(),
            boot_s,
            run: run(started),
            status: Text::new(&status)?,
            before: Text::new(&before)?,
            behind: Text::new(&behind)?,
        })
    }

    /// Other keys from now on. Nonces and their use live on.
    pub fn rekey(&mut self, keys: &NonceKeys) {
        self.mint = Mint::new(keys);
    }

    /// Other settings from now on, but for the capacities: what is remembered stays.
    pub fn reconfigure(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// Takes back the buffer of a response that was sent, for the next.
    pub fn reuse(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE && buffer.capacity() <= SPARE_ROOM {
            self.spare.push(buffer);
        }
    }

    /// The ban that the last datagram made due. To be asked for after each [`Authenticator::handle`].
    pub const fn take_ban(&mut self) -> Option<BanRequest> {
        self.ban.take()
    }

    /// Forgets the failures of an address, since the operator lifted its ban; `None`: of everybody.
    pub fn pardon(&mut self, address: Option<IpAddr>) {
        match address {
            Some(address) => self.failures.pardon(address),
            None => self.failures.pardon_all(),
        }
    }

    /// What to do with a datagram.
    pub fn handle<D: Directory + ?Sized>(&mut self, datagram: &[u8], arrival: &Arrival, directory: &D, now: Timestamp) -> Action {
        if classify_payload(datagram) == Class::KeepAlive {
            return Action::Absorb {
                outcome: Outcome::KeepAlive,
            };
        }
        let (message, fault) = match Message::read(datagram) {
            Ok(read) => read,
            Err(ParseError::Empty) => {
                return Action::Absorb {
                    outcome: Outcome::KeepAlive,
                };
            }
            Err(_) => {
                return Action::Absorb {
                    outcome: Outcome::Unparseable,
                };
            }
        };
        let StartLine::Request { method, .. } = message.start() else {
            // Only over TCP: datagrams of this kind the kernel program passes by itself.
            if arrival.trusted && fault.is_none() {
                return Action::Release {
                    flow: None,
                    outcome: Outcome::InDialog,
                };
            }
            return Action::Absorb {
                outcome: Outcome::Response,
            };
        };
        let reply = Reply {
            message: &message,
            source: arrival.source,
            mint: &self.mint,
            spare: &mut self.spare,
        };
        if method == Method::Ack && message.to_tag().is_some_and(|tag| self.mint.tags.is_ours(tag)) {
            return Action::Absorb {
                outcome: Outcome::AckAbsorbed,
            };
        }
        if arrival.denied {
            return match method {
                Method::Invite | Method::Register if fault.is_none() => reply.send(Status::Forbidden, Outcome::Denied),
                _ => Action::Absorb { outcome: Outcome::Denied },
            };
        }
        let source = directory.source(arrival.source.ip().to_canonical());
        if !source.peer && !source.password && !arrival.trusted {
            return Action::Absorb {
                outcome: Outcome::UnknownSource,
            };
        }
        if fault.is_some() {
            return match method {
                // Nothing answers an ACK (RFC 3261, 17.1.1.3).
                Method::Ack => Action::Absorb {
                    outcome: Outcome::BadRequest,
                },
                _ => reply.send(Status::BadRequest, Outcome::BadRequest),
            };
        }
        if message.to_tag().is_some() && (arrival.trusted || source.peer) {
            return Action::Release {
                flow: None,
                outcome: Outcome::InDialog,
            };
        }
        match method {
            // ACK and CANCEL cannot be challenged (RFC 3261, 22.1).
            Method::Cancel if arrival.trusted => Action::Release {
                flow: None,
                outcome: Outcome::InDialog,
            },
            Method::Ack => Action::Absorb {
                outcome: Outcome::AckNoFlow,
            },
            Method::Cancel => reply.send(Status::NoSuchTransaction, Outcome::CancelNoFlow),
            Method::Options if source.peer => Action::Release {
                flow: None,
                outcome: Outcome::PeerOptions,
            },
            _ if source.password => self.authenticate(datagram, &message, arrival, source, directory, now),
            _ if source.peer => reply.send(Status::Forbidden, Outcome::PeerInitial),
            _ => Action::Absorb {
                outcome: Outcome::UnknownSource,
            },
        }
    }

    fn authenticate<D: Directory + ?Sized>(
        &mut self,
        datagram: &[u8],
        message: &Message<'_>,
        arrival: &Arrival,
        source: Source<'_>,
        directory: &D,
        now: Timestamp,
    ) -> Action {
        let from = arrival.source;
        let standing = match source {
            _ if arrival.trusted => Standing::Trusted,
            Source { listed: true, .. } => Standing::Listed,
            Source { peer: true, .. } => Standing::PortOnly,
            _ => Standing::Ordinary,
        };
        let verified = if self.failures.locks(from, standing, now) {
            Err(Refusal::locked(Outcome::LockedOut))
        } else {
            self.verify(datagram, message, (from, standing), source, directory, now)
        };
        if let Err(refusal) = &verified {
            self.diagnose(refusal.outcome, message, from, source, directory, now);
        }
        match verified {
            Ok(proof) => {
                self.failures.proven(from, now);
                let lifetime = match message.start() {
                    StartLine::Request {
                        method: Method::Register, ..
                    } => message.requested_expiry(DEFAULT_EXPIRY).map(registration),
                    _ => None,
                };
                let outcome = if proof.again {
                    Outcome::Retransmission
                } else {
                    Outcome::Authenticated
                };
                Action::Release {
                    flow: Some(FlowGrant {
                        gateway: proof.gateway,
                        lifetime,
                        caller: proof.caller,
                    }),
                    outcome,
                }
            }
            Err(Refusal {
                outcome, forbidden: true, ..
            }) => Reply {
                message,
                source: from,
                mint: &self.mint,
                spare: &mut self.spare,
            }
            .send(Status::Forbidden, outcome),
            Err(refusal) => {
                self.serial += 1;
                let nonce = self.mint.issue(now, (self.started, self.worker), self.serial, from.ip());
                let rules = source.rules.unwrap_or(&self.settings.rules);
                let buffer = self.spare.pop().unwrap_or_default();
                let mut response = Response::new(buffer, challenge::status(rules), message, from, &self.mint.tags.make(message));
                challenge::write(&mut response, rules, source.realm, &nonce, refusal.stale);
                Action::Reply {
                    response: response.finish(),
                    outcome: refusal.outcome,
                }
            }
        }
    }
}

/// What an answer without challenge needs.
struct Reply<'a> {
    message: &'a Message<'a>,
    source: SocketAddr,
    mint: &'a Mint,
    spare: &'a mut Vec<Vec<u8>>,
}

impl Reply<'_> {
    fn send(self, status: Status, outcome: Outcome) -> Action {
        let buffer = self.spare.pop().unwrap_or_default();
        let response = Response::new(buffer, status, self.message, self.source, &self.mint.tags.make(self.message)).finish();
        Action::Reply { response, outcome }
    }
}
