//! The two lists.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Cell, Row, Table, TableState},
};

use super::{
    super::{
        sources::WINDOW,
        state::{Focus, State},
        theme::Theme,
    },
    row_of, title,
};
use crate::rates::{REMEMBERED_OF_GATEWAY, short, whole};

/// From this width on a gateway has its trend.
const WIDE: u16 = 110;
/// Columns of the trend: one for each rate that is remembered.
const TREND: u16 = 30;
const _: () = assert!(TREND as usize == REMEMBERED_OF_GATEWAY);

pub(super) fn gateways(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let rows = state.rows();
    let focused = state.focus == Focus::Gateways;
    let all = state.gateways.len();
    let shown = if rows.len() == all {
        all.to_string()
    } else {
        format!("{} of {all}", rows.len())
    };
    let note = format!("by {}{}{}", state.gateway_sort.label(), reversed(state, 0), narrowed(state));
    frame.render_widget(title(format!("gateways ({shown})  "), note, theme, focused), row_of(area, 0));
    if rows.is_empty() {
        let text = match all {
            0 if state.history.sample().is_none() => "  not known: no agent has answered",
            0 => "  none yet: `sipauth gateway add` makes one",
            _ => "  none that the filter finds; Esc takes it away",
        };
        frame.render_widget(Line::styled(text, theme.dim()), row_of(area, 1));
        return;
    }
    let wide = area.width >= WIDE;
    let chosen = state.chosen_row(&rows);
    let (first, height) = visible(chosen, rows.len(), area.height.saturating_sub(2));
    let table = rows.iter().skip(first).take(height).map(|row| {
        let gateway = row.gateway;
        let rate = |value: fn(&crate::rates::Verdicts) -> f64| row.rates.as_ref().map(value);
        let number = |rate: Option<f64>, style: Style| {
            let text = rate.map_or_else(|| "-".to_owned(), short);
            let style = if rate.is_some_and(|rate| rate > 0.0) { style } else { theme.dim() };
            Cell::from(Line::styled(text, style).right_aligned())
        };
        let mut cells = vec![
            Cell::from(format!("  {}", gateway.name)),
            Cell::from(gateway.mode.label()),
            Cell::from(addresses(&gateway.addresses, &gateway.ports)),
            number(rate(|v| v.pass.packets), theme.verdict("pass")),
            number(rate(|v| v.drop.packets), theme.verdict("drop")),
            number(rate(|v| v.punt.packets), theme.verdict("punt")),
        ];
        if wide {
            cells.push(Cell::from(trend(state.history.trend(&gateway.name))));
        }
        Row::new(cells)
    });
    let right = |text: &'static str| Cell::from(Line::from(text).right_aligned());
    let mut header = vec![
        Cell::from("  NAME"),
        Cell::from("MODE"),
        Cell::from("ADDRESSES"),
        right("PASS/S"),
        right("DROP/S"),
        right("PUNT/S"),
    ];
    let mut widths = vec![
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Fill(3),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    if wide {
        header.push(Cell::from("LAST HALF MINUTE"));
        widths.push(Constraint::Length(TREND));
    }
    render(
        frame,
        area,
        Table::new(table, widths).header(Row::new(header).style(theme.dim())),
        chosen - first,
        focused,
        theme,
    );
}

pub(super) fn sources(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let sources = state.sources();
    let focused = state.focus == Focus::Sources;
    let note = format!(
        "sampled, last {} s, by {}{}{}",
        WINDOW.as_secs(),
        state.source_sort.label(),
        reversed(state, 1),
        narrowed(state)
    );
    frame.render_widget(
        title(format!("refused sources ({})  ", sources.len()), note, theme, focused),
        row_of(area, 0),
    );
    if sources.is_empty() {
        let text = if state.recent.len() == 0 {
            "  none in the last minute"
        } else {
            "  none that the filter finds; Esc takes it away"
        };
        frame.render_widget(Line::styled(text, theme.dim()), row_of(area, 1));
        return;
    }
    let chosen = state.chosen_source(&sources);
    let (first, height) = visible(chosen, sources.len(), area.height.saturating_sub(2));
    let table = sources.iter().skip(first).take(height).map(|source| {
        let last = &source.last;
        Row::new(vec![
            Cell::from(format!("  {}", source.address)),
            Cell::from(Line::from(source.samples.to_string()).right_aligned()),
            Cell::from(Span::styled(last.reason.clone(), theme.verdict(&last.verdict))),
            Cell::from(last.gateway.clone().unwrap_or_else(|| "-".to_owned())),
            Cell::from(if last.head.is_empty() { "-".to_owned() } else { last.head.clone() }),
        ])
    });
    let header = Row::new(vec![
        Cell::from("  SOURCE"),
        Cell::from(Line::from("SAMPLES").right_aligned()),
        Cell::from("LAST REASON"),
        Cell::from("GATEWAY"),
        Cell::from("LAST FIRST LINE"),
    ]);
    let address = sources.iter().map(|source| source.address.to_string().len()).max().unwrap_or(0);
    let widths = [
        Constraint::Length(u16::try_from(address + 2).unwrap_or(41).max(17)),
        Constraint::Length(7),
        Constraint::Length(16),
        Constraint::Fill(1),
        Constraint::Fill(3),
    ];
    render(
        frame,
        area,
        Table::new(table, widths).header(header.style(theme.dim())),
        chosen - first,
        focused,
        theme,
    );
}

fn render(frame: &mut Frame<'_>, area: Rect, table: Table<'_>, chosen: usize, focused: bool, theme: Theme) {
    let area = Rect {
        y: area.y + 1,
        height: area.height - 1,
        ..area
    };
    let style = if focused { theme.chosen() } else { Style::new() };
    let mut place = TableState::default().with_selected(Some(chosen));
    frame.render_stateful_widget(table.row_highlight_style(style), area, &mut place);
}

/// The first row to show, so that the chosen one is among them, and how many.
fn visible(chosen: usize, all: usize, height: u16) -> (usize, usize) {
    let height = usize::from(height).max(1);
    let first = chosen.saturating_sub(height / 2).min(all.saturating_sub(height));
    (first, height)
}

fn addresses(addresses: &[String], ports: &[u16]) -> String {
    let mut text = match addresses {
        [] => "anywhere".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    };
    if let Some(port) = ports.first() {
        text += &format!(" :{port}");
        if ports.len() > 1 {
            text += ",…";
        }
    }
    text
}

/// Blocks of eight heights, scaled to the highest.
fn trend(rates: impl DoubleEndedIterator<Item = f64> + ExactSizeIterator) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let rates: Vec<f64> = rates.collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let block = |rate: &f64| {
        let height = if most > 0.0 { whole((rate / most * 8.0).ceil()) } else { 0 };
        BLOCKS
            .into_iter()
            .zip(0..)
            .find(|(_, at)| *at >= height)
            .map_or('█', |(block, _)| block)
    };
    let text: String = rates.iter().map(block).collect();
    format!("{text:>REMEMBERED_OF_GATEWAY$}")
}

const fn reversed(state: &State, list: usize) -> &'static str {
    if state.reversed[list] { ", reversed" } else { "" }
}

fn narrowed(state: &State) -> String {
    if state.filter.is_empty() {
        String::new()
    } else {
        format!(", only \"{}\"", state.filter)
    }
}
