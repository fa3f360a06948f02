//! The agent's end of `top`: threads that ask over the control socket, and go on asking while nobody answers.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    thread,
    time::{Duration, Instant},
};

use super::answer::{self, Question};
use crate::control::{Client, ClientError, EventRecord, GatewayInfo, Request, Response, Sample};

/// Between two samples.
const PACE: Duration = Duration::from_secs(1);
/// An agent with very many gateways takes its time for a sample; it gets this many times as much rest.
const REST: u32 = 10;
/// How often to read the list of gateways though no name in the counters has changed.
const LIST: Duration = Duration::from_secs(10);

/// What the screen is told.
#[derive(Debug)]
pub(super) enum News {
    /// Counters and health.
    Sample(Box<Sample>),
    /// All gateways.
    Gateways(Vec<GatewayInfo>),
    /// Events begin: first those that the agent has kept.
    Events,
    /// A sampled refusal.
    Event(Box<EventRecord>),
    /// Nobody answers, and why.
    Away(String),
    /// The answer to a question of the operator.
    Answer(Vec<String>),
    /// The program is asked to end.
    Signal,
}

/// Why a feed ends its turn.
enum End {
    /// The screen is gone.
    Closed,
    /// The agent is.
    Away(String),
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        Self::Away(error.to_string())
    }
}

/// Starts both threads. They end when nobody listens any more.
pub(super) fn start(socket: &Path, news: &SyncSender<News>) {
    let (path, out) = (socket.to_owned(), news.clone());
    thread::spawn(move || {
        keep_on(&path, &out, true, samples);
    });
    let (path, out) = (socket.to_owned(), news.clone());
    thread::spawn(move || {
        keep_on(&path, &out, false, events);
    });
}

/// Answers a question when the agent has.
pub(super) fn ask(socket: &Path, question: Question, news: SyncSender<News>) {
    let socket: PathBuf = socket.to_owned();
    thread::spawn(move || {
        let _ = news.send(News::Answer(answer::lines(&socket, &question)));
    });
}

fn keep_on(socket: &Path, news: &SyncSender<News>, say: bool, turn: fn(&Path, &SyncSender<News>) -> Result<(), End>) {
    loop {
        match turn(socket, news) {
            Err(End::Closed) => return,
            Err(End::Away(why)) if say => {
                if news.send(News::Away(why)).is_err() {
                    return;
                }
            }
            Ok(()) | Err(End::Away(_)) => {}
        }
        thread::sleep(PACE);
    }
}

fn tell(news: &SyncSender<News>, one: News) -> Result<(), End> {
    news.send(one).map_err(|_| End::Closed)
}

fn samples(socket: &Path, news: &SyncSender<News>) -> Result<(), End> {
    let mut client = Client::connect(socket)?;
    let mut listed: Option<(Instant, usize)> = None;
    loop {
        let begun = Instant::now();
        let sample = match client.call(&Request::Sample)? {
            Response::Sample(sample) => sample,
            other => return Err(unexpected(other)),
        };
        let count = sample.stats.gateways.len();
        if listed.is_none_or(|(when, before)| before != count || when.elapsed() >= LIST) {
            match client.call(&Request::GatewayList)? {
                Response::Gateways { gateways } => tell(news, News::Gateways(gateways))?,
                other => return Err(unexpected(other)),
            }
            listed = Some((Instant::now(), count));
        }
        tell(news, News::Sample(sample))?;
        let took = begun.elapsed();
        thread::sleep(PACE.saturating_sub(took).max(took.saturating_mul(REST)));
    }
}

fn events(socket: &Path, news: &SyncSender<News>) -> Result<(), End> {
    let mut client = Client::connect(socket)?;
    client.subscribe(&Request::Events { follow: true })?;
    tell(news, News::Events)?;
    while let Some(response) = client.receive()? {
        match response {
            Response::Event(event) => tell(news, News::Event(Box::new(event)))?,
            other => return Err(unexpected(other)),
        }
    }
    Ok(())
}

fn unexpected(response: Response) -> End {
    End::Away(match response {
        Response::Error { message, .. } => message,
        _ => "the agent answered something else than was asked; use a sipauth of its version".to_owned(),
    })
}
