//! The agent, its rates by verdict, its lanes and its health.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline, SparklineBar},
};

use super::{
    super::{
        state::{Link, State},
        theme::Theme,
    },
    row_of,
};
use crate::{
    cli::duration,
    control::{Sample, Setup},
    rates::{Rate, Rates, Verdicts, bits, short, whole},
};

/// What a row shows of the rates, and of each of those that were.
type Now = fn(&Rates) -> Rate;
type Trend = fn(&Verdicts) -> f64;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme, now: Instant) {
    bar(frame, row_of(area, 0), state, theme, now);
    let rates = state.history.rates();
    let rows: [(&str, Now, Option<Trend>); 5] = [
        ("pass", |r| r.verdicts.pass, Some(|v| v.pass.packets)),
        ("drop", |r| r.verdicts.drop, Some(|v| v.drop.packets)),
        ("punt", |r| r.verdicts.punt, Some(|v| v.punt.packets)),
        ("absorb", |r| r.verdicts.absorb, Some(|v| v.absorb.packets)),
        ("not SIP", |r| r.other, None),
    ];
    for ((label, rate, trend), index) in rows.into_iter().zip(1..) {
        let [text, rest] = Layout::horizontal([Constraint::Length(38), Constraint::Fill(1)]).areas(row_of(area, index));
        let numbers = rates.map(rate).map_or_else(
            || format!("{:>8} /s {:>14}", "-", "-"),
            |rate| format!("{:>8} /s {:>14}", short(rate.packets), bits(rate.bits)),
        );
        let line = Line::from(vec![
            Span::styled(format!("  {label:<8}"), theme.verdict(label).patch(theme.title())),
            Span::raw(numbers),
        ]);
        frame.render_widget(line, text);
        match trend {
            Some(trend) => sparkline(frame, rest, state, theme, label, trend),
            None => frame.render_widget(Line::styled("other traffic of the interface, untouched", theme.dim()), rest),
        }
    }
    if let Some(sample) = state.history.sample() {
        frame.render_widget(lanes(rates, theme), row_of(area, 6));
        frame.render_widget(health(sample, rates, state, theme, now), row_of(area, 7));
    }
}

/// The latest rates at the right, scaled to the highest of those that are seen.
fn sparkline(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme, label: &str, trend: Trend) {
    let all = state.history.verdicts();
    let seen = all.iter().skip(all.len().saturating_sub(usize::from(area.width))).map(trend);
    let bars: Vec<SparklineBar> = seen.map(|rate| SparklineBar::from(whole(rate * 10.0))).collect();
    let width = u16::try_from(bars.len()).unwrap_or(area.width).min(area.width);
    let right = Rect {
        x: area.x + area.width - width,
        width,
        ..area
    };
    frame.render_widget(Sparkline::default().data(bars).style(theme.verdict(label)), right);
}

fn bar(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme, now: Instant) {
    let (right, alarm) = match &state.link {
        Link::Opening => ("connecting ".to_owned(), false),
        Link::Away(since, _) => (format!("AGENT AWAY {} s ", now.saturating_duration_since(*since).as_secs()), true),
        Link::Connected(_) if state.paused => ("PAUSED ".to_owned(), true),
        Link::Connected(_) => ("live ".to_owned(), obstructed(state)),
    };
    let left = match (&state.link, state.history.sample()) {
        (Link::Away(_, why), None) => format!(" sipauth top: {why}"),
        (_, None) => " sipauth top".to_owned(),
        (_, Some(sample)) => set_up(&sample.setup),
    };
    frame.render_widget(Paragraph::new(left).style(theme.bar(alarm)), area);
    let width = u16::try_from(right.len()).unwrap_or(0).min(area.width);
    let place = Rect {
        x: area.x + area.width - width,
        width,
        ..area
    };
    frame.render_widget(Paragraph::new(right).style(theme.bar(alarm)), place);
}

fn obstructed(state: &State) -> bool {
    state.history.sample().is_some_and(|sample| !sample.setup.obstacles.is_empty())
}

fn set_up(setup: &Setup) -> String {
    let interfaces: Vec<String> = setup
        .interfaces
        .iter()
        .map(|interface| format!("{} ({})", interface.name, interface.xdp_mode))
        .collect();
    let enforcing = match setup.obstacles.as_slice() {
        [] => format!("enforcing  strangers: {}", setup.default_policy),
        obstacles => format!("NOT ENFORCING: {}", obstacles.join("; ")),
    };
    format!(" sipauth {}  {}  {enforcing}", setup.version, interfaces.join(", "))
}

/// Packets beyond the budgets, each lane's packets a second, and the part of its reserve that is left where that is in danger.
fn lanes<'a>(rates: Option<&Rates>, theme: Theme) -> Line<'a> {
    let mut spans = vec![Span::styled("  lanes   ", theme.title())];
    let lanes = rates.map_or(&[][..], |rates| &rates.lanes);
    // First, since a narrow screen may have no room for the last lane.
    let over: f64 = lanes.iter().map(|lane| lane.over_budget).sum();
    let style = if over > 0.0 { theme.alarm() } else { theme.dim() };
    spans.push(Span::styled(format!("too many {}/s; ", short(over)), style));
    for lane in lanes {
        spans.push(Span::raw(format!("{} {} ", lane.lane, short(lane.admitted))));
        if lane.left < 0.5 {
            spans.push(Span::styled(format!("({:.0}%) ", lane.left * 100.0), theme.alarm()));
        }
    }
    Line::from(spans)
}

fn health<'a>(sample: &Sample, rates: Option<&Rates>, state: &State, theme: Theme, now: Instant) -> Line<'a> {
    let Link::Connected(since) = &state.link else {
        let why = match &state.link {
            Link::Away(_, why) => why.as_str(),
            _ => "no agent has answered yet",
        };
        return Line::from(vec![
            Span::styled("  agent   ", theme.title()),
            Span::styled(why.to_owned(), theme.alarm()),
        ]);
    };
    let health = &sample.health;
    let connected = now.saturating_duration_since(*since).as_secs();
    let faults: u64 = health.faults.values().sum();
    let proved = rates
        .and_then(|rates| rates.authentication.get("authenticated"))
        .copied()
        .unwrap_or(0.0);
    let mut spans = vec![
        Span::styled("  agent   ", theme.title()),
        Span::raw(format!(
            "up {}, connected {connected} s, {} workers, {}/s proved, {} flows, {} bans",
            duration(sample.setup.uptime),
            health.workers,
            short(proved),
            health.flows,
            health.bans
        )),
    ];
    if health.events_lost > 0 {
        spans.push(Span::styled(format!(", {} events lost", health.events_lost), theme.alarm()));
    }
    if faults > 0 {
        spans.push(Span::styled(format!(", {faults} faults"), theme.alarm()));
    }
    Line::from(spans)
}
