//! A program of the distribution as a peer: started in a host's namespace, its output in the lab's state directory, every wait bounded.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Via, tail};
use crate::lab::{Host, Lab};

/// Templates of configuration files.
const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// Longest time that any peer may take for one step: the retransmissions of a request, and a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(12);
const POLL: Duration = Duration::from_millis(10);

/// Who a peer says it is, and what it thinks the password is.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Username.
    pub user: &'a str,
    /// Password; of `[A-Za-z0-9]`, since every program has its own way to write others.
    pub password: &'a str,
}

/// A telephone that is driven like one by hand.
pub trait Softphone: Sized {
    /// Starts it; it registers at once.
    ///
    /// # Errors
    /// When it does not come up.
    fn start(lab: &Lab, host: Host, via: Via, account: Account<'_>) -> anyhow::Result<Self>;

    /// Waits for the end of its registration; whether it is a good one.
    ///
    /// # Errors
    /// When it does not end.
    fn is_registered(&mut self) -> anyhow::Result<bool>;

    /// Calls; whether it was answered.
    ///
    /// # Errors
    /// When neither an answer nor a refusal comes.
    fn dial(&mut self) -> anyhow::Result<bool>;

    /// Ends the call.
    ///
    /// # Errors
    /// When there is none.
    fn hang_up(&mut self) -> anyhow::Result<()>;
}

/// A running program; its whole process group is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`, which is one of [`Lab::command`]: such a command leads a process group.
    pub(super) fn start(command: &mut Command, dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join("output.log");
        let out = File::create(&log)?;
        command.current_dir(dir).env("HOME", dir).stdin(Stdio::piped());
        let name = format!("{command:?}");
        let child = command.stdout(out.try_clone()?).stderr(out).spawn().context(name)?;
        Ok(Self { child, log })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(stdin, "{line}").with_context(|| format!("{line}: {}", tail(&self.log)))
    }

    /// What it has printed so far.
    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until the file `log` has one of `texts`; answers which. The program must not end before.
    pub(super) fn wait_for(&mut self, log: &Path, texts: &[&str]) -> anyhow::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Before the file is read, so that what it printed last is not missed.
            let ended = self.child.try_wait()?;
            let content = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
            if let Some(found) = texts.iter().position(|text| content.contains(text)) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("ended ({status}) without {texts:?}:\n{}", tail(&self.log));
            }
            ensure!(Instant::now() < deadline, "none of {texts:?} in time:\n{}", tail(log));
            std::thread::sleep(POLL);
        }
    }

    /// The same in its output.
    pub(super) fn wait_for_output(&mut self, texts: &[&str]) -> anyhow::Result<usize> {
        self.wait_for(&self.log.clone(), texts)
    }

    /// Waits for its end; answers whether it was satisfied.
    pub(super) fn finish(&mut self) -> anyhow::Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            ensure!(Instant::now() < deadline, "hangs:\n{}", tail(&self.log));
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// A new directory for a peer's files.
pub(super) fn directory(lab: &Lab, host: Host, name: &str) -> anyhow::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = lab.state().join(format!("{name}-{number}-{}", host.name()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Writes the template `from` as `to`, with `@KEY@` replaced by its value.
pub(super) fn fill(from: &str, to: &Path, values: &[(&str, &str)]) -> anyhow::Result<()> {
    let path = Path::new(TEMPLATES).join(from);
    let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (key, value) in values {
        text = text.replace(&format!("@{key}@"), value);
    }
    std::fs::write(to, text).with_context(|| to.display().to_string())
}
