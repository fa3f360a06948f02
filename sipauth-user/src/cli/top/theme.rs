//! Colours, where the terminal has them: only to underline what the text says too.

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    colour: bool,
}

impl Theme {
    /// Without colours where `NO_COLOR` is set, or the terminal has none.
    pub(super) fn of_environment() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let plain = std::env::var("TERM").is_ok_and(|term| term == "dumb" || term.starts_with("vt") || term.ends_with("-m"));
        Self::new(!set("NO_COLOR") && !plain)
    }

    pub(super) const fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn paint(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of a verdict, by its label.
    pub(super) fn verdict(self, label: &str) -> Style {
        match label {
            "pass" => self.paint(Color::Green),
            "drop" | "refuse" => self.paint(Color::Red),
            "punt" => self.paint(Color::Yellow),
            "absorb" => self.paint(Color::Cyan),
            _ => self.dim(),
        }
    }

    /// Something the operator should see.
    pub(super) fn alarm(self) -> Style {
        self.paint(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Of less interest.
    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Titles.
    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The line at the top.
    pub(super) fn bar(self, alarm: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        if alarm && self.colour {
            style.fg(Color::Red).add_modifier(Modifier::BOLD)
        } else {
            style
        }
    }

    /// The row that keys act on.
    pub(super) fn chosen(self) -> Style {
        // Without the colours of its cells, which would become patches of background.
        Style::new()
            .fg(Color::Reset)
            .add_modifier(Modifier::REVERSED)
            .remove_modifier(Modifier::DIM)
    }
}
