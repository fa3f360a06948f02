//! Live streams: parts of a page as server-sent events, a few streams at a time, with little waiting in each.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event, KeepAlive, Sse},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast::error::RecvError, mpsc},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    pages::{Site, View},
    parts, serve,
};
use crate::rates::table::Filter;

/// Streams at a time. Each is a page that somebody has open.
const STREAMS: usize = 16;
/// Events that wait for a slow viewer; what comes then is left out.
const WAITING: usize = 32;
/// Between two times that a part is sent.
const PACE: Duration = Duration::from_secs(2);
/// A viewer that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(15);

/// The places of streams.
pub(super) struct Streams {
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Streams {
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self {
            places: Arc::new(Semaphore::new(STREAMS)),
            shutdown,
        }
    }
}

/// A stream of what a page shows; `None` when all places are taken.
pub(super) fn stream(site: &Arc<Site>, view: View, filter: String, by_name: bool) -> Option<Response> {
    let place = Arc::clone(&site.streams.places).try_acquire_owned().ok()?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let out = Out { sender, _place: place };
    let site = Arc::clone(site);
    tokio::spawn(async move {
        let shutdown = site.streams.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = out.sender.closed() => {}
            _ = timeout(serve::STREAM_TIME, feed(&site, view, filter, by_name, &out)) => {}
        }
    });
    Some(
        Sse::new(ReceiverStream::new(receiver))
            .keep_alive(KeepAlive::default())
            .into_response(),
    )
}

struct Out {
    sender: mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Out {
    /// False when the viewer is gone, or takes nothing.
    async fn send(&self, event: &str, html: &str) -> bool {
        // A line end within data would be another line of it, and a carriage return is not allowed.
        let event = Event::default().event(event).data(html.replace(['\r', '\n'], " "));
        matches!(timeout(PATIENCE, self.sender.send(Ok(event))).await, Ok(Ok(())))
    }
}

async fn feed(site: &Arc<Site>, view: View, filter: String, by_name: bool, out: &Out) {
    if view == View::Refusals {
        return refusals(site, &filter, out).await;
    }
    let mut beat = interval(PACE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let filter = filter.clone();
        let part = site.watch.look(move |history, gateways| match view {
            View::Gateways => parts::gateways(history, gateways, &filter, by_name).into_string(),
            View::Overview | View::Refusals => parts::overview(history).into_string(),
        });
        let Some(part) = part.await else { continue };
        if !out.send("part", &part).await {
            return;
        }
    }
}

async fn refusals(site: &Site, filter: &str, out: &Out) {
    let (kept, mut following) = site.source.refusals();
    let page = parts::refusals(kept.iter(), filter).into_string();
    drop(kept);
    if !out.send("part", &page).await {
        return;
    }
    let admitted = Filter::new(filter);
    loop {
        let sent = match following.recv().await {
            Ok(event) if parts::admits(&admitted, &event) => out.send("refusal", &parts::refusal(&event).into_string()).await,
            Ok(_) => true,
            // They are samples anyway.
            Err(RecvError::Lagged(missed)) => out.send("missed", &missed.to_string()).await,
            Err(RecvError::Closed) => false,
        };
        if !sent {
            return;
        }
    }
}
