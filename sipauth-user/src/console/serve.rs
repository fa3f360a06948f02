//! Connections: few, one request each, with a bound on head, time and idleness.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at a time; others wait in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// From the first byte to the end of a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Longest head.
const HEAD_BYTES: usize = 16 << 10;
/// Most header fields.
const FIELDS: usize = 64;
/// Ends a connection, whatever it is at.
const TIME: Duration = Duration::from_secs(15);
/// Ends a live stream; the browser connects again by itself.
pub(super) const STREAM_TIME: Duration = Duration::from_secs(600);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Set by a live stream, which may take longer than a page.
#[derive(Clone, Debug, Default)]
pub(super) struct LongLived(Arc<AtomicBool>);

impl LongLived {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `shutdown`.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            // Never closed.
            let seat = Arc::clone(&seats).acquire_owned().await.ok();
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept => accepted,
        };
        let Ok((stream, address)) = accepted else {
            // Out of file descriptors, most likely: accepting again at once would spin.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = converse(stream, address, router) => {}
            }
            drop(seat);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn converse(stream: TcpStream, address: SocketAddr, router: Router) {
    let long_lived = LongLived::default();
    let router = router.layer(Extension(Peer(address))).layer(Extension(long_lived.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What went wrong is the peer's affair: it left, or was too slow.
    if timeout(TIME, connection.as_mut()).await.is_err() && long_lived.is_set() {
        let _ = timeout(STREAM_TIME, connection).await;
    }
}
