//! `sipauth status`.

use std::path::{Path, PathBuf};

use super::{No, OutputArgs, ask, duration, output, unexpected};
use crate::control::{LogStatus, NameInfo, RecentCount, Request, Response, StatusReport};

pub(super) fn execute(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Status(status) = ask(socket, &Request::Status)? else {
        return Err(unexpected());
    };
    if output.json {
        output::json(&status)?;
    } else {
        lines(&status).iter().try_for_each(|line| output::line(line))?;
    }
    if status.enforcing {
        return Ok(());
    }
    Err(No(format!("not enforcing: {}", status.obstacles.join("; "))).into())
}

/// One screen: what matters most comes first.
fn lines(status: &StatusReport) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, text: String| lines.push(format!("{name:<15} {text}"));
    if status.enforcing {
        say("enforcing", "yes".to_owned());
    }
    for (obstacle, name) in status.obstacles.iter().zip(["enforcing"].into_iter().chain(std::iter::repeat(""))) {
        say(name, format!("NO: {obstacle}"));
    }
    let up = duration(status.uptime);
    say("agent", format!("sipauth {}, pid {}, up {up}", status.version, status.pid));
    for interface in &status.interfaces {
        let program = match interface.xdp_mode.as_str() {
            "none" => "no program".to_owned(),
            mode => format!("XDP {mode}"),
        };
        say("interface", format!("{}, {program}, link {}", interface.name, interface.link));
    }
    say(
        "ports",
        format!("{} (the agent's own: {})", output::list(&status.ports), own(&status.agent_ports)),
    );
    say("default policy", status.default_policy.clone());
    let down = if status.fail_open { "pass (fail open)" } else { "are refused" };
    say("agent down", format!("new password calls {down}"));
    say(
        "challenges",
        format!("by the {}", if status.challenger == "kernel" { "kernel program" } else { "agent" }),
    );
    let modes = status.gateways_by_mode.iter().filter(|(_, count)| **count > 0);
    let modes: Vec<String> = modes.map(|(mode, count)| format!("{count} {mode}")).collect();
    let changed = match status.last_change {
        Some(ago) => format!("changed {} ago", duration(ago)),
        None => "not changed since the start".to_owned(),
    };
    let of_modes = if modes.is_empty() {
        String::new()
    } else {
        format!(" ({})", modes.join(", "))
    };
    say("gateways", format!("{}{of_modes}, {changed}", status.gateways));
    for (name, text) in host_names(status) {
        say(name, text);
    }
    say("flows", format!("{} authenticated", status.flows));
    let bans: u64 = status.bans.values().sum();
    let causes: Vec<String> = status
        .bans
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(cause, count)| format!("{count} {cause}"))
        .collect();
    let causes = if causes.is_empty() {
        String::new()
    } else {
        format!(" ({})", causes.join(", "))
    };
    say("bans", format!("{bans}{causes}"));
    say(
        "packets/s",
        status.rates.map_or_else(
            || "not known yet".to_owned(),
            |rates| {
                format!(
                    "{} pass, {} drop, {} to the agent (last {} s)",
                    rates.pass, rates.drop, rates.punt, rates.seconds
                )
            },
        ),
    );
    say("refused", counts(&status.refused));
    say("agent refused", counts(&status.refused_by_agent));
    say("store", format!("{}, {}", status.store.health, status.store.path.display()));
    say("realm", status.realm.clone());
    for log in &status.logs {
        say(&log.log, log_text(log));
    }
    say("map layout", status.layout.to_string());
    for (warning, name) in status.warnings.iter().zip(["warnings"].into_iter().chain(std::iter::repeat(""))) {
        say(name, warning.clone());
    }
    lines
}

/// How many host names there are, and which are not resolved any more.
fn host_names(status: &StatusReport) -> Vec<(&'static str, String)> {
    if status.host_names == 0 {
        return Vec::new();
    }
    let all = match status.host_names_failing.len() {
        0 => status.host_names.to_string(),
        failing => format!("{}, of which {failing} cannot be resolved now", status.host_names),
    };
    let failing = status.host_names_failing.iter();
    let failing = failing.map(|name| ("", format!("{} {}", name.name, unresolved(name).unwrap_or_default())));
    std::iter::once(("host names", all)).chain(failing).collect()
}

/// Since when and why a name is not resolved; `None` for one that is.
pub(super) fn unresolved(name: &NameInfo) -> Option<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = now.unwrap_or_default().as_secs().saturating_sub(name.failing_since?);
    Some(format!(
        "has not been resolved for {} ({}); its last answer stays in force: {}",
        duration(since),
        name.failure.as_deref().unwrap_or("no answer"),
        output::shortened(&name.addresses)
    ))
}

fn log_text(log: &LogStatus) -> String {
    let path = |directory: &PathBuf| format!(" {}", directory.join(&log.log).with_extension("jsonl").display());
    let place = log.directory.as_ref().map(path).unwrap_or_default();
    let lost = if log.lost > 0 {
        format!(", {} lost", log.lost)
    } else {
        String::new()
    };
    let why = log.failing.as_ref().map(|why| format!("; the last at {why}")).unwrap_or_default();
    format!("{}{place}, {} written{lost}{why}", log.target, log.written)
}

/// First and last: they follow each other.
fn own(ports: &[u16]) -> String {
    match (ports.first(), ports.last()) {
        (Some(first), Some(last)) => format!("{first}-{last}"),
        _ => "none".to_owned(),
    }
}

fn counts(recent: &[RecentCount]) -> String {
    if recent.is_empty() {
        return "nothing in the last minute".to_owned();
    }
    let counts: Vec<String> = recent.iter().map(|one| format!("{} {}", one.count, one.reason)).collect();
    format!("{} in the last minute", counts.join(", "))
}
