//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    answer::Question,
    state::{Focus, Overlay, State},
};

/// Longest filter: an IPv6 address and a little.
const LONGEST: usize = 48;
/// Rows of a page.
const PAGE: isize = 10;

/// What a key asks for that the state alone cannot do.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
    /// An answer of the agent.
    Ask(Question),
}

/// The keys, for the help.
pub(super) const HELP: [(&str, &str); 11] = [
    ("Up Down PgUp PgDn", "choose a row (also k, j)"),
    ("Tab", "the other table"),
    (
        "Enter or e",
        "explain the row: the gateway, or what would happen to the source's next packet",
    ),
    ("s", "sort the table by the next column"),
    ("r", "the other way round"),
    (
        "/",
        "type to narrow both tables: part of a name, user or address; a whole address finds its networks",
    ),
    ("Esc", "close this; or take the filter away"),
    ("p or Space", "pause: the numbers stay as they are"),
    ("h or ?", "this help"),
    ("q or Ctrl-C", "quit"),
    (
        "",
        "Refused sources are those of sampled refusals: up to 100 a second and CPU are sampled.",
    ),
];

/// Acts on a key.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Wish {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') {
            Wish::Quit
        } else {
            Wish::Nothing
        };
    }
    if state.typing {
        typed(state, key.code);
        return Wish::Nothing;
    }
    if state.overlay.is_some() {
        return over(state, key.code);
    }
    match key.code {
        KeyCode::Char('q') => return Wish::Quit,
        KeyCode::Up | KeyCode::Char('k') => state.go(-1),
        KeyCode::Down | KeyCode::Char('j') => state.go(1),
        KeyCode::PageUp => state.go(-PAGE),
        KeyCode::PageDown => state.go(PAGE),
        KeyCode::Home => state.go(isize::MIN),
        KeyCode::End => state.go(isize::MAX),
        KeyCode::Tab | KeyCode::BackTab => {
            state.focus = match state.focus {
                Focus::Gateways => Focus::Sources,
                Focus::Sources => Focus::Gateways,
            };
        }
        KeyCode::Enter | KeyCode::Char('e') => return state.explain().map_or(Wish::Nothing, Wish::Ask),
        KeyCode::Char('s') => match state.focus {
            Focus::Gateways => state.gateway_sort = state.gateway_sort.next(),
            Focus::Sources => state.source_sort = state.source_sort.next(),
        },
        KeyCode::Char('r') => state.reversed[state.focus as usize] = !state.reversed[state.focus as usize],
        KeyCode::Char('/') => state.typing = true,
        KeyCode::Esc => state.filter.clear(),
        KeyCode::Char('p' | ' ') => state.pause(),
        KeyCode::Char('h' | '?') => state.overlay = Some(Overlay::Help),
        _ => {}
    }
    Wish::Nothing
}

fn typed(state: &mut State, key: KeyCode) {
    match key {
        KeyCode::Enter => state.typing = false,
        KeyCode::Esc => {
            state.typing = false;
            state.filter.clear();
        }
        KeyCode::Backspace => {
            state.filter.pop();
        }
        KeyCode::Up => state.go(-1),
        KeyCode::Down => state.go(1),
        KeyCode::Char(letter) if !letter.is_control() && state.filter.chars().count() < LONGEST => state.filter.push(letter),
        _ => {}
    }
}

fn over(state: &mut State, key: KeyCode) -> Wish {
    let scroll = match key {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -PAGE,
        KeyCode::PageDown => PAGE,
        KeyCode::Char('q') => return Wish::Quit,
        _ => {
            state.overlay = None;
            return Wish::Nothing;
        }
    };
    if let Some(Overlay::Answer { top, .. }) = &mut state.overlay {
        *top = top.saturating_add_signed(scroll);
    }
    Wish::Nothing
}
