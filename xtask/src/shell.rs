//! Running programs: quietly, with a progress bar, or line by line.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufReader, Read, Write, stderr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How many lines of a failed program's output are worth repeating.
const TAIL: usize = 20;

/// The workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that started us, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `apt-get`, `nft` and others live in directories that a user's PATH may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = crate::toolchain::path_with_cargo_bin();
    let known = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(known)
        .map(|dir| dir.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0))
}

/// Whether we may load BPF programs, make network namespaces and install packages.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Standard output of a program that must succeed.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", show(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            show(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program whose output the user wants to see as it is.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", show(command));
    }
    Ok(())
}

/// Runs a program behind a progress bar. `progress` finds how far it is (done, of how many) in a line of its output;
/// when it fails, the end of its output is in the error.
pub(crate) fn run_with_bar(command: &mut Command, progress: fn(&str) -> Option<(u64, u64)>) -> Result<()> {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("  {bar:40} {percent:>3} %  {elapsed:>4}  {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    let mut tail: Vec<String> = Vec::new();
    let success = run_lines(command, |line| {
        match progress(line) {
            Some((done, of)) => {
                bar.set_length(of);
                bar.set_position(done);
            }
            None if !line.trim().is_empty() => {
                bar.set_message(line.trim().to_owned());
                tail.push(line.to_owned());
                if tail.len() > TAIL {
                    tail.remove(0);
                }
            }
            None => {}
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if !success {
        bail!("{} failed:\n{}", show(command), tail.join("\n"));
    }
    Ok(())
}

/// Runs a program and hands on each line of its standard output and standard error, also those that end in a carriage
/// return only. The answer is whether it succeeded.
pub(crate) fn run_lines(command: &mut Command, each: impl FnMut(&str) -> Result<()>) -> Result<bool> {
    run_lines_of(command, |_| {}, each)
}

/// As [`run_lines`], with a look at the process when it has started.
pub(crate) fn run_lines_of(command: &mut Command, started: impl FnOnce(&Child), mut each: impl FnMut(&str) -> Result<()>) -> Result<bool> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", show(command)))?;
    started(&child);
    let (sender, receiver) = mpsc::channel();
    let mut readers = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let sender = sender.clone();
        readers.push(thread::spawn(move || forward(stdout, &sender)));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.push(thread::spawn(move || forward(stderr, &sender)));
    }
    for line in receiver {
        each(&line)?;
    }
    Ok(child.wait()?.success())
}

fn forward(from: impl Read, to: &mpsc::Sender<String>) {
    let mut line = Vec::new();
    for byte in BufReader::new(from).bytes().map_while(Result::ok) {
        if byte == b'\n' || byte == b'\r' {
            if byte == b'\n' || !line.is_empty() {
                // The receiver is gone only when its reader gave up; there is nobody left to tell.
                let _ = to.send(String::from_utf8_lossy(&line).into_owned());
            }
            line.clear();
        } else {
            line.push(byte);
        }
    }
    if !line.is_empty() {
        let _ = to.send(String::from_utf8_lossy(&line).into_owned());
    }
}

/// Prints a heading of a step.
pub(crate) fn heading(text: &str) {
    println!("\n== {text}");
}

/// A note to whoever watches; results go to standard output.
pub(crate) fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// A command as a user would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
