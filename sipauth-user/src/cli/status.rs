//! `sipauth status`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{No, OutputArgs, ask, duration, output, unexpected};
use crate::control::{LogStatus, MapStatus, NameInfo, PrefilterStatus, RecentCount, Request, Response, StatusReport};

/// Arguments of `status`.
#[derive(Clone, Copy, Debug, Args)]
pub struct StatusArgs {
    /// List the kernel program's maps too: how full each is, and its memory
    #[arg(long)]
    maps: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn execute(args: StatusArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Status(status) = ask(socket, &Request::Status)? else {
        return Err(unexpected());
    };
    if args.output.json {
        output::json(&status)?;
    } else {
        lines(&status).iter().try_for_each(|line| output::line(line))?;
        if args.maps {
            output::line("")?;
            table(&status.maps)?;
        }
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
    if let Some(text) = maps_text(&status.maps) {
        say("maps", text);
    }
    say("prefilter", prefilter_text(&status.prefilter));
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

/// What all maps take, and which is the fullest of those that do not give way to new entries all the time.
fn maps_text(maps: &[MapStatus]) -> Option<String> {
    let used = |map: &MapStatus| map.entries.map(|entries| share(entries, map.most));
    let fullest = maps
        .iter()
        .filter(|map| map.map != "punt_rate")
        .max_by(|one, other| used(one).unwrap_or(-1.0).total_cmp(&used(other).unwrap_or(-1.0)))?;
    let fullest = match used(fullest) {
        Some(share) if share >= 0.01 => format!("the fullest is {}, {} of {} entries", fullest.map, percent(share), fullest.most),
        _ => "all are nearly empty".to_owned(),
    };
    Some(format!(
        "{} of kernel memory, {fullest}",
        megabytes(maps.iter().map(|map| map.bytes).sum())
    ))
}

/// Who is looked up in vain; prefixes only where they make a difference.
fn prefilter_text(prefilter: &PrefilterStatus) -> String {
    let [bits, address, prefix] = [prefilter.bits, prefilter.address, prefilter.prefix].map(percent);
    let prefixes = if prefilter.prefix > 0.0 && prefix != address {
        format!(", {prefix} a search of prefixes")
    } else {
        String::new()
    };
    format!("{address} of strangers cost a look-up{prefixes} ({bits} of its bits set)")
}

/// Those first that take most.
fn table(maps: &[MapStatus]) -> anyhow::Result<()> {
    let mut maps: Vec<&MapStatus> = maps.iter().collect();
    maps.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    let rows = maps.into_iter().map(|map| {
        let of = |text: String| if map.entries.is_some() { text } else { "-".to_owned() };
        [
            map.map.clone(),
            of(map.entries.unwrap_or(0).to_string()),
            map.room.to_string(),
            of(map.most.to_string()),
            format!("{:.1}", map.bytes as f64 / 1e3),
        ]
    });
    output::table(["map", "entries", "room now", "at most", "kB"], rows, 1)
}

fn share(entries: u64, most: u32) -> f64 {
    entries as f64 / f64::from(most.max(1))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A share, with a digit after the point where it is small.
fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".to_owned(),
        small if small < 0.1 => "<0.1 %".to_owned(),
        small if small < 10.0 => format!("{small:.1} %"),
        large => format!("{large:.0} %"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, entries: Option<u64>, most: u32, bytes: u64) -> MapStatus {
        MapStatus {
            map: name.to_owned(),
            entries,
            room: most.min(1_024),
            most,
            bytes,
        }
    }

    #[test]
    fn the_fullest_map_is_that_with_the_largest_share_and_not_one_that_is_always_full() {
        let maps = [
            map("config", None, 1, 8_192),
            map("hosts_v4", Some(5_000), 4_194_304, 91_168),
            map("punt_rate", Some(8_192), 8_192, 1_049_472),
            map("bans", Some(2_048), 16_384, 1_573_760),
        ];
        assert_eq!(
            maps_text(&maps).as_deref(),
            Some("2.7 MB of kernel memory, the fullest is bans, 12 % of 16384 entries")
        );
        assert_eq!(
            maps_text(&maps[..2]).as_deref(),
            Some("0.1 MB of kernel memory, all are nearly empty")
        );
        assert_eq!(maps_text(&[]), None);
    }

    #[test]
    fn of_the_prefilter_it_is_said_who_is_looked_up_in_vain() {
        let fill = |bits, address, prefix| prefilter_text(&PrefilterStatus { bits, address, prefix });
        assert_eq!(fill(0.2, 0.012, 0.0), "1.2 % of strangers cost a look-up (20 % of its bits set)");
        assert_eq!(fill(0.2, 0.012, 0.0121), "1.2 % of strangers cost a look-up (20 % of its bits set)");
        assert_eq!(
            fill(0.2, 0.012, 0.25),
            "1.2 % of strangers cost a look-up, 25 % a search of prefixes (20 % of its bits set)"
        );
    }

    #[test]
    fn small_shares_do_not_look_like_none() {
        let texts = [0.0, 0.000_01, 0.001, 0.0456, 0.12, 1.0].map(percent);
        assert_eq!(texts, ["0 %", "<0.1 %", "0.1 %", "4.6 %", "12 %", "100 %"]);
    }
}
