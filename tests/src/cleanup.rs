//! A lab leaves nothing behind: not when it is dropped, not when the test process ends while the lab sits in a `static`, not on Ctrl-C.
//!
//! What has to go is kept as plain names in one registry, so that the same function serves `Drop`, `atexit` and the signal thread.
//! A run that was killed with SIGKILL is cleaned up by the next one: the names carry the process id.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

/// All namespaces of all labs start with this, then the process id.
pub const PREFIX: &str = "sa-";
/// bpffs directories and state directories of labs, before the process id.
pub const DIR_PREFIX: &str = "sipauth-lab-";

/// What one lab has made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remains {
    pub(crate) namespaces: Vec<String>,
    pub(crate) bpffs: PathBuf,
    pub(crate) state: PathBuf,
}

static REGISTRY: Mutex<Vec<Remains>> = Mutex::new(Vec::new());

/// From now on `remains` is removed however this process ends.
pub(crate) fn register(remains: Remains) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `at_exit` is an `extern "C"` function without arguments that does not unwind (errors in it are ignored).
        unsafe { libc::atexit(at_exit) };
    });
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).push(remains);
}

/// Nothing of this lab is removed at the end of the process: `--keep`.
pub(crate) fn forget(bpffs: &Path) {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).retain(|r| r.bpffs != bpffs);
}

/// Removes one lab.
pub(crate) fn remove(bpffs: &Path) {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.retain(|r| {
        let gone = r.bpffs == bpffs;
        if gone {
            sweep(r);
        }
        !gone
    });
}

fn remove_all() {
    for remains in REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        sweep(&remains);
    }
}

extern "C" fn at_exit() {
    remove_all();
}

/// Only processes inside the lab's own namespaces are killed; the names are unique, so these are ours.
fn sweep(remains: &Remains) {
    for ns in &remains.namespaces {
        let Ok(out) = Command::new("ip").args(["netns", "pids", ns]).output() else {
            continue;
        };
        for pid in String::from_utf8_lossy(&out.stdout)
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    // The pins go before the namespaces: an XDP link holds a reference to its device.
    let _ = std::fs::remove_dir_all(&remains.bpffs);
    for ns in &remains.namespaces {
        let _ = Command::new("ip").args(["netns", "del", ns]).output();
    }
    let _ = std::fs::remove_dir_all(&remains.state);
}

/// Where state directories of labs live.
#[must_use]
pub fn state_root() -> PathBuf {
    std::env::temp_dir()
}

/// Removes what runs that no longer live have left.
pub fn remove_leftovers() {
    let alive = |pid: &str| Path::new("/proc").join(pid).exists();
    let mut dead: Vec<(String, Remains)> = Vec::new();
    for (dir, prefix) in [
        (Path::new("/run/netns"), PREFIX),
        (Path::new("/sys/fs/bpf"), DIR_PREFIX),
        (&state_root(), DIR_PREFIX),
    ] {
        for name in std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
        {
            let Some(pid) = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()) else {
                continue;
            };
            if pid.parse::<i32>().is_err() || alive(pid) || Path::new("/run").join(kept_marker(pid)).exists() {
                continue;
            }
            let mut remains = Remains::default();
            match dir.to_str() {
                Some("/run/netns") => remains.namespaces.push(name.clone()),
                Some("/sys/fs/bpf") => remains.bpffs = dir.join(&name),
                _ => remains.state = dir.join(&name),
            }
            dead.push((name, remains));
        }
    }
    for (_, remains) in &dead {
        sweep(remains);
    }
}

/// File under /run that tells later runs to leave the lab of `pid` alone.
#[must_use]
pub fn kept_marker(pid: &str) -> String {
    format!("{DIR_PREFIX}{pid}.keep")
}

static WAKE: OnceLock<UnixStream> = OnceLock::new();

extern "C" fn on_signal(_: libc::c_int) {
    // Only async-signal-safe calls here: one write to a socket that a thread waits on.
    if let Some(mut socket) = WAKE.get() {
        let _ = socket.write(&[1]);
    }
}

/// Ctrl-C, SIGTERM and SIGHUP remove all labs, then end the process with 130. A handler, not a blocked mask: children would inherit the mask.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_ctrl_c() -> anyhow::Result<()> {
    let (mut reader, writer) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    if WAKE.set(writer).is_err() {
        return Ok(());
    }
    std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
        let mut byte = [0];
        let _ = reader.read(&mut byte);
        eprintln!("\ninterrupted: removing the lab");
        remove_all();
        // SAFETY: ends the process without running `atexit` a second time in a thread that is not the main one.
        unsafe { libc::_exit(130) };
    })?;
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler makes only async-signal-safe calls.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}
