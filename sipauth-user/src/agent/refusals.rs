//! What records know of refused calls: from the workers, and from the kernel program's samples.

use std::net::{IpAddr, SocketAddr};

use sipauth_common::{
    decide::TCP,
    event::Event,
    reason::{self, Verdict},
};

use super::{events, state::Agent};
use crate::{
    auth::{Action, Arrival, Diagnosis},
    config::Settings,
    control::Transport,
    records::{self, Context, Reason, Refused, Target, Wanted},
};

impl Context for Agent {
    fn gateway(&self, id: Option<u32>, username: Option<&[u8]>, source: SocketAddr) -> Option<String> {
        let accounts = self.accounts();
        let snapshot = &accounts.snapshot;
        let by_username = || {
            let name = username?;
            let end = memchr::memrchr(b'@', name).unwrap_or(name.len());
            let (_, gateway) = snapshot.account(name).or_else(|| snapshot.account(&name[..end]))?;
            Some(gateway)
        };
        let by_address = || snapshot.gateway(snapshot.policy(source.ip().to_canonical())?.gateway);
        let gateway = id.and_then(|id| snapshot.gateway(id)).or_else(by_username).or_else(by_address);
        gateway.map(|gateway| gateway.name.clone())
    }

    fn is_listed(&self, source: SocketAddr) -> bool {
        self.accounts().snapshot.policy(source.ip().to_canonical()).is_some()
    }

    fn wanted(&self) -> Wanted {
        let settings = self.settings();
        Wanted {
            target: settings.records,
            directory: settings.log_dir.clone(),
            files: settings.records_files,
        }
    }
}

/// What a worker decided, if it refused a call.
pub(super) fn decided(
    agent: &Agent,
    settings: &Settings,
    action: &Action,
    (datagram, arrival, transport): (&[u8], &Arrival, Transport),
    diagnosis: Option<&Diagnosis>,
) {
    let reason = Reason::Agent(action.outcome());
    if settings.records == Target::Off || reason.termination().is_none() || !records::is_call(datagram) {
        return;
    }
    let code = match action {
        Action::Reply { response, .. } => status(response),
        Action::Release { .. } | Action::Absorb { .. } => None,
    };
    agent.records.refused(Refused {
        time: std::time::SystemTime::now(),
        source: arrival.source,
        destination: arrival.destination,
        transport,
        reason,
        gateway: diagnosis.and_then(|diagnosis| diagnosis.gateway),
        code,
        detail: diagnosis.map(|diagnosis| diagnosis.detail.clone()),
        monitored: false,
        message: records::kept(datagram),
    });
}

/// What the kernel program sampled, if it was a call.
pub(super) fn sampled(agent: &Agent, event: &Event) {
    let Some(reason) = reason::Reason::from_slot(u32::from(event.reason)).filter(|reason| reason.verdict() == Verdict::Drop) else {
        return;
    };
    let head = event.head.get(..usize::from(event.head_len)).unwrap_or_default();
    let reason = Reason::Kernel(reason);
    if agent.settings().records == Target::Off || reason.termination().is_none() || !records::is_call(head) {
        return;
    }
    agent.records.refused(Refused {
        time: events::time(event),
        source: SocketAddr::new(IpAddr::from(event.source), event.source_port),
        destination: SocketAddr::new(IpAddr::from(event.destination), event.destination_port),
        transport: if event.protocol == TCP { Transport::Tcp } else { Transport::Udp },
        reason,
        gateway: Some(event.gateway).filter(|id| *id != 0),
        code: None,
        detail: None,
        monitored: event.monitored != 0,
        message: records::kept(head),
    });
}

/// Of a response that we wrote: `SIP/2.0 401 …`.
fn status(response: &[u8]) -> Option<u16> {
    std::str::from_utf8(response.get(8..11)?).ok()?.parse().ok()
}
