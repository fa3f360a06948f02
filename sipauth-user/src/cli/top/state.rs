//! All that is shown, and what keys change of it.

use std::{net::IpAddr, time::Instant};

use super::{
    answer::Question,
    feed::News,
    sources::{Recent, Source, SourceSort},
};
use crate::{
    control::GatewayInfo,
    rates::{
        History,
        table::{Filter, GatewaySort, Row, rows},
    },
};

/// The table that keys act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Focus {
    #[default]
    Gateways,
    Sources,
}

/// Whether the agent answers.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// Nobody has answered yet.
    Opening,
    /// Since when it has, for us.
    Connected(Instant),
    /// Since when it has not, and why.
    Away(Instant, String),
}

/// What lies over the tables.
#[derive(Clone, Debug)]
pub(super) enum Overlay {
    Help,
    /// An answer of the agent, once it is there.
    Answer {
        title: String,
        lines: Option<Vec<String>>,
        /// First line that is shown.
        top: usize,
    },
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) history: History,
    pub(super) gateways: Vec<GatewayInfo>,
    pub(super) recent: Recent,
    pub(super) link: Link,
    pub(super) paused: bool,
    pub(super) focus: Focus,
    pub(super) gateway_sort: GatewaySort,
    pub(super) source_sort: SourceSort,
    /// Whether the other way round, of each table.
    pub(super) reversed: [bool; 2],
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) typing: bool,
    pub(super) overlay: Option<Overlay>,
    chosen_gateway: Option<String>,
    chosen_source: Option<IpAddr>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            history: History::default(),
            gateways: Vec::new(),
            recent: Recent::default(),
            link: Link::Opening,
            paused: false,
            focus: Focus::default(),
            gateway_sort: GatewaySort::default(),
            source_sort: SourceSort::default(),
            reversed: [false; 2],
            filter: String::new(),
            typing: false,
            overlay: None,
            chosen_gateway: None,
            chosen_source: None,
        }
    }

    /// Takes in what the agent says. While paused the numbers stay, whatever it says.
    pub(super) fn take(&mut self, news: News, now: Instant) {
        match news {
            News::Sample(sample) => {
                if !matches!(self.link, Link::Connected(_)) {
                    self.link = Link::Connected(now);
                }
                if !self.paused {
                    self.history.push(*sample);
                    self.recent.trim(now);
                }
            }
            News::Away(why) => {
                // Seen once, it is not said again every second.
                let since = match &self.link {
                    Link::Away(since, _) => *since,
                    _ => now,
                };
                self.link = Link::Away(since, why);
                self.history.interrupt();
            }
            News::Gateways(gateways) => {
                if !self.paused {
                    self.gateways = gateways;
                }
            }
            News::Events => self.recent.clear(),
            News::Event(event) => {
                if !self.paused {
                    self.recent.push(*event, now);
                }
            }
            News::Answer(answer) => {
                if let Some(Overlay::Answer { lines, .. }) = &mut self.overlay {
                    *lines = Some(answer);
                }
            }
            News::Signal => {}
        }
    }

    /// Stops or goes on. What passed meanwhile is no rate.
    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused {
            self.history.interrupt();
        }
    }

    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        rows(
            &self.gateways,
            self.history.rates(),
            &Filter::new(&self.filter),
            self.gateway_sort,
            self.reversed[0],
        )
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        let filter = Filter::new(&self.filter);
        self.recent.sources(self.source_sort, self.reversed[1], |event| {
            filter.source(event.source.ip(), event.gateway.as_deref())
        })
    }

    /// The place of the chosen gateway among rows; the first where it is not among them.
    pub(super) fn chosen_row(&self, rows: &[Row<'_>]) -> usize {
        let chosen = self.chosen_gateway.as_deref();
        rows.iter().position(|row| Some(row.gateway.name.as_str()) == chosen).unwrap_or(0)
    }

    /// The place of the chosen source, likewise.
    pub(super) fn chosen_source(&self, sources: &[Source]) -> usize {
        sources
            .iter()
            .position(|source| Some(source.address) == self.chosen_source)
            .unwrap_or(0)
    }

    /// Chooses another row, `by` rows away.
    pub(super) fn go(&mut self, by: isize) {
        match self.focus {
            Focus::Gateways => {
                let rows = self.rows();
                let at = moved(self.chosen_row(&rows), by, rows.len());
                self.chosen_gateway = rows.get(at).map(|row| row.gateway.name.clone());
            }
            Focus::Sources => {
                let sources = self.sources();
                let at = moved(self.chosen_source(&sources), by, sources.len());
                self.chosen_source = sources.get(at).map(|source| source.address);
            }
        }
    }

    /// What to ask about the chosen row; shows that it is being asked.
    pub(super) fn explain(&mut self) -> Option<Question> {
        let question = match self.focus {
            Focus::Gateways => {
                let rows = self.rows();
                Question::gateway(rows.get(self.chosen_row(&rows))?.gateway)
            }
            Focus::Sources => {
                let sources = self.sources();
                Question::source(&sources.get(self.chosen_source(&sources))?.last)
            }
        };
        self.overlay = Some(Overlay::Answer {
            title: question.title(),
            lines: None,
            top: 0,
        });
        Some(question)
    }
}

fn moved(at: usize, by: isize, len: usize) -> usize {
    at.saturating_add_signed(by).min(len.saturating_sub(1))
}
