//! The command line's end. Blocking: a command has one thing to wait for.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use zeroize::Zeroizing;

use super::{Request, Response};

/// An answer that takes longer means that the agent hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer: a list of all gateways that there can be.
const MAX_ANSWER: u64 = 2 << 30;

/// Why the agent did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no agent answers: is `sipauth run` running? socket {}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Not for this user.
    #[error("not allowed to talk to the agent at {}; run as root, or join the group that socket-group names", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke.
    #[error("the agent at {} did not answer: {source}; see its log", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what is spoken here.
    #[error("the agent at {} answers in another dialect; use a sipauth of its version", path.display())]
    Dialect {
        /// The socket.
        path: PathBuf,
    },
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or not for this user.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path: path.to_owned() },
            _ => ClientError::Broken {
                path: path.to_owned(),
                source,
            },
        })?;
        let client = Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        };
        let set = client
            .stream
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| client.stream.get_ref().set_write_timeout(Some(PATIENCE)));
        set.map_err(|source| client.broken(source))?;
        Ok(client)
    }

    /// The process at the other end; `None` where it cannot be seen from here.
    #[must_use]
    pub fn peer_pid(&self) -> Option<i32> {
        let credentials = getsockopt(self.stream.get_ref(), PeerCredentials).ok()?;
        Some(credentials.pid()).filter(|pid| *pid > 0)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.send(request)?;
        self.answer()
    }

    /// Waits for the one answer to what was sent.
    ///
    /// # Errors
    /// The connection broke.
    pub fn answer(&mut self) -> Result<Response, ClientError> {
        self.receive()?.ok_or_else(|| self.broken(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Asks; the answers come one by one from [`Client::receive`], without a limit of time.
    ///
    /// # Errors
    /// The connection broke.
    pub fn subscribe(&mut self, request: &Request) -> Result<(), ClientError> {
        self.stream.get_ref().set_read_timeout(None).map_err(|source| self.broken(source))?;
        self.send(request)
    }

    /// The next answer; `None` at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&mut self) -> Result<Option<Response>, ClientError> {
        let mut line = Vec::new();
        let read = self.stream.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut line);
        read.map_err(|source| self.broken(source))?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|_| ClientError::Dialect { path: self.path.clone() })
    }

    /// Asks, and does not wait.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line = Zeroizing::new(serde_json::to_vec(request).map_err(|_| ClientError::Dialect { path: self.path.clone() })?);
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|source| self.broken(source))
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Broken {
            path: self.path.clone(),
            source,
        }
    }
}
