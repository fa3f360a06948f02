//! `/metrics` for Prometheus, in its own text format or as OpenMetrics; `/healthz`, `/readyz`.
//!
//! Nothing is counted here: at each scrape the [`Source`] is asked for a [`Snapshot`], which [`exposition`] writes down. The server
//! answers anyone who reaches its address, so it is bounded: few connections, one request each, and a time limit.

mod exposition;
mod format;
mod listener;
mod process;
mod snapshot;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task};
use tokio_util::sync::CancellationToken;

use self::format::Format;
use crate::datapath::DatapathError;
pub use snapshot::{Census, GatewayCount, Interface, Snapshot};

/// Ends a connection, whatever it is at. Prometheus gives up after 10 s by default.
const CONNECTION_TIME: Duration = Duration::from_secs(15);
const CONNECTIONS: usize = 16;

/// Where the numbers come from.
pub trait Source: Send + Sync + 'static {
    /// The numbers as of now. May block: it is called on a thread for that.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read: zeros in their place would look like a restart.
    fn snapshot(&self) -> Result<Snapshot, DatapathError>;
    /// Whether the agent enforces: `/readyz`. Must not block.
    ///
    /// # Errors
    /// What is amiss.
    fn ready(&self) -> Result<(), String>;
}

/// The address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics at {address}: {source}; choose another address with `--metrics`")]
pub struct MetricsError {
    address: SocketAddr,
    source: io::Error,
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens; tells the port when 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// None that is known; the signature is axum's.
    pub async fn run(self, source: Arc<dyn Source>, shutdown: CancellationToken) -> io::Result<()> {
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .layer(middleware::map_response(one_request))
            .with_state(source);
        let listener = listener::Bounded::new(self.listener, CONNECTIONS, CONNECTION_TIME);
        axum::serve(listener, routes)
            .with_graceful_shutdown(async move { shutdown.cancelled().await })
            .await
    }
}

async fn metrics(State(source): State<Arc<dyn Source>>, headers: HeaderMap) -> Response {
    // A list may be sent in several headers.
    let accept: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = Format::negotiate(&accept.join(","));
    let made = task::spawn_blocking(move || {
        let snapshot = source.snapshot().map_err(|error| error.to_string())?;
        exposition::text(snapshot, format).map_err(|error| error.to_string())
    });
    let error = match made.await {
        Ok(Ok(text)) => return ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Ok(Err(error)) => error,
        Err(error) => error.to_string(),
    };
    tracing::warn!(error, "a scrape of the metrics failed");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

async fn ready(State(source): State<Arc<dyn Source>>) -> (StatusCode, String) {
    match source.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(amiss) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {amiss}\n")),
    }
}

/// Closes the connection after the answer, so that an idle client holds none of the few.
async fn one_request(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
