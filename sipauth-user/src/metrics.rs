//! `/metrics` for Prometheus, `/healthz`, `/readyz`.
//!
//! Nothing is counted here: at each scrape the [`Source`] is asked for a [`Snapshot`], which [`exposition`] writes down. The server
//! answers anyone who reaches its address, so it is bounded: few connections, one request each, and a time limit.

mod exposition;
mod listener;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use sipauth_common::{
    reason::{Reason, Verdict},
    stats::Count,
};
use tokio::{net::TcpListener, task};
use tokio_util::sync::CancellationToken;

/// What `prometheus-client` writes (OpenMetrics 1.0); Prometheus reads it since 2.5.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Ends a connection, whatever it is at. Prometheus gives up after 10 s by default.
const CONNECTION_TIME: Duration = Duration::from_secs(15);
const CONNECTIONS: usize = 16;

/// Where the numbers come from.
pub trait Source: Send + Sync + 'static {
    /// The numbers as of now. May block: it is called on a thread for that.
    fn snapshot(&self) -> Snapshot;
    /// Whether the agent enforces: `/readyz`. Must not block.
    fn ready(&self) -> bool;
}

/// All numbers at one time. Lists of a closed set (reasons, outcomes, faults) should be complete, so that zeros show.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Packets by reason, as the kernel program counted them.
    pub reasons: Vec<(Reason, Count)>,
    /// Of each gateway.
    pub gateways: Vec<GatewayCount>,
    /// Label of an [`crate::auth::Outcome`], and how many datagrams had it.
    pub authentication: Vec<(&'static str, u64)>,
    /// Label of a [`crate::worker::Fault`], and how often it was met.
    pub faults: Vec<(&'static str, u64)>,
    /// Bans in force, by cause.
    pub bans: Vec<(&'static str, u64)>,
    /// Verdicts are computed and counted, and everything passes.
    pub monitor: bool,
    /// Where the program is attached.
    pub interfaces: Vec<Interface>,
}

/// Traffic of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayCount {
    /// Its name.
    pub name: String,
    /// Indexed by [`Verdict`] as a number.
    pub verdict: [Count; Verdict::ALL.len()],
}

/// An interface that the program is attached to.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The program runs in the driver; else in the stack, after the kernel has made its packet.
    pub native: bool,
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

async fn metrics(State(source): State<Arc<dyn Source>>) -> Response {
    match task::spawn_blocking(move || exposition::text(source.snapshot())).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready(State(source): State<Arc<dyn Source>>) -> (StatusCode, &'static str) {
    if source.ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Closes the connection after the answer, so that an idle client holds none of the few.
async fn one_request(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
