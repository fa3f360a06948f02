//! The parts of pages that are sent again while they are looked at. Each is one element with an id.

use maud::{Markup, html};
use sipauth_common::reason::Reason;

use super::text;
use crate::{
    cli::duration,
    control::{EventRecord, GatewayInfo},
    rates::{
        History, Rate, Rates, Verdicts, bits, short,
        table::{Filter, GatewaySort, rows},
    },
};

/// Most rows of the table of gateways: a browser redraws them every two seconds.
const MOST_GATEWAYS: usize = 200;
/// Refusals that a page holds.
pub(super) const MOST_REFUSALS: usize = 200;

/// The rate of one verdict.
type Of = fn(&Verdicts) -> Rate;

/// Rates by verdict, lanes, health, and what was refused why.
pub(super) fn overview(history: &History) -> Markup {
    let rates = history.rates();
    let tiles: [(&str, &str, Of); 4] = [
        ("pass", "to the softswitch", |v| v.pass),
        ("drop", "refused", |v| v.drop),
        ("punt", "to the agent, which asks for a password", |v| v.punt),
        ("absorb", "ACKs to the agent's own answers", |v| v.absorb),
    ];
    html! {
        div id="overview" {
            div.tiles {
                @for (label, meaning, rate) in tiles {
                    section.tile {
                        h2 class=(label) { (label) }
                        p.number { (rates.map_or_else(|| "–".to_owned(), |rates| short(rate(&rates.verdicts).packets))) small { " /s" } }
                        p.dim { (rates.map_or_else(|| "–".to_owned(), |rates| bits(rate(&rates.verdicts).bits))) }
                        (sparkline(history.verdicts().iter().map(|v| rate(v).packets), 100, label))
                        p.dim { (meaning) }
                    }
                }
            }
            @if let Some(sample) = history.sample() {
                div.two {
                section {
                    h2 { "Agent" }
                    dl {
                        dt { "Interfaces" }
                        dd { @for interface in &sample.setup.interfaces { (interface.name) " (XDP " (interface.xdp_mode) ") " } }
                        dt { "Enforcing" }
                        dd { @if sample.setup.obstacles.is_empty() { "yes" } @else { strong.drop { "NO: " (sample.setup.obstacles.join("; ")) } } }
                        dt { "Strangers" } dd { (sample.setup.default_policy) }
                        dt { "Up" } dd { (duration(sample.setup.uptime)) }
                        dt { "Workers" } dd { (sample.health.workers) }
                        dt { "Flows" } dd { (text::count(sample.health.flows)) }
                        dt { "Bans" } dd { (text::count(sample.health.bans)) }
                        dt { "Proved" } dd { (rates.and_then(|r| r.authentication.get("authenticated")).map_or_else(|| "–".to_owned(), |r| short(*r))) " passwords a second" }
                        dt { "Other traffic" } dd { (rates.map_or_else(|| "–".to_owned(), |r| short(r.other.packets))) " packets a second, untouched" }
                        @if sample.health.events_lost > 0 { dt { "Events lost" } dd.drop { (text::count(sample.health.events_lost)) } }
                        @for (fault, count) in sample.health.faults.iter().filter(|(_, count)| **count > 0) {
                            dt { "Fault " (fault) } dd.drop { (text::count(*count)) }
                        }
                    }
                }
                    (lanes(rates))
                }
                (reasons(history, rates))
            }
        }
    }
}

fn lanes(rates: Option<&Rates>) -> Markup {
    html! {
        section {
            h2 { "Lanes" }
            p.dim { "Requests for the agent a second, and what is left of the lane's reserve: all of it, unless somebody floods." }
            @for lane in rates.map(|rates| &rates.lanes).into_iter().flatten() {
                div.lane {
                    span { (lane.lane) }
                    span.right { (short(lane.admitted)) }
                    (meter(lane.left))
                    span.right { (format!("{:.0} %", lane.left * 100.0)) }
                    span.drop { @if lane.over_budget > 0.0 { (short(lane.over_budget)) " too many" } }
                }
            }
        }
    }
}

fn reasons(history: &History, rates: Option<&Rates>) -> Markup {
    let counts = history.sample().map(|sample| &sample.stats.reasons);
    let mut reasons: Vec<_> = counts.into_iter().flatten().filter(|(_, count)| count.packets > 0).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(count.packets));
    let meaning = |label: &str| {
        Reason::ALL
            .iter()
            .find(|reason| reason.label() == label)
            .map_or("", |reason| reason.text())
    };
    html! {
        section {
            h2 { "Why" }
            @if reasons.is_empty() { p.dim { "No packets yet." } } @else {
                table {
                    thead { tr { th { "Reason" } th { "Verdict" } th.right { "Now, /s" } th.right { "In all" } th { "Meaning" } } }
                    tbody {
                        @for (label, count) in reasons {
                            tr {
                                td { code { (label) } }
                                td data-label="Verdict" class=(count.verdict) { (count.verdict) }
                                td.right data-label="Now, /s" { (rates.and_then(|r| r.reasons.get(label)).map_or_else(|| "–".to_owned(), |r| short(r.packets))) }
                                td.right data-label="In all" { (text::count(count.packets)) }
                                td.dim { (meaning(label)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The table of gateways, as far as the filter admits them.
pub(super) fn gateways(history: &History, gateways: &[GatewayInfo], filter: &str, by_name: bool) -> Markup {
    let sort = if by_name { GatewaySort::Name } else { GatewaySort::Rate };
    let all = rows(gateways, history.rates(), &Filter::new(filter), sort, false);
    let number = |label: &'static str, class: &'static str, rate: Option<Rate>| {
        let class = if rate.is_some_and(|rate| rate.packets > 0.0) {
            class
        } else {
            "dim"
        };
        let text = rate.map_or_else(|| "–".to_owned(), |rate| short(rate.packets));
        html! { td data-rate=[label.split(' ').next()] data-label=(label) class=(format!("right {class}")) { (text) } }
    };
    html! {
        div id="gateways" {
            @if gateways.is_empty() { p.dim { "No gateways yet: " code { "sipauth gateway add" } " makes one." } }
            @else if all.is_empty() { p.dim { "None of " (text::count(gateways.len() as u64)) " gateways fits." } }
            @else {
                @if all.len() > MOST_GATEWAYS {
                    p.dim { "The first " (MOST_GATEWAYS) " of " (text::count(all.len() as u64)) " gateways; narrow the list to see others." }
                }
                table {
                    thead { tr {
                        th { "Gateway" } th { "Mode" } th { "Addresses" }
                        th.right { "Pass /s" } th.right { "Drop /s" } th.right { "Punt /s" } th { "Trend" }
                    } }
                    tbody {
                        @for row in all.iter().take(MOST_GATEWAYS) {
                            tr data-gateway=(row.gateway.name) {
                                td { strong { (row.gateway.name) } }
                                td data-label="Mode" { (row.gateway.mode.label()) }
                                td.long data-label="Addresses" { (addresses(row.gateway)) }
                                (number("Pass /s", "pass", row.rates.map(|r| r.pass)))
                                (number("Drop /s", "drop", row.rates.map(|r| r.drop)))
                                (number("Punt /s", "punt", row.rates.map(|r| r.punt)))
                                td { (sparkline(history.trend(&row.gateway.name), 30, "")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn addresses(gateway: &GatewayInfo) -> String {
    let mut text = match gateway.addresses.split_at_checked(3) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ if gateway.addresses.is_empty() => "anywhere".to_owned(),
        _ => gateway.addresses.join(", "),
    };
    if !gateway.ports.is_empty() {
        let ports: Vec<String> = gateway.ports.iter().map(ToString::to_string).collect();
        text += &format!(", port {}", ports.join(", "));
    }
    text
}

/// The latest refusals that the filter admits, newest first.
pub(super) fn refusals<'a>(events: impl DoubleEndedIterator<Item = &'a EventRecord>, filter: &str) -> Markup {
    let filter = Filter::new(filter);
    let shown = events.rev().filter(|event| admits(&filter, event)).take(MOST_REFUSALS);
    html! {
        tbody id="refusals" { @for event in shown { (refusal(event)) } }
    }
}

pub(super) fn admits(filter: &Filter, event: &EventRecord) -> bool {
    filter.source(event.source.ip(), event.gateway.as_deref())
}

/// One refusal. Its first line and detail are a peer's words.
pub(super) fn refusal(event: &EventRecord) -> Markup {
    let transport = event.transport.label();
    let method = crate::console::pages::method_of(&event.head);
    let explain = format!(
        "/explain?source={}&method={method}&transport={transport}&port={}",
        event.source,
        event.destination.port()
    );
    html! {
        tr {
            td { time { (text::clock(event.time)) } }
            td data-label="Source" { a href=(explain) title="What would happen now?" { (event.source) } }
            td data-label="To" { (event.destination.port()) "/" (transport) }
            td data-label="Reason" class=(event.verdict) { (event.reason) @if event.monitored { " (passed: monitor mode)" } }
            td.long data-label="Gateway" { (event.gateway.as_deref().unwrap_or("–")) }
            td.words {
                @if !event.head.is_empty() { code { (event.head) } }
                @if let Some(detail) = &event.detail { p.dim { (detail) } }
            }
        }
    }
}

/// How rates went, scaled to the highest. Drawn by attributes alone: the policy admits no styles in elements.
fn sparkline(rates: impl DoubleEndedIterator<Item = f64> + ExactSizeIterator, places: usize, class: &str) -> Markup {
    let rates: Vec<f64> = rates.rev().take(places).collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let last = places.saturating_sub(1);
    let points: Vec<String> = rates
        .iter()
        .enumerate()
        .map(|(ago, rate)| {
            let height = if most > 0.0 { rate / most * 18.0 } else { 0.0 };
            format!("{},{:.1}", last.saturating_sub(ago), 19.0 - height)
        })
        .collect();
    html! {
        svg class=(format!("spark {class}")) viewBox=(format!("0 0 {last} 20")) preserveAspectRatio="none" aria-hidden="true" {
            polyline points=(points.join(" ")) vector-effect="non-scaling-stroke" {}
        }
    }
}

fn meter(part: f64) -> Markup {
    html! {
        svg.meter viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=(format!("{:.0} percent left", part * 100.0)) {
            rect.back width="100" height="10" {}
            rect width=(format!("{:.1}", part * 100.0)) height="10" class=(if part < 0.5 { "drop" } else { "pass" }) {}
        }
    }
}
