//! How the agent is, on one screen: what an operator wants to know who was woken.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use sipauth_common::{
    abi,
    config::flags,
    decide::Lookup as _,
    reason::{Reason, Verdict},
};

use super::{census, history::Moved, state::Agent};
use crate::{
    auth::Outcome,
    compile::Snapshot,
    config::{self, PolicyChoice},
    control::{InterfaceStatus, LogStatus, MapStatus, PrefilterStatus, Rates, RecentCount, StatusReport, StoreStatus},
    datapath::{self, monotonic_ns},
    gateway::Mode,
    metrics::Census,
    netlink,
    records::Target,
    store,
    tally::Tally,
};

/// Reasons that are told.
const TOP: usize = 5;
/// Share of strangers that the prefilter does not tell from others, from which on an operator should know.
const MANY_STRANGERS: f64 = 0.25;

impl Agent {
    pub(super) async fn status(&self) -> StatusReport {
        let settings = Arc::clone(&self.settings());
        let accounts = self.accounts();
        let interfaces: Vec<InterfaceStatus> = settings.interfaces.iter().map(|name| self.interface(name)).collect();
        let moved = self.moved();
        let (minute, lately) = moved.as_ref().map_or((None, None), |(minute, lately)| (Some(minute), Some(lately)));
        let (gateways, by_mode) = (accounts.snapshot.len(), by_mode(&accounts.snapshot));
        let default_policy = config::policy_label(accounts.default_policy).to_owned();
        let host_names = accounts.snapshot.host_count();
        drop(accounts);
        let store = self.store_status(gateways).await;
        let alive = self.maps().config().is_some_and(|config| config.agent_alive(monotonic_ns()));
        let census = census::count(self).unwrap_or_default();
        let obstacles = obstacles(settings.monitor, &interfaces);
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layout: abi::LAYOUT,
            pid: std::process::id(),
            uptime: self.began().elapsed().as_secs(),
            enforcing: obstacles.is_empty(),
            obstacles,
            warnings: self.warnings_now(&interfaces, &store, minute, alive, &census),
            interfaces,
            ports: settings.ports.clone(),
            agent_ports: settings.punt_ports().flat_map(|(_, punt)| punt).collect(),
            xdp_mode: settings.xdp_mode,
            state_dir: settings.state_dir.clone(),
            bpffs: settings.bpffs.clone(),
            default_policy,
            monitor: settings.monitor,
            fail_open: settings.fail_open,
            challenger: if self.has_flag(flags::CHALLENGE) { "kernel" } else { "agent" }.to_owned(),
            gateways,
            gateways_by_mode: by_mode,
            last_change: self.changed().map(|at| at.elapsed().as_secs()),
            flows: census.flows.iter().map(|(_, count)| count).sum(),
            bans: census.bans.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect(),
            rates: lately.map(rates),
            refused: minute.map(refused).unwrap_or_default(),
            refused_by_agent: minute.map(refused_by_agent).unwrap_or_default(),
            store,
            realm: settings.realm.clone(),
            host_names,
            host_names_failing: self.failing_names(),
            logs: vec![
                log(&self.records.tally, settings.records, &settings.log_dir),
                log(&self.audit.tally, Target::File, &settings.log_dir),
            ],
            maps: maps(&census, gateways),
            prefilter: PrefilterStatus {
                bits: census.prefilter.bits,
                address: census.prefilter.address,
                prefix: census.prefilter.prefix,
            },
        }
    }

    pub(super) fn interface(&self, name: &str) -> InterfaceStatus {
        let link = datapath::index(name).ok().and_then(|index| netlink::link(index).ok());
        let mode = datapath::mode_of(name).ok().flatten();
        InterfaceStatus {
            name: name.to_owned(),
            xdp_mode: mode.map_or("none", config::XdpMode::label).to_owned(),
            link: match &link {
                None => "missing",
                Some(link) if !link.up => "off",
                Some(link) if !link.carrier => "down",
                Some(_) => "up",
            }
            .to_owned(),
        }
    }

    async fn store_status(&self, gateways: usize) -> StoreStatus {
        if let Some(damage) = self.damage() {
            return StoreStatus {
                path: self.settings().state_dir.join(store::FILE),
                health: damage.to_owned(),
            };
        }
        // A change holds the store for as long as it takes, and status should not wait for it.
        let Some(store) = self.store_now() else {
            return StoreStatus {
                path: self.settings().state_dir.clone(),
                health: "busy".to_owned(),
            };
        };
        let health = match store.count().await {
            Ok(stored) if usize::try_from(stored) == Ok(gateways) => "ok".to_owned(),
            Ok(stored) => format!("it has {stored} gateways, {gateways} are enforced"),
            Err(error) => error.to_string(),
        };
        StoreStatus {
            path: store.path().to_owned(),
            health,
        }
    }

    fn warnings_now(
        &self,
        interfaces: &[InterfaceStatus],
        store: &StoreStatus,
        minute: Option<&Moved>,
        alive: bool,
        census: &Census,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        for interface in interfaces
            .iter()
            .filter(|interface| matches!(interface.link.as_str(), "off" | "down"))
        {
            warnings.push(format!("{} has no link: nothing arrives there", interface.name));
        }
        if self.damage().is_some() && self.counts().is_none() {
            let down = if self.settings().fail_open {
                "are admitted (fail open)"
            } else {
                "are refused"
            };
            warnings.push(format!(
                "the store is damaged and no change is taken: the gateways of before are enforced, but nobody knows their passwords; new password calls {down}"
            ));
        } else if self.damage().is_some() {
            warnings.push("the store is damaged and no change is taken; `sipauth export` still prints the gateways".to_owned());
        } else if !alive {
            warnings
                .push("the kernel program takes the agent for dead: its heartbeat does not arrive; the agent's log says why".to_owned());
        }
        if self.settings().default_policy == PolicyChoice::Allow {
            warnings.push("strangers are admitted (default-policy allow)".to_owned());
        }
        if self.damage().is_none() && !matches!(store.health.as_str(), "ok" | "busy") {
            warnings.push(format!("the store: {}; restart the agent to enforce what it has", store.health));
        }
        for map in census
            .occupancy
            .iter()
            // That of rates is always full under a flood, and the budgets of the lanes are still there.
            .filter(|map| map.map != abi::MAP_PUNT_RATE && map.entries >= u64::from(map.capacity) / 10 * 9)
        {
            warnings.push(format!(
                "the map {} is nearly full: {} of {} entries",
                map.map, map.entries, map.capacity
            ));
        }
        let strangers = census.prefilter.address.max(census.prefilter.prefix);
        if strangers > MANY_STRANGERS {
            warnings.push(format!(
                "the prefilter is full: {:.0} % of strangers cost a look-up; where it is for many prefixes, fewer and shorter ones help",
                100.0 * strangers
            ));
        }
        let Some(minute) = minute else { return warnings };
        for (reason, packets) in &minute.reasons {
            if matches!(reason, Reason::SourceRate | Reason::LaneRate) {
                warnings.push(format!(
                    "{packets} requests were dropped for their rate in the last minute ({})",
                    reason.label()
                ));
            }
        }
        if minute.evicted > 0 {
            warnings.push(format!(
                "{} flows were pushed out in the last minute, lately most of {}: more sources have authenticated than there is room for ({}); raise --max-flows, or see `sipauth flow list`",
                minute.evicted,
                self.room.gave_way().map_or_else(|| "nobody".to_owned(), |gateway| self.holder(gateway)),
                self.maps().flow_room()
            ));
        }
        for (fault, count) in &minute.faults {
            warnings.push(format!(
                "the agent met {} {count} times in the last minute; its log at debug says more",
                fault.label()
            ));
        }
        warnings
    }
}

/// Why not everything is enforced.
pub(super) fn obstacles(monitor: bool, interfaces: &[InterfaceStatus]) -> Vec<String> {
    let mut obstacles = Vec::new();
    if monitor {
        let remedy = "take it out of the configuration file and `sipauth reload`, or start the agent without --monitor";
        obstacles.push(format!("monitor mode counts verdicts and passes everything; {remedy}"));
    }
    for interface in interfaces.iter().filter(|interface| interface.xdp_mode == "none") {
        let why = match interface.link.as_str() {
            "missing" => "is not there",
            _ => "has no program of ours: what arrives there is not judged",
        };
        obstacles.push(format!("{} {why}; `sipauth doctor` and the agent's log say more", interface.name));
    }
    obstacles
}

fn by_mode(snapshot: &Snapshot) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = Mode::ALL.iter().map(|mode| (mode.label().to_owned(), 0)).collect();
    for (_, gateway) in snapshot.iter() {
        *counts.entry(gateway.mode.label().to_owned()).or_default() += 1;
    }
    counts
}

fn rates(lately: &Moved) -> Rates {
    Rates {
        seconds: lately.time.as_secs(),
        pass: lately.rate(Verdict::Pass),
        drop: lately.rate(Verdict::Drop),
        punt: lately.rate(Verdict::Punt),
    }
}

/// What each map has and takes.
fn maps(census: &Census, gateways: usize) -> Vec<MapStatus> {
    let used = |map: &str| {
        let count = census.occupancy.iter().find(|one| one.map == map);
        match count {
            Some(one) => Some((one.entries, one.capacity)),
            // Id 0 means no gateway.
            None if map == abi::MAP_GATEWAY_STATS => Some((u64::try_from(gateways).unwrap_or(u64::MAX), abi::MAX_GATEWAYS - 1)),
            None => None,
        }
    };
    let maps = census.footprints.iter().map(|one| {
        let used = used(one.map);
        MapStatus {
            map: one.map.to_ascii_lowercase(),
            entries: used.map(|(entries, _)| entries),
            room: one.room,
            most: used.map_or(one.room, |(_, most)| most),
            bytes: one.bytes,
        }
    });
    maps.collect()
}

fn recent(label: &str, count: u64) -> RecentCount {
    RecentCount {
        reason: label.to_owned(),
        count,
    }
}

fn refused(minute: &Moved) -> Vec<RecentCount> {
    let refused = minute.reasons.iter().filter(|(reason, _)| match reason {
        Reason::ReplyMismatch | Reason::ReplyUnknown => true,
        reason => reason.verdict() == Verdict::Drop,
    });
    refused.take(TOP).map(|(reason, count)| recent(reason.label(), *count)).collect()
}

/// What the agent refused for a cause; a challenge is none.
fn refused_by_agent(minute: &Moved) -> Vec<RecentCount> {
    let refused = minute.outcomes.iter().filter(|(outcome, _)| {
        !outcome.releases()
            && !matches!(
                outcome,
                Outcome::Challenged | Outcome::AckAbsorbed | Outcome::KeepAlive | Outcome::Response | Outcome::Denied
            )
    });
    refused.take(TOP).map(|(outcome, count)| recent(outcome.label(), *count)).collect()
}

fn log(tally: &Tally, target: Target, directory: &Path) -> LogStatus {
    LogStatus {
        log: tally.name().to_owned(),
        target: target.label().to_owned(),
        directory: (target == Target::File).then(|| directory.to_owned()),
        written: tally.written(),
        lost: tally.lost(),
        failing: tally.failing(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(xdp_mode: &str, link: &str) -> InterfaceStatus {
        InterfaceStatus {
            name: "eth0".to_owned(),
            xdp_mode: xdp_mode.to_owned(),
            link: link.to_owned(),
        }
    }

    #[test]
    fn what_keeps_from_enforcing_is_named() {
        assert!(obstacles(false, &[interface("native", "up"), interface("generic", "down")]).is_empty());
        assert!(obstacles(true, &[interface("native", "up")])[0].contains("monitor mode"));
        assert!(obstacles(false, &[interface("none", "missing")])[0].contains("eth0 is not there"));
        assert_eq!(obstacles(true, &[interface("none", "up"), interface("native", "up")]).len(), 2);
    }
}
