//! `cargo xtask test-vm`: the kernel tests on the distribution's own 6.1 kernel, where clsact stands in for TCX.
//!
//! The kernel and its modules are downloaded and unpacked, not installed. The VM is emulated: nested KVM hangs on some
//! hosts, and a boot takes seconds all the same.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    report::{Counts, Reader},
    setup::{self, Purpose},
    shell::{self, heading},
};

mod image;
mod kernel;

/// The test binaries that run in the VM: they need a kernel and `ip`, but no SIP peers.
const TESTS: &[&str] = &["kernel", "egress"];
const DEFAULT_LIMIT: u64 = 600;

/// How to boot.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds after which the VM is stopped and the run has failed
    #[arg(long, default_value_t = DEFAULT_LIMIT)]
    time_limit: u64,
    /// Megabytes of memory
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Run this program instead of the tests
    #[arg(long, value_name = "FILE")]
    program: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            time_limit: DEFAULT_LIMIT,
            memory: 2048,
            program: Vec::new(),
        }
    }
}

/// Boots the VM and fails when a test in it failed or was skipped.
pub(crate) fn run(options: &Options) -> Result<()> {
    let counts = boot_and_test(options)?;
    println!("\n{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    ensure!(counts.failed == 0, "{} tests failed in the VM", counts.failed);
    ensure!(
        counts.skipped == 0,
        "{} tests were skipped in the VM, where everything can run",
        counts.skipped
    );
    Ok(())
}

/// Boots the VM and counts. A test binary that crashed or never ran counts as a failed test.
pub(crate) fn boot_and_test(options: &Options) -> Result<Counts> {
    setup::ensure(Purpose::Vm)?;
    let directory = shell::target_dir().join("vm");
    fs::create_dir_all(&directory)?;
    let programs = if options.program.is_empty() {
        test_binaries()?
    } else {
        options.program.clone()
    };
    let kernel = kernel::get(&directory)?;
    let image = image::build(&directory, &kernel, &programs)?;
    heading(&format!("{} in a VM, at most {} s", kernel.release, options.time_limit));
    let mut console = Console::new(programs.len());
    let start = Instant::now();
    let ended = boot(&kernel, &image, options, &mut console)?;
    println!("the VM ran for {:.0} s", start.elapsed().as_secs_f64());
    ensure!(ended, "the VM was stopped after {} s; see --time-limit", options.time_limit);
    console.finish()
}

/// Builds the tests and asks cargo where they are.
fn test_binaries() -> Result<Vec<PathBuf>> {
    crate::test::build_all()?;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--quiet", "--workspace", "--no-run", "--message-format=json"]);
    for test in TESTS {
        cargo.args(["--test", test]);
    }
    let messages = shell::read(&mut cargo)?;
    let mut programs = Vec::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let name = message.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
        if let Some(file) = message.get("executable").and_then(Value::as_str)
            && TESTS.contains(&name)
        {
            programs.push(PathBuf::from(file));
        }
    }
    ensure!(
        programs.len() == TESTS.len(),
        "cargo built {} of the test binaries {TESTS:?}",
        programs.len()
    );
    Ok(programs)
}

/// Runs the VM until it powers off; the answer is whether it did so in time.
fn boot(kernel: &kernel::Kernel, image: &std::path::Path, options: &Options, console: &mut Console) -> Result<bool> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-nographic",
        "-no-reboot",
        "-nic",
        "none",
        "-monitor",
        "none",
    ]);
    qemu.args(["-serial", "stdio", "-m", &options.memory.to_string()]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
    // `panic=-1` with -no-reboot: a crash of the kernel ends the run instead of using up the time limit.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]);
    let done = Arc::new(AtomicBool::new(false));
    let in_time = Arc::new(AtomicBool::new(true));
    let mut watchdog = None;
    shell::run_lines_of(
        &mut qemu,
        |child: &Child| watchdog = Some(watch(child, options.time_limit, Arc::clone(&done), Arc::clone(&in_time))),
        |line| console.line(line),
    )?;
    done.store(true, Ordering::Relaxed);
    if let Some(watchdog) = watchdog {
        watchdog.thread().unpark();
        // It has nothing to say beyond `in_time`.
        let _ = watchdog.join();
    }
    Ok(in_time.load(Ordering::Relaxed))
}

/// A thread that stops the VM at the time limit.
fn watch(child: &Child, limit: u64, done: Arc<AtomicBool>, in_time: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let id = child.id();
    thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(limit);
        while !done.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                in_time.store(false, Ordering::Relaxed);
                if let Ok(id) = i32::try_from(id) {
                    // Fails only when it has just ended by itself.
                    let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
                }
                return;
            }
            thread::park_timeout(left);
        }
    })
}

/// What the serial console says: test output, and a line `VMTEST <name> exit=<code>` after each binary.
struct Console {
    reader: Reader,
    expected: usize,
    ended: usize,
    crashed: u64,
    booted: bool,
}

impl Console {
    fn new(expected: usize) -> Self {
        Self {
            reader: Reader::new(true),
            expected,
            ended: 0,
            crashed: 0,
            booted: false,
        }
    }

    fn line(&mut self, line: &str) -> Result<()> {
        // The firmware's words are not ours; its last ones, escape codes, stand on the line of our first.
        if !self.booted {
            if let Some((_, release)) = line.split_once("VMTEST booted ") {
                self.booted = true;
                println!("booted {release}");
            }
            return Ok(());
        }
        if let Some(result) = line.strip_prefix("VMTEST ") {
            let (name, code) = result.split_once(" exit=").with_context(|| format!("unexpected: {line}"))?;
            self.ended += 1;
            if code != "0" {
                println!("{name} ended with exit code {code}");
                self.crashed += u64::from(self.reader.counts().failed == 0);
            }
            return Ok(());
        }
        if let Some(shown) = self.reader.line(line) {
            println!("{shown}");
        }
        Ok(())
    }

    fn finish(self) -> Result<Counts> {
        if !self.booted {
            bail!("the VM did not boot");
        }
        let mut counts = self.reader.counts();
        counts.failed += self.crashed + self.expected.saturating_sub(self.ended) as u64;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::Console;

    fn counts(lines: &[&str]) -> (u64, u64) {
        let mut console = Console::new(1);
        for line in lines {
            console.line(line).unwrap();
        }
        let counts = console.finish().unwrap();
        (counts.passed, counts.failed)
    }

    #[test]
    fn a_binary_that_never_ends_has_failed() {
        let good = "test result: ok. 3 passed; 0 failed; 0 ignored";
        assert_eq!(counts(&["VMTEST booted 6.1", good, "VMTEST kernel exit=0"]), (3, 0));
        assert_eq!(counts(&["VMTEST booted 6.1", good]), (3, 1));
        assert_eq!(counts(&["VMTEST booted 6.1", "VMTEST kernel exit=139"]), (0, 1));
    }

    #[test]
    fn a_vm_that_does_not_boot_is_an_error() {
        assert!(Console::new(1).finish().is_err());
    }
}
