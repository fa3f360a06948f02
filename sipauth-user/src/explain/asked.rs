//! A [`Lookup`] that notes each question and its answer.

use std::cell::RefCell;

use sipauth_common::{
    address::Address,
    config::{Config, PortRole},
    decide::{Lookup, Sifted},
    flow::{Ban, Flow, FlowKey},
    policy::{Policy, PortKey},
    prefilter::Possible,
};

/// A question of the decision, with the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// The settings.
    Config(Option<Config>),
    /// What a local port is.
    PortRole(u16, PortRole),
    /// The policy of exactly this address.
    Host(Address, Option<Policy>),
    /// The policy of the longest prefix around the address.
    Net(Address, Option<Policy>),
    /// Whose a source port is.
    Port(PortKey, Option<u32>),
    /// An authenticated flow.
    Flow(FlowKey, Option<Flow>),
    /// When the softswitch last called the address.
    Peer(Address, Option<u64>),
    /// A ban.
    Ban(Address, Option<Ban>),
    /// The time.
    Now(u64),
}

/// Passes questions on and notes them. The time stands still, so that what is told about it fits the decision.
pub struct Recorder<'a, L> {
    maps: Sifted<'a, L>,
    now: u64,
    asked: RefCell<Vec<Asked>>,
}

impl<'a, L: Lookup> Recorder<'a, L> {
    /// Over these maps, from now on, for a packet of this source.
    #[must_use]
    pub fn new(maps: &'a L, source: &Address) -> Self {
        Self {
            maps: Sifted::new(maps, source),
            now: maps.now(),
            asked: RefCell::default(),
        }
    }

    /// What was asked, in order.
    #[must_use]
    pub fn into_asked(self) -> Vec<Asked> {
        self.asked.into_inner()
    }

    fn note<T: Copy>(&self, answer: T, question: impl FnOnce(T) -> Asked) -> T {
        self.asked.borrow_mut().push(question(answer));
        answer
    }
}

impl<L: Lookup> Lookup for Recorder<'_, L> {
    fn config(&self) -> Option<Config> {
        self.note(self.maps.config(), Asked::Config)
    }

    fn port_role(&self, port: u16) -> PortRole {
        self.note(self.maps.port_role(port), |role| Asked::PortRole(port, role))
    }

    /// What the prefilter rules out is noted as not found: for whoever reads that there is no difference.
    fn possible(&self, _: &Address) -> Possible {
        Possible::ALL
    }

    fn host(&self, address: &Address) -> Option<Policy> {
        self.note(self.maps.host(address), |policy| Asked::Host(*address, policy))
    }

    fn net(&self, address: &Address) -> Option<Policy> {
        self.note(self.maps.net(address), |policy| Asked::Net(*address, policy))
    }

    fn port(&self, key: &PortKey) -> Option<u32> {
        self.note(self.maps.port(key), |owner| Asked::Port(*key, owner))
    }

    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.note(self.maps.flow(key), |flow| Asked::Flow(*key, flow))
    }

    fn peer(&self, address: &Address) -> Option<u64> {
        self.note(self.maps.peer(address), |seen| Asked::Peer(*address, seen))
    }

    fn ban(&self, address: &Address) -> Option<Ban> {
        self.note(self.maps.ban(address), |ban| Asked::Ban(*address, ban))
    }

    fn now(&self) -> u64 {
        self.note(self.now, Asked::Now)
    }
}
