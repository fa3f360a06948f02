//! Brings the maps to the state of the store and the settings, by their difference: what is right already is not touched,
//! so packets that meanwhile flow through an earlier agent's program see no gap.

use std::{collections::HashMap, time::Duration};

use sipauth_common::{
    abi,
    address::Address,
    config::{Config, PortRole, flags, port},
    decide::Lookup as _,
};

use crate::{
    compile::{Snapshot, Step, Tables},
    config::Settings,
    datapath::{DatapathError, Maps},
};

/// The kernel program takes the agent for dead when its heartbeat is older.
pub(super) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);
/// Events per second and CPU: enough to see who knocks, too few to cost anything under a flood.
const EVENT_RATE: u32 = 100;

/// Hosts, prefixes and ports.
pub(super) fn sources(maps: &Maps, wanted: &Tables) -> Result<(), DatapathError> {
    let present = Tables {
        hosts: maps.hosts()?.into_iter().collect(),
        nets: maps
            .nets()?
            .into_iter()
            .map(|(network, prefix, policy)| ((network, prefix), policy))
            .collect(),
        ports: maps.ports()?.into_iter().collect(),
        anywhere: false,
    };
    apply(maps, &present, &present.diff(wanted))
}

/// Takes the steps; where one fails, those before it are taken back.
pub(super) fn apply(maps: &Maps, old: &Tables, steps: &[Step]) -> Result<(), DatapathError> {
    let mut done = 0;
    while let Some(next) = steps.get(done) {
        let taken = match next {
            Step::PutHost(..) => put_hosts(maps, &steps[done..]),
            Step::PutPort(..) => put_ports(maps, &steps[done..]),
            _ => take(maps, next).map(|()| 1).map_err(|error| (0, error)),
        };
        match taken {
            Ok(taken) => done += taken,
            Err((taken, error)) => {
                undo(maps, old, &steps[..done + taken]);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Steps that are taken in one system call.
const BATCH: usize = 4_096;

/// Takes the steps up to one of another kind; answers how many.
fn put_hosts(maps: &Maps, steps: &[Step]) -> Result<usize, (usize, DatapathError)> {
    let hosts = steps.iter().take(BATCH).map_while(|step| match step {
        Step::PutHost(address, policy) => Some((*address, *policy)),
        _ => None,
    });
    // Of one family at a time, so that those before one that fails are the first.
    let hosts: Vec<_> = hosts.collect();
    let family = |(address, _): &(Address, _)| address.v4().is_some();
    let same = hosts
        .iter()
        .take_while(|host| hosts.first().map(family) == Some(family(host)))
        .count();
    maps.put_hosts(&hosts[..same]).map(|()| same)
}

/// Likewise.
fn put_ports(maps: &Maps, steps: &[Step]) -> Result<usize, (usize, DatapathError)> {
    let ports = steps.iter().take(BATCH).map_while(|step| match step {
        Step::PutPort(key, owner) => Some((*key, *owner)),
        _ => None,
    });
    let (keys, owners): (Vec<_>, Vec<_>) = ports.unzip();
    maps.put_ports(&keys, &owners).map(|()| keys.len())
}

/// Takes steps back, the last first. Nothing is left to do about an error here: the next start compiles from the store.
pub(super) fn undo(maps: &Maps, old: &Tables, steps: &[Step]) {
    for step in steps.iter().rev() {
        if let Err(error) = take(maps, &step.inverse(old)) {
            tracing::error!(%error, "a map could not be put back; restart the agent to compile it anew");
        }
    }
}

fn take(maps: &Maps, step: &Step) -> Result<(), DatapathError> {
    match *step {
        Step::PutPort(key, owner) => maps.put_port(&key, owner),
        Step::PutNet(network, prefix, policy) => maps.put_net(&network, prefix, &policy),
        Step::PutHost(address, policy) => maps.put_host(&address, &policy),
        Step::DeleteHost(address) => maps.delete_host(&address).map(drop),
        Step::DeleteNet(network, prefix) => maps.delete_net(&network, prefix).map(drop),
        Step::DeletePort(key) => maps.delete_port(&key).map(drop),
    }
}

/// Protected ports and punt ports: what is pointed to first, then what points, then what is no longer wanted.
pub(super) fn ports(maps: &Maps, settings: &Settings) -> Result<(), DatapathError> {
    let mut wanted: HashMap<u16, PortRole> = HashMap::new();
    let none = PortRole::default();
    for (protected, punt) in settings.punt_ports() {
        for number in punt {
            wanted.insert(
                number,
                PortRole {
                    protected,
                    flags: port::PUNT,
                    ..none
                },
            );
        }
        wanted.insert(
            protected,
            PortRole {
                punt,
                flags: port::PROTECTED,
                ..none
            },
        );
    }
    for role in [port::PUNT, port::PROTECTED] {
        for (number, wanted) in wanted.iter().filter(|(_, wanted)| wanted.flags == role) {
            if maps.port_role(*number) != *wanted {
                maps.set_port_role(*number, *wanted)?;
            }
        }
    }
    for number in 0..=u16::MAX {
        if !wanted.contains_key(&number) && maps.port_role(number) != none {
            maps.set_port_role(number, none)?;
        }
    }
    Ok(())
}

/// Forgets flows whose gateway is gone: an agent that was killed while it removed one left them. And all callers, of which the generation of
/// gateways says nothing to this run.
pub(super) fn flows(maps: &Maps, snapshot: &Snapshot) -> Result<(), DatapathError> {
    for (key, flow) in maps.flows()? {
        let known = flow.gateway == 0 || snapshot.gateway(flow.gateway).is_some_and(|gateway| gateway.credentials.is_some());
        if !known {
            maps.delete_flow(&key)?;
        }
    }
    maps.delete_callers(|_| true)
}

/// The settings as the kernel program reads them; without a heartbeat yet.
pub(super) fn config(settings: &Settings, anywhere: bool, own_mark: [u8; 8]) -> Config {
    let bit = |set: bool, flag: u32| if set { flag } else { 0 };
    Config {
        layout: abi::LAYOUT,
        generation: 0,
        heartbeat_ns: 0,
        heartbeat_limit_ns: nanoseconds(HEARTBEAT_LIMIT),
        peer_ttl_ns: nanoseconds(settings.peer_ttl),
        flow_idle_ns: nanoseconds(settings.flow_idle),
        default_policy: settings.policy_in_force(anywhere) as u32,
        flags: bit(settings.monitor, flags::MONITOR)
            | bit(settings.fail_open, flags::FAIL_OPEN)
            | bit(settings.reply_unauthorized, flags::REPLY_UNAUTHORIZED)
            | bit(settings.tcp_reset, flags::TCP_RESET),
        source_rate: settings.source_rate,
        lane_rate: settings.lane_rates,
        own_mark,
        event_rate: EVENT_RATE,
        reserved: 0,
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
