//! Network namespaces that play an operator's site. Every host hangs on one bridge, which lives in a namespace of its own:
//!
//! ```text
//!   softswitch ─┐
//!   carrier-ip ─┤
//! carrier-port ─┤        bridge in            203.0.113.40   ┌─ nat-password 192.168.77.2
//! pbx-password ─┼──── namespace `wan` ─── nat 203.0.113.41 ──┤
//! provider-peer ┤                        (changes ports)     └─ nat-port     192.168.77.3
//!     stranger ─┘
//! ```
//!
//! The softswitch's `eth0` is one end of a veth pair, so XDP attaches to it in native mode. Nothing of the machine's own network is touched:
//! pairs are made inside the lab's namespaces. Commands run with `nsenter --net=`, never `ip netns exec`, which hides bpffs.

mod host;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context as _, bail, ensure};

pub use host::Host;
use host::{NAT_INSIDE, host_script};

use crate::cleanup::{self, DIR_PREFIX, PREFIX, Remains};
use crate::napi::Napi;

/// Port range that the NAT maps to: far from 5060, so that its effect is always visible.
const NAT_PORTS: &str = "20000-29999";

/// A running lab; dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    id: String,
    bpffs: PathBuf,
    state: PathBuf,
    keep: AtomicBool,
}

impl Lab {
    /// Makes the lab.
    ///
    /// # Errors
    /// When not root, or a tool (`ip`, `nft`, `nsenter`) is missing or refuses.
    pub fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(crate::privilege::is_root(), "the lab makes network namespaces: run as root");
        cleanup::remove_leftovers();
        mount_bpffs()?;
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self {
            bpffs: Path::new("/sys/fs/bpf").join(format!("{DIR_PREFIX}{id}")),
            state: cleanup::state_root().join(format!("{DIR_PREFIX}{id}")),
            id,
            keep: AtomicBool::new(false),
        };
        let names = Host::ALL.iter().map(|h| h.name()).chain(["wan", "nat"]);
        cleanup::register(Remains {
            namespaces: names.map(|n| lab.namespace_named(n)).collect(),
            bpffs: lab.bpffs.clone(),
            state: lab.state.clone(),
        });
        std::fs::create_dir_all(&lab.state).with_context(|| format!("state directory {}", lab.state.display()))?;
        lab.build()?;
        Ok(lab)
    }

    fn build(&self) -> anyhow::Result<()> {
        for name in Host::ALL.iter().map(|h| h.name()).chain(["wan", "nat"]) {
            let ns = self.namespace_named(name);
            run(Command::new("ip").args(["netns", "add", &ns]))?;
        }
        let mut wan = String::from("link add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n");
        let mut nat = String::from("link set lo up\nlink add br0 type bridge forward_delay 0 mcast_snooping 0\n");
        for host in Host::ALL {
            let (port, ns) = (host.name(), self.namespace(host));
            let side = if host.behind_nat() { &mut nat } else { &mut wan };
            *side += &format!("link add {port} type veth peer name eth0 netns {ns}\nlink set {port} master br0 up\n");
        }
        wan += &format!(
            "link add nat type veth peer name eth0 netns {}\nlink set nat master br0 up\n",
            self.namespace_named("nat")
        );
        self.ip_batch("wan", &wan)?;
        nat += &format!(
            "addr add {NAT_INSIDE}/24 dev br0\nlink set br0 up\nlink set eth0 up\naddr add {}/24 dev eth0\naddr add {}/24 dev eth0\n",
            Host::NatPassword.seen_v4(),
            Host::NatPort.seen_v4()
        );
        self.ip_batch("nat", &nat)?;
        for host in Host::ALL {
            self.ip_batch(host.name(), &host_script(host))?;
            // A refused TCP call must fail in seconds, not after the default six SYNs.
            self.sysctl(host.name(), "ipv4/tcp_syn_retries", "1")?;
        }
        self.sysctl("nat", "ipv4/ip_forward", "1")?;
        let mut rules = String::from("table ip nat {\n chain post {\n  type nat hook postrouting priority srcnat;\n");
        for host in [Host::NatPassword, Host::NatPort] {
            for proto in ["udp", "tcp"] {
                rules += &format!(
                    "  ip saddr {} meta l4proto {proto} snat to {}:{NAT_PORTS} random\n",
                    host.v4(),
                    host.seen_v4()
                );
            }
        }
        rules += " }\n}\n";
        self.feed("nat", &["nft", "-f", "-"], &rules)
    }

    /// Name of a host's namespace.
    #[must_use]
    pub fn namespace(&self, host: Host) -> String {
        self.namespace_named(host.name())
    }

    fn namespace_named(&self, name: &str) -> String {
        format!("{PREFIX}{}-{name}", self.id)
    }

    /// The lab's own directory in bpffs (made by the agent).
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The lab's state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Lets a host send from XDP, until what it returns is dropped.
    ///
    /// # Errors
    /// As [`Napi::on`].
    pub fn receives_from_xdp(&self, host: Host) -> anyhow::Result<Napi> {
        self.inside_named("wan", || Napi::on(host.name()))
    }

    /// A command that will run in a host's namespace, in a process group of its own: Ctrl-C is for us, and we end the children.
    pub fn command(&self, host: Host, program: impl AsRef<OsStr>) -> Command {
        self.command_in(host.name(), program)
    }

    fn command_in(&self, name: &str, program: impl AsRef<OsStr>) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace_named(name))).arg(program);
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Runs a command in a host's namespace and returns its standard output.
    ///
    /// # Errors
    /// When it cannot run or fails; the error has its standard error.
    pub fn run(&self, host: Host, args: &[&str]) -> anyhow::Result<String> {
        let (program, rest) = args.split_first().context("no command")?;
        run(self.command(host, program).args(rest))
    }

    /// As [`Lab::run`], with standard input.
    ///
    /// # Errors
    /// As [`Lab::run`].
    pub fn run_with_input(&self, host: Host, args: &[&str], input: &str) -> anyhow::Result<()> {
        self.feed(host.name(), args, input)
    }

    /// Calls `f` in a host's namespace, in a thread of its own: sockets that it makes stay there.
    ///
    /// # Errors
    /// Those of `f`, and when the namespace cannot be entered.
    pub fn inside<T: Send>(&self, host: Host, f: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.inside_named(host.name(), f)
    }

    /// Calls `f` in the namespace of the bridge, as [`Lab::inside`] does: there the other end of a host's link has the host's name.
    ///
    /// # Errors
    /// As [`Lab::inside`].
    pub fn at_the_bridge<T: Send>(&self, f: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.inside_named("wan", f)
    }

    fn inside_named<T: Send>(&self, name: &str, f: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let path = format!("/run/netns/{}", self.namespace_named(name));
        let work = || {
            let ns = std::fs::File::open(&path).with_context(|| path.clone())?;
            nix::sched::setns(ns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            f()
        };
        std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow::anyhow!("panic in {name}"))?
    }

    /// Leaves everything up when this is dropped, and tells later runs so. Returns the command that removes it.
    ///
    /// # Errors
    /// When the marker cannot be written.
    pub fn keep(&self) -> anyhow::Result<String> {
        self.keep.store(true, Ordering::Relaxed);
        let marker = Path::new("/run").join(cleanup::kept_marker(&std::process::id().to_string()));
        std::fs::write(&marker, "")?;
        cleanup::forget(&self.bpffs);
        Ok(format!(
            "for ns in $(ip netns list | grep -o '^{PREFIX}{id}-[a-z-]*'); do ip netns pids $ns | xargs -r kill -9; ip netns del $ns; done; \
             rm -rf {bpffs} {state} {marker}",
            id = self.id,
            bpffs = self.bpffs.display(),
            state = self.state.display(),
            marker = marker.display()
        ))
    }

    fn ip_batch(&self, name: &str, script: &str) -> anyhow::Result<()> {
        self.feed(name, &["ip", "-batch", "-"], script)
    }

    fn sysctl(&self, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
        run(self
            .command_in(name, "sh")
            .args(["-c", &format!("echo {value} > /proc/sys/net/{key}")]))
        .map(drop)
    }

    fn feed(&self, name: &str, args: &[&str], input: &str) -> anyhow::Result<()> {
        let (program, rest) = args.split_first().context("no command")?;
        let mut child = self
            .command_in(name, program)
            .args(rest)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
        let out = child.wait_with_output()?;
        ensure!(
            out.status.success(),
            "{args:?} in {name}: {}\n{input}",
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            cleanup::remove(&self.bpffs);
        }
    }
}

/// On some machines bpffs is not mounted.
fn mount_bpffs() -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    if mounts
        .lines()
        .any(|l| l.split(' ').nth(1) == Some("/sys/fs/bpf") && l.split(' ').nth(2) == Some("bpf"))
    {
        return Ok(());
    }
    run(Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"])).map(drop)
}

/// Runs a command to its end.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !out.status.success() {
        bail!("{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
