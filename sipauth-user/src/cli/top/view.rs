//! Draws the state: from the top the agent, rates by verdict, lanes and health, gateways, refused sources, keys.

mod head;
mod lists;
mod overlay;

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{state::State, theme::Theme};

/// Below this nothing sensible fits.
const SMALLEST: (u16, u16) = (60, 18);
/// Lines above the lists: the bar, five rates, lanes, health.
const HEAD: u16 = 8;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme, now: Instant) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!(
            "{} by {} is too small: {} by {} at least. q quits.",
            area.width, area.height, SMALLEST.0, SMALLEST.1
        );
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    // The sources get two fifths: who was refused matters as much as who was not.
    let lists = area.height - HEAD - 1;
    let sources = (lists * 2 / 5).max(5);
    let [head, gateways, refused, keys] = Layout::vertical([
        Constraint::Length(HEAD),
        Constraint::Length(lists - sources),
        Constraint::Length(sources),
        Constraint::Length(1),
    ])
    .areas(area);
    head::draw(frame, head, state, theme, now);
    lists::gateways(frame, gateways, state, theme);
    lists::sources(frame, refused, state, theme);
    frame.render_widget(keys_line(state, theme), keys);
    overlay::draw(frame, area, state, theme);
}

fn keys_line<'a>(state: &'a State, theme: Theme) -> Line<'a> {
    if state.typing {
        return Line::from(vec![
            Span::styled("narrow to: ", theme.title()),
            Span::raw(&state.filter),
            Span::styled(" ", theme.chosen()),
            Span::styled("  Enter keeps it, Esc takes it away", theme.dim()),
        ]);
    }
    let keys = [
        ("Enter", "explain"),
        ("Tab", "switch"),
        ("s", "sort"),
        ("r", "reverse"),
        ("/", "filter"),
        ("p", if state.paused { "go on" } else { "pause" }),
        ("h", "help"),
        ("q", "quit"),
    ];
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.push(Span::styled(key, theme.title()));
        spans.push(Span::styled(format!(" {what}  "), theme.dim()));
    }
    Line::from(spans)
}

/// The title of a list: bold, over the whole width, so that the lists are apart also without lines.
fn title<'a>(text: String, note: String, theme: Theme, focused: bool) -> Line<'a> {
    let mark = if focused { "> " } else { "  " };
    Line::from(vec![
        Span::styled(format!("{mark}{text}"), theme.title()),
        Span::styled(note, theme.dim()),
    ])
}

fn row_of(area: Rect, index: u16) -> Rect {
    Rect {
        y: area.y + index,
        height: 1,
        ..area
    }
}
