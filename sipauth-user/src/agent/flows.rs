//! Flows that gateways earn by their password.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sipauth_common::{
    address::Address,
    decide::{Lookup as _, TCP, UDP},
    event::Registered,
    flow::{Flow, FlowKey},
    proof::Caller,
};

use super::{room, state::Agent};
use crate::{
    auth::{Action, Arrival, FlowGrant, registration},
    compile::{Snapshot, Tables},
    control::{FlowInfo, Transport},
    datapath::{DatapathError, monotonic_ns},
    gateway::{Gateway, Mode},
    sip::Message,
    worker::Flows,
};

/// The agent sees a call of each source so often, at least: that it knows the password is remembered for a day, and keeps bans off its address.
const AGAIN: Duration = Duration::from_secs(600);

fn key(source: SocketAddr) -> FlowKey {
    FlowKey {
        address: Address::from(source.ip().to_canonical()),
        port: source.port(),
        protocol: UDP,
        reserved: 0,
    }
}

/// Before an action is carried out: what it says of a caller is of this generation of gateways, and after a failure the kernel program is to know
/// of none at the source. Failures that lock out a name are counted by the workers alone, so they must see what comes next.
pub(super) fn vouch(agent: &Agent, action: &mut Action, arrival: &Arrival, generation: u32) {
    match action {
        Action::Release {
            flow: Some(FlowGrant { caller: Some(caller), .. }),
            ..
        } => caller.generation = generation,
        // Only of live flows the kernel program checks anything.
        Action::Reply { outcome, .. } if arrival.trusted && outcome.is_failure() => {
            if let Err(error) = agent.maps().delete_caller(&key(arrival.source)) {
                tracing::error!(%error, source = %arrival.source, "the kernel program goes on to check the password of a source that failed");
            }
        }
        _ => {}
    }
}

impl Flows for Agent {
    fn grant(&self, source: SocketAddr, grant: FlowGrant) -> io::Result<()> {
        let key = key(source);
        room::wait(self);
        self.enter(key, grant)?;
        if self.room.took(&key) {
            self.enter(key, grant)?;
        }
        if let Some(caller) = grant.caller
            && self.challenger().is_kernel()
        {
            let until = monotonic_ns().saturating_add(u64::try_from(AGAIN.as_nanos()).unwrap_or(0));
            // Without it the next call comes to the agent as this one.
            if let Err(error) = self.maps().put_caller(&key, &Caller { until, ..caller }) {
                tracing::debug!(%error, %source, "the kernel program is not told of a caller");
            }
        }
        Ok(())
    }

    fn term(&self, gateway: u32, source: SocketAddr) -> Option<u64> {
        let term = self.terms.of(gateway);
        holds(&self.accounts().snapshot, gateway, source.ip()).then_some(term)
    }
}

impl Agent {
    fn enter(&self, key: FlowKey, grant: FlowGrant) -> io::Result<()> {
        let now = monotonic_ns();
        let idle_ns = u64::try_from(self.settings().flow_idle.as_nanos()).unwrap_or(u64::MAX);
        // A registration must not cut short what a call has: its BYE may come after the registration has ended.
        let present = self.maps().flow(&key);
        let there = present.filter(|flow| flow.gateway == grant.gateway);
        let called = there.is_some_and(|flow| flow.expires == u64::MAX && flow.is_live(now, idle_ns));
        let expires = match grant.lifetime {
            Some(lifetime) if !called => now
                .saturating_add(u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX))
                .min(u64::MAX - 1),
            _ => u64::MAX,
        };
        let flow = Flow {
            expires,
            seen: now,
            gateway: grant.gateway,
            // The softswitch may grant less, or more.
            registering: u32::from(expires != u64::MAX),
        };
        // The kernel program keeps a flow in use alive; where it did so lately, there is nothing to write.
        let lately = called && there.is_some_and(|flow| now.saturating_sub(flow.seen) < idle_ns / 8);
        if present.is_none() {
            self.room.enter(self.maps().flow_room());
        }
        if !lately {
            self.maps().put_flow(&key, &flow).map_err(io::Error::other)?;
        }
        // A gateway that was removed meanwhile: either its removal sees this flow, or this sees the removal.
        if self.accounts().snapshot.gateway(grant.gateway).is_none() {
            self.maps().delete_flow(&key).map_err(io::Error::other)?;
            return Err(io::Error::new(io::ErrorKind::NotFound, "the gateway was removed meanwhile"));
        }
        Ok(())
    }
}

/// The flows that are live, by address and port.
pub(super) fn list(agent: &Agent) -> Result<Vec<FlowInfo>, DatapathError> {
    chosen(agent, |_| true)
}

/// Those of an address.
pub(super) fn of(agent: &Agent, address: IpAddr) -> Result<Vec<FlowInfo>, DatapathError> {
    let wanted = Address::from(address.to_canonical());
    chosen(agent, |key| key.address == wanted)
}

fn chosen(agent: &Agent, choose: impl Fn(&FlowKey) -> bool) -> Result<Vec<FlowInfo>, DatapathError> {
    let now = monotonic_ns();
    let idle_ns = u64::try_from(agent.settings().flow_idle.as_nanos()).unwrap_or(u64::MAX);
    let seconds = |ns: u64| ns / 1_000_000_000;
    let mut flows: Vec<FlowInfo> = agent
        .maps()
        .flows()?
        .into_iter()
        .filter(|(key, flow)| choose(key) && flow.is_live(now, idle_ns))
        .map(|(key, flow)| FlowInfo {
            address: IpAddr::from(key.address),
            port: key.port,
            transport: if key.protocol == TCP { Transport::Tcp } else { Transport::Udp },
            gateway: agent.name_of(flow.gateway),
            expires_in: (flow.expires != u64::MAX).then(|| seconds(flow.expires.saturating_sub(now))),
            idle: seconds(now.saturating_sub(flow.seen)),
        })
        .collect();
    flows.sort_by_key(|flow| (flow.address, flow.port));
    Ok(flows)
}

/// What the softswitch granted a registration counts, not what its client asked for.
pub(super) fn registered(agent: &Agent, shown: &Registered) -> Result<(), DatapathError> {
    let Some(seconds) = granted(shown) else { return Ok(()) };
    let Some(flow) = agent.maps().flow(&shown.flow) else {
        return Ok(());
    };
    // Removed or turned into a call's meanwhile.
    if flow.expires == u64::MAX {
        return Ok(());
    }
    let lifetime = u64::try_from(registration(seconds).as_nanos()).unwrap_or(u64::MAX);
    let expires = monotonic_ns().saturating_add(lifetime).min(u64::MAX - 1);
    agent.maps().put_flow(&shown.flow, &Flow { expires, ..flow })?;
    // As in `grant`: either the removal of a gateway sees this flow, or this sees the removal.
    if agent.name_of(flow.gateway).is_none() {
        agent.maps().delete_flow(&shown.flow)?;
    }
    Ok(())
}

/// A long answer is cut off: its last line is left out then.
fn granted(shown: &Registered) -> Option<u32> {
    let answer = shown.answer.get(..usize::try_from(shown.len).ok()?)?;
    if let Ok(message) = Message::parse(answer) {
        return message.granted_expiry();
    }
    let end = memchr::memrchr(b'\n', answer)?;
    let whole = [&answer[..=end], b"\r\n"].concat();
    Message::parse(&whole).ok()?.granted_expiry()
}

/// Whether a gateway may call from an address with a password.
fn holds(now: &Snapshot, gateway: u32, source: IpAddr) -> bool {
    now.gateway(gateway)
        .is_some_and(|gateway| gateway.mode == Mode::Password && gateway.has_source(source))
}

/// How many gateways have had an id and are gone, since the start: ids are used again. As many entries as ids, at most.
#[derive(Default)]
pub(super) struct Terms(Mutex<HashMap<u32, u64>>);

impl Terms {
    fn of(&self, gateway: u32) -> u64 {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get(&gateway).copied().unwrap_or(0)
    }

    /// Before the id is given to another gateway.
    fn end(&self, gateway: u32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(gateway).or_default() += 1;
    }
}

/// Forgets what was learned of gateways that are gone or were changed, as far as `now` does not give it to them: their flows, and
/// their addresses as peers.
pub(super) fn forget(agent: &Agent, gone: &HashMap<u32, &Gateway>, now: &Snapshot) -> Result<(), DatapathError> {
    if gone.is_empty() {
        return Ok(());
    }
    for id in gone.keys().filter(|id| now.gateway(**id).is_none()) {
        agent.terms.end(*id);
    }
    for (key, flow) in agent.maps().flows()? {
        if gone.contains_key(&flow.gateway) && !holds(now, flow.gateway, key.address.into()) {
            agent.maps().delete_flow(&key)?;
        }
    }
    agent.maps().delete_callers(|caller| gone.contains_key(&caller.gateway))?;
    // Of who may call from anywhere no address was special.
    let listed = gone.iter().filter(|(_, gateway)| !gateway.is_anywhere());
    // No snapshot: that has a place for each id up to the highest.
    let before = Tables::compile(&listed.map(|(id, gateway)| (*id, (*gateway).clone())).collect::<Vec<_>>());
    for (address, _) in agent.maps().peers()? {
        let source = IpAddr::from(address);
        if before.policy(&address).is_some_and(|old| now.policy(source) != Some(old)) {
            agent.maps().delete_peer(&address)?;
        }
    }
    Ok(())
}
