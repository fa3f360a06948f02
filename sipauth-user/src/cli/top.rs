//! `sipauth top`: the agent at a glance, full screen, until the operator leaves.
//!
//! One thread reads samples, one events ([`feed`]); the caller's draws and takes keys. What is shown is in [`State`], which knows
//! neither terminal nor socket, so that tests can look at every screen. The terminal is put right again however this ends: by a
//! key, a signal, an error or a panic.

mod answer;
mod feed;
mod keys;
mod numbers;
mod sources;
mod state;
mod theme;
mod view;

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal},
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};

use self::{feed::News, keys::Wish, state::State, theme::Theme};
use super::{OutputArgs, output};

/// How long to wait for a key before looking at the news.
const LOOK: Duration = Duration::from_millis(100);
/// How long the end may take by itself.
const GRACE: Duration = Duration::from_secs(1);
/// News that wait to be shown; who brings more waits.
const WAITING: usize = 256;

pub(super) fn execute(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    if output.json {
        return output::json(&numbers::numbers(socket)?);
    }
    anyhow::ensure!(
        io::stdout().is_terminal() && io::stdin().is_terminal(),
        "top needs a terminal to draw on; `sipauth top --json` prints rates without one"
    );
    run(socket).context("the terminal cannot be used; `sipauth top --json` needs none")
}

/// Until the operator leaves. That no agent answers is shown, not fatal.
fn run(socket: &Path) -> io::Result<()> {
    let (news, told) = mpsc::sync_channel(WAITING);
    // Before any thread is started, so that all of them leave these signals to the one that waits for them.
    watch_signals(news.clone())?;
    feed::start(socket, &news);
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, socket, &news, &told);
    ratatui::try_restore()?;
    ended
}

fn show(terminal: &mut DefaultTerminal, socket: &Path, news: &mpsc::SyncSender<News>, told: &mpsc::Receiver<News>) -> io::Result<()> {
    let theme = Theme::of_environment();
    let mut state = State::new();
    loop {
        terminal.draw(|frame| view::draw(frame, &state, theme, Instant::now()))?;
        if event::poll(LOOK)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match keys::press(&mut state, key) {
                Wish::Nothing => {}
                Wish::Quit => return Ok(()),
                Wish::Ask(question) => feed::ask(socket, question, news.clone()),
            }
        }
        while let Ok(one) = told.try_recv() {
            match one {
                News::Signal => return Ok(()),
                other => state.take(other, Instant::now()),
            }
        }
    }
}

/// Turns what asks a program to end, a terminal that hangs up among it, into news, so that the terminal is restored first.
fn watch_signals(news: mpsc::SyncSender<News>) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let hung_up = news.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.wait().is_ok() {
            end(&news);
        }
    })?;
    std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        // Asked for nothing, it tells of a hang-up only.
        let stdin = io::stdin();
        let mut terminal = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        if matches!(poll(&mut terminal, PollTimeout::NONE), Ok(n) if n > 0) {
            end(&hung_up);
        }
    })?;
    Ok(())
}

/// Asks for the end and, where that is not heard, brings it about: at a terminal that is gone crossterm reads nothing for ever, without
/// an error and without a pause.
fn end(news: &mpsc::SyncSender<News>) {
    let _ = news.try_send(News::Signal);
    std::thread::sleep(GRACE);
    ratatui::restore();
    std::process::exit(0);
}

#[cfg(test)]
mod tests;
