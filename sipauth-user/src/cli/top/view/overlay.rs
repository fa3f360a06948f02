//! What lies over the lists: the help, and answers.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::{Block, Clear, Padding, Paragraph},
};

use super::super::{
    keys::HELP,
    state::{Overlay, State},
    theme::Theme,
};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let (title, lines, top): (_, Vec<(String, String)>, _) = match &state.overlay {
        None => return,
        Some(Overlay::Help) => (" keys ".to_owned(), help(), 0),
        Some(Overlay::Answer { title, lines, top }) => {
            let lines = match lines {
                None => vec![(String::new(), "asking the agent".to_owned())],
                Some(lines) => lines.iter().map(|line| (String::new(), line.clone())).collect(),
            };
            (format!(" {title} "), lines, *top)
        }
    };
    let width = area.width.saturating_sub(4).min(110);
    let lines: Vec<Line<'_>> = lines
        .into_iter()
        .flat_map(|(label, text)| wrapped(&label, &text, usize::from(width.saturating_sub(4)), theme))
        .collect();
    let needed = lines.len() + 2;
    let height = u16::try_from(needed).unwrap_or(u16::MAX).min(area.height.saturating_sub(2));
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    // Not further than to its end.
    let last = needed.saturating_sub(usize::from(height));
    let top = u16::try_from(top.min(last)).unwrap_or(0);
    let more = if last > 0 { " Up, Down: scroll   " } else { " " };
    let block = Block::bordered()
        .title(Span::styled(title, theme.title()))
        .title_bottom(Span::styled(format!("{more}Esc: close "), theme.dim()))
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block).scroll((top, 0)), place);
}

fn help() -> Vec<(String, String)> {
    let line = |(key, what): (&str, &str)| {
        let key = if key.is_empty() { String::new() } else { format!("{key:<18} ") };
        (key, what.to_owned())
    };
    HELP.into_iter().map(line).collect()
}

/// A label and its text, broken between words; what follows the first line stands below the text's beginning.
fn wrapped(label: &str, text: &str, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let inside = text.len() - text.trim_start().len();
    let hanging = label.chars().count() + inside;
    let room = width.saturating_sub(hanging).max(10);
    let mut rows: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        // A word that is longer than a line is cut.
        for piece in pieces(word, room) {
            match rows.last_mut() {
                Some(row) if row.is_empty() => row.push_str(&piece),
                Some(row) if row.chars().count() + 1 + piece.chars().count() <= room => {
                    row.push(' ');
                    row.push_str(&piece);
                }
                _ => rows.push(piece),
            }
        }
    }
    let indent = " ".repeat(hanging);
    rows.into_iter()
        .enumerate()
        .map(|(number, row)| match number {
            0 => Line::from(vec![
                Span::styled(label.to_owned(), theme.title()),
                Span::raw(format!("{}{row}", " ".repeat(inside))),
            ]),
            _ => Line::raw(format!("{indent}{row}")),
        })
        .collect()
}

fn pieces(word: &str, most: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(most).map(|piece| piece.iter().collect()).collect()
}
