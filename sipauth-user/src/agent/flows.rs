//! Flows that gateways earn by their password.

use std::{io, net::SocketAddr};

use sipauth_common::{
    address::Address,
    decide::{Lookup as _, UDP},
    flow::{Flow, FlowKey},
};

use super::state::Agent;
use crate::{
    auth::FlowGrant,
    datapath::{DatapathError, monotonic_ns},
    gateway::Gateway,
    worker::Flows,
};

impl Flows for Agent {
    fn grant(&self, source: SocketAddr, grant: FlowGrant) -> io::Result<()> {
        let key = FlowKey {
            address: Address::from(source.ip().to_canonical()),
            port: source.port(),
            protocol: UDP,
            reserved: 0,
        };
        let now = monotonic_ns();
        let idle_ns = u64::try_from(self.settings().flow_idle.as_nanos()).unwrap_or(u64::MAX);
        // A registration must not cut short what a call has: its BYE may come after the registration has ended.
        let there = self.maps().flow(&key).filter(|flow| flow.gateway == grant.gateway);
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
            reserved: 0,
        };
        // The kernel program keeps a flow in use alive; where it did so lately, there is nothing to write.
        let lately = called && there.is_some_and(|flow| now.saturating_sub(flow.seen) < idle_ns / 8);
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

    fn stands(&self, gateway: u32) -> bool {
        self.accounts().snapshot.gateway(gateway).is_some()
    }
}

/// Forgets all that was learned of a gateway: its flows, and its addresses as peers.
pub(super) fn forget(agent: &Agent, id: u32, gateway: &Gateway) -> Result<(), DatapathError> {
    for (key, flow) in agent.maps().flows()? {
        if flow.gateway == id {
            agent.maps().delete_flow(&key)?;
        }
    }
    if gateway.is_anywhere() {
        return Ok(());
    }
    for (address, _) in agent.maps().peers()? {
        if gateway.has_source(address.into()) {
            agent.maps().delete_peer(&address)?;
        }
    }
    Ok(())
}
