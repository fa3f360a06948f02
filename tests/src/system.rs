//! A clean Debian with systemd, booted in the network namespace of the lab's softswitch, to install the package in.
//!
//! What is written goes to memory, over a root that is shared and never changes. All mounts are in a namespace of the container's, so nothing is
//! left when its processes end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::Answer;
use crate::lab::{Host, Lab};

/// Environment variable that names the clean root.
pub const ROOT: &str = "SIPAUTH_PACKAGE_ROOT";
/// Environment variables that name the package to install and the next version of it.
pub const PACKAGES: [&str; 2] = ["SIPAUTH_PACKAGE", "SIPAUTH_PACKAGE_NEXT"];

/// Capabilities of the container: systemd's, and those that the service is given.
const CAPABILITIES: &str = "CAP_SYS_ADMIN,CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN,CAP_NET_RAW";
/// A boot takes four seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(90);

/// The running system. Dropping it ends all of its processes.
#[derive(Debug)]
pub struct System {
    nspawn: Child,
    leader: u32,
}

impl System {
    /// Boots it, with the packages in its `/root` as `now.deb` and `next.deb`.
    ///
    /// # Errors
    /// When it is not up in time; the error has what it printed.
    pub fn boot(lab: &Lab) -> anyhow::Result<Self> {
        let root = path(ROOT)?;
        let place = lab.state().join("system");
        fs::create_dir_all(&place)?;
        let log = lab.state().join("system.log");
        let script = format!(
            "set -e; mount -t tmpfs tmpfs {place}; cd {place}; mkdir upper work root; \
             mount -t overlay overlay -o lowerdir={root},upperdir=upper,workdir=work root; cp {now} root/root/now.deb; cp {next} root/root/next.deb; \
             exec systemd-nspawn --boot --directory=root --register=no --keep-unit --link-journal=no --console=read-only \
             --network-namespace-path=/run/netns/{namespace} --capability={CAPABILITIES} --system-call-filter='bpf perf_event_open'",
            place = place.display(),
            root = root.display(),
            now = path(PACKAGES[0])?.display(),
            next = path(PACKAGES[1])?.display(),
            namespace = lab.namespace(Host::Softswitch),
        );
        let out = File::create(&log)?;
        let mut nspawn = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("unshare")?;
        let begin = Instant::now();
        loop {
            let printed = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = nspawn.try_wait()? {
                bail!("the system does not boot ({status}):\n{}", printed());
            }
            if let Some(leader) = leader(nspawn.id()) {
                let system = Self { nspawn, leader };
                system.wait(begin).with_context(printed)?;
                // As systemd mounts it on a machine.
                system.must(&["mount", "-t", "bpf", "-o", "mode=0700", "bpf", "/sys/fs/bpf"])?;
                return Ok(system);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Until the boot is over.
    fn wait(&self, begin: Instant) -> anyhow::Result<()> {
        loop {
            let state = self.run(&["systemctl", "is-system-running"])?;
            if ["running", "degraded"].contains(&state.stdout.trim()) {
                return Ok(());
            }
            ensure!(begin.elapsed() < BOOT, "the system is not up after {BOOT:?}: {state:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs a command in it; any exit code is an answer.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Answer> {
        let (target, root) = (self.leader.to_string(), format!("/proc/{}/root", self.leader));
        let mut command = Command::new("nsenter");
        command.args(["--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        command.args([format!("--root={root}"), format!("--wd={root}")]).args(args);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let out = command.output().context("nsenter")?;
        Ok(Answer {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed; answers what it printed.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn must(&self, args: &[&str]) -> anyhow::Result<String> {
        let answer = self.run(args)?;
        ensure!(
            answer.code == 0,
            "{args:?}: exit {}: {}{}",
            answer.code,
            answer.stdout,
            answer.stderr
        );
        Ok(answer.stdout)
    }

    /// The same for a line of shell.
    ///
    /// # Errors
    /// As [`System::must`].
    pub fn shell(&self, line: &str) -> anyhow::Result<String> {
        self.must(&["bash", "-c", line])
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.run(&["journalctl", "--no-pager", "--lines=60", "--unit=sipauth", "--unit=sipauth-pins"]);
            eprintln!("--- journal ---\n{}", journal.map(|answer| answer.stdout).unwrap_or_default());
        }
        // With the first process of a PID namespace the kernel ends all others.
        if let Ok(leader) = i32::try_from(self.leader) {
            let _ = kill(Pid::from_raw(leader), Signal::SIGKILL);
        }
        let begin = Instant::now();
        while matches!(self.nspawn.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

fn path(variable: &str) -> anyhow::Result<PathBuf> {
    let value = std::env::var_os(variable).with_context(|| format!("{variable} is not set: run `cargo xtask test package`"))?;
    let path = Path::new(&value).to_owned();
    ensure!(path.exists(), "{variable}: there is no {}", path.display());
    Ok(path)
}

/// The container's first process: the child of systemd-nspawn, which our shell has become.
fn leader(nspawn: u32) -> Option<u32> {
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    (name(nspawn).trim() == "systemd-nspawn").then_some(())?;
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid| name(*pid).trim() == "systemd")
}
