//! The agent's end. Bounded in connections, line length and time, since a group other than root may be let in.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd::Group;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroize as _;

use super::{ControlError, MAX_CONNECTIONS, MAX_REQUEST, Request, Response};

/// A client must send its next line, and take an answer, within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id.
    pub pid: Option<i32>,
}

/// An answer: one line, or as many as come.
#[derive(Debug)]
pub enum Reply {
    /// One.
    One(Box<Response>),
    /// Several; the connection closes when the sender is dropped.
    Stream(mpsc::Receiver<Response>),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::One(Box::new(response))
    }
}

/// What answers requests: the agent.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request, caller: Caller) -> impl Future<Output = Reply> + Send;
}

/// Makes the socket: owned by root, mode 0600, or 0660 for a group. One that nobody answers at is replaced.
///
/// # Errors
/// Another agent answers there, or the path cannot be used.
pub fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Bind {
        path: path.to_owned(),
        source,
    };
    let gid = match group {
        None => None,
        Some(name) => match Group::from_name(name) {
            Ok(Some(group)) => Some(group.gid.as_raw()),
            _ => return Err(ControlError::NoGroup { group: name.to_owned() }),
        },
    };
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ControlError::NotASocket { path: path.to_owned() }),
        Ok(_) => match StdStream::connect(path) {
            Ok(_) => return Err(ControlError::AlreadyRuns { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(failed(error)),
        },
    }
    // Under another name until its owner and mode are right; the rename replaces a stale socket in one step.
    let unfinished = unfinished(path);
    let _ = fs::remove_file(&unfinished);
    let listener = UnixListener::bind(&unfinished).map_err(failed)?;
    let finish = || {
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
        if let Some(gid) = gid {
            std::os::unix::fs::chown(&unfinished, None, Some(gid))?;
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o660))?;
        }
        fs::rename(&unfinished, path)
    };
    finish().map_err(|source| {
        let _ = fs::remove_file(&unfinished);
        failed(source)
    })?;
    Ok(listener)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    PathBuf::from(name)
}

/// Answers requests until `shutdown`, then waits for those under way.
pub async fn serve<H: Handler>(listener: UnixListener, handler: Arc<H>, shutdown: CancellationToken) {
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would spin.
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            // The kernel's buffer takes the line, so this does not wait for the client.
            let full = Response::failed(&format!("the agent answers {MAX_CONNECTIONS} commands already; try again"));
            let _ = stream.try_write(&line(&full));
            continue;
        };
        let (handler, shutdown) = (Arc::clone(&handler), shutdown.clone());
        connections.spawn(async move {
            converse(stream, handler.as_ref(), &shutdown).await;
            drop(seat);
        });
    }
    connections.close();
    connections.wait().await;
}

/// One connection. A request that was read is answered also when the agent is asked to stop meanwhile.
async fn converse<H: Handler>(stream: UnixStream, handler: &H, shutdown: &CancellationToken) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let caller = Caller {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid: credentials.pid(),
    };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let request = tokio::select! {
            () = shutdown.cancelled() => return,
            request = timeout(PATIENCE, read_request(&mut reader)) => request,
        };
        let reply = match request {
            Err(_) | Ok(Err(_) | Ok(None)) => return,
            Ok(Ok(Some(Ok(request)))) => handler.handle(request, caller).await,
            Ok(Ok(Some(Err(refusal)))) => {
                let _ = send(&mut writer, &refusal).await;
                return;
            }
        };
        match reply {
            Reply::One(response) => {
                if send(&mut writer, &response).await.is_err() {
                    return;
                }
            }
            Reply::Stream(responses) => return stream_all(responses, &mut reader, &mut writer, shutdown).await,
        }
    }
}

/// The next request; the inner error is the answer to a line that is none. `None` at the end.
async fn read_request(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Result<Request, Response>>> {
    let mut line = Line::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', chunk).map(|at| at + 1);
        let taken = end.unwrap_or(chunk.len());
        line.push(&chunk[..taken]);
        reader.consume(taken);
        if end.is_some() || line.0.len() > MAX_REQUEST {
            break;
        }
    }
    if line.0.is_empty() {
        return Ok(None);
    }
    Ok(Some(match line.0.last() {
        Some(b'\n') => serde_json::from_slice(&line.0).map_err(|error| {
            // serde's text may quote a value of the request; its kind and place may not.
            let (kind, column) = (error.classify(), error.column());
            Response::failed(&format!(
                "the agent does not understand the request ({kind:?} at column {column}); use a sipauth of its version"
            ))
        }),
        _ => Err(Response::failed(&format!(
            "a request is one line of at most {MAX_REQUEST} bytes; send less at a time"
        ))),
    }))
}

/// Bytes that may hold a password: wiped when dropped, and where they move to make room.
struct Line(Vec<u8>);

impl Line {
    fn new() -> Self {
        Self(Vec::with_capacity(64 << 10))
    }

    fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.0.capacity()));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

async fn stream_all(
    mut responses: mpsc::Receiver<Response>,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
    shutdown: &CancellationToken,
) {
    let mut byte = [0; 1];
    loop {
        let response = tokio::select! {
            () = shutdown.cancelled() => return,
            // The client says nothing more; what can be read is its end.
            _ = reader.read(&mut byte) => return,
            response = responses.recv() => response,
        };
        let Some(response) = response else { return };
        if send(writer, &response).await.is_err() {
            return;
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    timeout(PATIENCE, writer.write_all(&line(response)))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

fn line(response: &Response) -> Vec<u8> {
    let mut line = serde_json::to_vec(response)
        .unwrap_or_else(|_| br#"{"answer":"error","refusal":"failed","message":"the answer cannot be written"}"#.to_vec());
    line.push(b'\n');
    line
}
