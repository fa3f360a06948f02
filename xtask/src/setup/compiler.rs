//! The compiler and the linker for the kernel program. First choice is rustup's nightly, second the distribution's rustc.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::apt;
use crate::{
    shell::{cargo, find_program, note, read, run_with_bar},
    toolchain::{NIGHTLY, Toolchain},
};

/// The last bpf-linker that works with LLVM 22, the LLVM of the compilers that [`Toolchain::find`] accepts.
const LINKER_VERSION: &str = "0.10.3";
/// Debian's newer rustc, kept for its web browsers; the only one in stable Debian that can build the program.
const DISTRIBUTION_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Installs compiler and linker where they are missing.
pub(crate) fn ensure() -> Result<()> {
    if let Err(lacks) = Toolchain::find() {
        note(&format!("No compiler for the kernel program yet ({lacks})"));
        install_compiler()?;
    }
    ensure_linker()
}

/// Which compiler builds the kernel program.
pub(crate) fn describe() -> Result<String> {
    let toolchain = find()?;
    Ok(format!("{} ({})", toolchain.version, toolchain.name))
}

/// The compiler that [`ensure`] has made sure of.
pub(crate) fn find() -> Result<Toolchain> {
    Toolchain::find().map_err(|lacks| anyhow::anyhow!("no compiler for the kernel program: {lacks}"))
}

/// `cargo fmt` and `cargo clippy`, which a minimal rustup profile leaves out. The kernel program's own clippy is wanted,
/// too, but [`crate::lint`] can say where it is not to be had.
pub(crate) fn ensure_lint_tools() -> Result<()> {
    let mut missing = Vec::new();
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !cargo()
            .args([subcommand, "--version"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            missing.push(component);
        }
    }
    if !missing.is_empty() {
        if find_program("rustup").is_none() {
            bail!(
                "install {} for your Rust compiler: `cargo xtask lint` needs it",
                missing.join(" and ")
            );
        }
        note(&format!("Installing {}: checks the code", missing.join(" and ")));
        run_with_bar(rustup(&["component", "add"]).args(&missing), |_| None)?;
    }
    let toolchain = find()?;
    if !has_clippy(&toolchain) && find_program("rustup").is_some() {
        note(&format!("Installing clippy for {}: checks the kernel program", toolchain.name));
        if let Err(error) = run_with_bar(&mut rustup(&["component", "add", "clippy", "--toolchain", &toolchain.name]), |_| {
            None
        }) {
            note(&format!("{error:#}"));
        }
    }
    Ok(())
}

/// Whether the kernel program's compiler has a clippy.
pub(crate) fn has_clippy(toolchain: &Toolchain) -> bool {
    let mut command = Command::new("rustup");
    command
        .args(["run", &toolchain.name, "cargo-clippy", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `cargo fuzz`, with the newest version that is compatible: it only passes flags on.
pub(crate) fn ensure_cargo_fuzz() -> Result<()> {
    find_nightly()?;
    if find_program("cargo-fuzz").is_some() {
        return Ok(());
    }
    note("Installing cargo-fuzz: builds and runs the fuzz targets (about a minute)");
    install("cargo-fuzz", &[]).context("cannot install it; with a network, type: cargo install cargo-fuzz --locked")
}

/// The name of a rustup toolchain that has the flags of sanitizers and coverage.
pub(crate) fn find_nightly() -> Result<String> {
    let toolchain = find()?;
    if !toolchain.version.contains("-nightly") || find_program("rustup").is_none() {
        bail!("fuzzing needs a nightly compiler; type: rustup toolchain install {NIGHTLY} --profile minimal --component rust-src");
    }
    Ok(toolchain.name)
}

fn install_compiler() -> Result<()> {
    let by_rustup = if find_program("rustup").is_some() {
        install_with_rustup()
    } else {
        Err(anyhow::anyhow!("rustup is not installed"))
    };
    let Err(why_not) = by_rustup else {
        note(&format!("The kernel program will be built with {}", describe()?));
        return Ok(());
    };
    note(&format!(
        "rustup cannot provide it ({why_not:#}); taking the distribution's rustc instead"
    ));
    apt::install(DISTRIBUTION_PACKAGES)
        .map_err(|error| {
            error.context(format!(
                "the other way is: rustup toolchain install {NIGHTLY} --profile minimal --component rust-src"
            ))
        })
        .context("no compiler for the kernel program")?;
    note(&format!("The kernel program will be built with {}", describe()?));
    Ok(())
}

/// The sources are a small download for a nightly that is there; a whole nightly is the larger step.
fn install_with_rustup() -> Result<()> {
    let installed = read(&mut rustup(&["toolchain", "list"]))?;
    let host_nightly = installed
        .lines()
        .any(|line| line.starts_with("nightly-x86_64") || line.starts_with("nightly-aarch64"));
    if host_nightly {
        note("Installing rust-src for nightly: the sources of `core`, to compile for BPF");
        run_with_bar(&mut rustup(&["component", "add", "rust-src", "--toolchain", "nightly"]), |_| None)?;
        if Toolchain::find().is_ok() {
            return Ok(());
        }
    }
    note(&format!("Installing {NIGHTLY} with rust-src: compiles for BPF"));
    run_with_bar(
        &mut rustup(&["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"]),
        |_| None,
    )?;
    find().map(drop)
}

fn ensure_linker() -> Result<()> {
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    let found = find_program("bpf-linker").and_then(|linker| read(Command::new(linker).arg("--version")).ok());
    match found {
        Some(version) if version.trim() == wanted => return Ok(()),
        Some(version) => note(&format!(
            "Replacing {} by {wanted}: it must match the compiler's LLVM",
            version.trim()
        )),
        None => note(&format!("Installing {wanted}: links the kernel program (about a minute)")),
    }
    install("bpf-linker", &["--version", LINKER_VERSION, "--force"]).with_context(|| {
        format!("cannot install it; with a network, type: cargo install bpf-linker --version {LINKER_VERSION} --locked")
    })?;
    find_program("bpf-linker")
        .map(drop)
        .context("bpf-linker was installed, but not into a directory on PATH or $CARGO_HOME/bin")
}

fn install(package: &str, arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["install", package, "--locked"]).args(arguments);
    // Not in the workspace: its .cargo/config.toml and target directory are for the project.
    command.current_dir("/").env_remove("CARGO_TARGET_DIR");
    command
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100");
    run_with_bar(&mut command, cargo_progress)
}

fn rustup(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(arguments);
    command
}

/// `Building [====>      ] 41/132: syn, …`
fn cargo_progress(line: &str) -> Option<(u64, u64)> {
    let counts = line.split_once("] ")?.1.split(':').next()?;
    let (done, of) = counts.trim().split_once('/')?;
    Some((done.parse().ok()?, of.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::cargo_progress;

    #[test]
    fn cargo_says_how_far_it_is() {
        assert_eq!(cargo_progress("    Building [=====>     ] 41/132: syn, quote"), Some((41, 132)));
        assert_eq!(cargo_progress("   Compiling syn v2.0.1"), None);
    }
}
