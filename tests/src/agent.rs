//! The real `sipauth` in front of the lab's softswitch: how it is started and ended.

mod ask;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use ask::answer;
pub use ask::{Answer, Stats};

use crate::lab::{Host, Lab};

/// Environment variable that names the binary to test.
pub const BINARY: &str = "SIPAUTH_BIN";

/// The `sipauth` under test: `SIPAUTH_BIN`, else the one that was built into the same target directory as this executable.
///
/// # Errors
/// When there is none; the error says how to build it.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY) {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let found = exe.ancestors().skip(1).take(2).map(|dir| dir.join("sipauth")).find(|p| p.is_file());
    found.with_context(|| {
        format!(
            "no sipauth near {}: run `cargo build -p sipauth-user --bin sipauth`, or set {BINARY}",
            exe.display()
        )
    })
}

/// A `sipauth run` with a state directory, a socket and pins of its own. Dropping it detaches and removes them.
#[derive(Debug)]
pub struct Agent<'a> {
    lab: &'a Lab,
    binary: PathBuf,
    options: Vec<String>,
    child: Option<Child>,
    state: PathBuf,
    socket: PathBuf,
    bpffs: PathBuf,
    log: PathBuf,
    prefix: Vec<String>,
    patience: Duration,
}

/// A user without rights, for [`Agent::as_nobody`].
pub const NOBODY: u32 = 65_534;

impl<'a> Agent<'a> {
    /// Starts an agent with an empty store on the softswitch's interface and waits until it enforces.
    ///
    /// # Errors
    /// When it does not say `ready` in time; the error has the end of its log.
    pub fn start(lab: &'a Lab, options: &[&str]) -> anyhow::Result<Self> {
        let mut agent = Self::prepare(lab, options)?;
        agent.binary = binary()?;
        agent.restart()?;
        Ok(agent)
    }

    /// Everything but the start: for tests that fill the store first, or expect the start to fail.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn prepare(lab: &'a Lab, options: &[&str]) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        std::fs::create_dir_all(lab.bpffs()).context("directory in bpffs")?;
        let state = lab.state().join(format!("agent-{n}"));
        std::fs::create_dir_all(&state)?;
        Ok(Self {
            lab,
            binary: binary().unwrap_or_else(|_| "sipauth".into()),
            options: options.iter().map(ToString::to_string).collect(),
            child: None,
            socket: state.join("sipauth.sock"),
            log: state.join("agent.log"),
            bpffs: lab.bpffs().join(format!("agent-{n}")),
            state,
            prefix: Vec::new(),
            patience: Duration::from_secs(20),
        })
    }

    /// Runs it as a user who owns its directories and has these capabilities alone (as `setpriv` writes them, `+bpf,+net_raw`).
    ///
    /// # Errors
    /// When a directory cannot be given to that user.
    pub fn as_nobody(mut self, capabilities: &str) -> anyhow::Result<Self> {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        std::fs::create_dir_all(&self.bpffs)?;
        for dir in [&self.bpffs, &self.state] {
            chown(dir, Some(NOBODY), Some(NOBODY))?;
        }
        // Where the build put it, nobody else may go.
        let binary = self.state.join("sipauth");
        std::fs::copy(&self.binary, &binary)?;
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755))?;
        self.binary = binary;
        let (user, set) = (NOBODY.to_string(), format!("-all,{capabilities}"));
        let words = [
            "setpriv",
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "--inh-caps",
            &set,
            "--bounding-set",
            &set,
            "--ambient-caps",
            &set,
        ];
        self.prefix = words.map(str::to_owned).to_vec();
        Ok(self)
    }

    /// The command line of `run`.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = match self.prefix.split_first() {
            None => self.lab.command(Host::Softswitch, &self.binary),
            Some((first, rest)) => {
                let mut command = self.lab.command(Host::Softswitch, first);
                command.args(rest).arg(&self.binary);
                command
            }
        };
        command.args(["run", "--interface", "eth0", "--port", "5060"]);
        command
            .arg("--state-dir")
            .arg(&self.state)
            .arg("--log-dir")
            .arg(self.state.join("log"))
            .arg("--bpffs")
            .arg(&self.bpffs)
            .arg("--socket")
            .arg(&self.socket);
        command.args(&self.options).env("NO_COLOR", "1");
        command
    }

    /// Other options of `run`, from the next start on.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(ToString::to_string).collect();
    }

    /// Waits so long for it to be ready, instead of twenty seconds: for a store with very many gateways.
    #[must_use]
    pub const fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs this binary instead.
    #[must_use]
    pub fn with_binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// Starts it, again or for the first time; returns how long it took until it enforced.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn restart(&mut self) -> anyhow::Result<Duration> {
        self.restart_until(|line| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "ready"))
    }

    /// Starts it, and waits for a line of its log instead.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn restart_until(&mut self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Duration> {
        ensure!(self.child.is_none(), "the agent runs already");
        let out = File::options().create(true).append(true).open(&self.log)?;
        let before = out.metadata()?.len();
        let begin = Instant::now();
        self.child = Some(self.command().stdout(out.try_clone()?).stderr(out).spawn()?);
        loop {
            if self.log_since(before).lines().any(&wanted) {
                return Ok(begin.elapsed());
            }
            if let Some(status) = self.child.as_mut().context("no child")?.try_wait()? {
                self.child = None;
                bail!("sipauth run: {status}\n{}", self.log_since(before));
            }
            ensure!(
                begin.elapsed() < self.patience,
                "sipauth is not ready after {} s\n{}",
                self.patience.as_secs(),
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs `run` in the expectation that it ends by itself within ten seconds.
    ///
    /// # Errors
    /// When it stays up.
    pub fn expect_exit(&mut self) -> anyhow::Result<Answer> {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let begin = Instant::now();
        while child.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_secs(10) {
                child.kill()?;
                bail!(
                    "sipauth run stays up: {}",
                    String::from_utf8_lossy(&child.wait_with_output()?.stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(answer(&child.wait_with_output()?))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end within ten seconds.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill(pid(&child)?, Signal::SIGTERM)?;
        let begin = Instant::now();
        while child.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_secs(10) {
                child.kill()?;
                child.wait()?;
                bail!("sipauth does not end on SIGTERM\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// SIGKILL: programs, maps and their contents stay.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The end of the agent's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.log_since(0);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn log_since(&self, offset: u64) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The most memory that it ever had resident, in KiB.
    ///
    /// # Errors
    /// When it does not run.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        let pid = self.child.as_ref().context("the agent does not run")?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Where its pins are.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Leaves the agent up: for a lab that is kept.
    pub fn keep(self) {
        // Neither the process nor the pins are removed.
        std::mem::forget(self);
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the agent ---\n{}\n------------------------", self.log_tail());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Removing the pins detaches, since nothing else holds the links; the kernel does it a moment later, and the next agent must not
        // find the interface occupied.
        if std::fs::remove_dir_all(&self.bpffs).is_ok() {
            let deadline = Instant::now() + Duration::from_secs(2);
            while Instant::now() < deadline
                && let Ok(shown) = self.lab.run(Host::Softswitch, &["ip", "link", "show", "dev", "eth0"])
                && shown.contains("prog/xdp")
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}
