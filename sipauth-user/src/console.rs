//! The web console: what `top`, `events` and `explain` show, for a browser. It changes nothing, and shows nothing without the token.
//!
//! Whoever reaches its address can talk to it, so everything is bounded: connections ([`serve`]), the size and time of a request,
//! live streams and what waits in them ([`live`]), sessions and guesses of the token ([`gate`]). What peers send is text here, never
//! markup: pages are made by a library that escapes, and the browser is told to run no script but the one that we send.

mod gate;
mod live;
mod pages;
mod parts;
mod serve;
mod text;
mod token;
mod watch;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{net::TcpListener, sync::broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::token::TokenError;
use self::{gate::Gate, watch::Watch};
use crate::{
    config::Settings,
    control::{EventRecord, ExplainRequest, GatewayInfo, Response, Sample},
    datapath::DatapathError,
};

/// Where everything that is shown comes from.
pub trait Source: Send + Sync + 'static {
    /// All counters and health as of now. May block.
    ///
    /// # Errors
    /// The kernel's counters cannot be read.
    fn sample(&self) -> Result<Sample, DatapathError>;
    /// All gateways, by name.
    fn gateways(&self) -> Vec<GatewayInfo>;
    /// What would happen to a packet, as the control socket answers it.
    fn explain(&self, request: &ExplainRequest) -> Response;
    /// The latest sampled refusals, the oldest first, and those that follow.
    fn refusals(&self) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>);
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The address is not to be had.
    #[error("cannot serve the console at {address}: {source}; choose another address with `--console`")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A bound console.
#[derive(Debug)]
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
    token: token::Token,
    token_file: PathBuf,
}

impl Console {
    /// Listens at an address, with the token of the settings; makes a token where none is set and none was made before.
    ///
    /// # Errors
    /// The address is taken or not ours; the token cannot be read, made, or is too short.
    pub async fn bind(address: SocketAddr, settings: &Settings) -> Result<Self, ConsoleError> {
        let (token, token_file) = match &settings.console_token_file {
            Some(file) => (token::read(file)?, file.clone()),
            None => token::read_or_make(&settings.state_dir)?,
        };
        let failed = |source| ConsoleError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            token,
            token_file,
        })
    }

    /// Where it listens; tells the port when 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    pub async fn run(self, source: Arc<dyn Source>, shutdown: CancellationToken) {
        info!(address = %self.address, token_file = %self.token_file.display(), "serving the console; log in with the token in that file");
        if !self.address.ip().is_loopback() {
            warn!(address = %self.address, "the console speaks HTTP without encryption: put a proxy with TLS before it where the network is not yours");
        }
        let site = Arc::new(pages::Site {
            gate: Gate::new(self.token),
            watch: Watch::new(Arc::clone(&source)),
            source,
            streams: live::Streams::new(shutdown.clone()),
        });
        serve::serve(self.listener, pages::router(site), shutdown).await;
    }
}

#[cfg(test)]
mod tests;
