//! `cargo xtask lint`: formatting, clippy and the object, for the workspace and for the kernel program alike.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::{
    object,
    setup::{self, Purpose, compiler},
    shell::{self, heading, root},
    toolchain::object_path,
};

/// The fuzz targets are a workspace of their own, too.
const FUZZ: &str = "tests/fuzz/Cargo.toml";

/// What is checked, and how.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check, also after one has failed: a developer wants to see all that is wrong.
pub(crate) fn run() -> Result<()> {
    setup::ensure(Purpose::Lint)?;
    let checks: [Check; 5] = [
        ("formatting", formatting),
        ("clippy: workspace", clippy_workspace),
        ("clippy: kernel program", clippy_kernel_program),
        ("fuzz targets: they compile", fuzz_targets_compile),
        ("object: no panics", object_has_no_panics),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        heading(name);
        if let Err(error) = check() {
            println!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    println!("\nAll checks hold.");
    Ok(())
}

fn formatting() -> Result<()> {
    let workspace = shell::run(shell::cargo().args(["fmt", "--all", "--check"]));
    let kernel_program = shell::run(shell::cargo().args(["fmt", "--check", "--manifest-path", "sipauth-ebpf/Cargo.toml"]));
    let fuzz_targets = shell::run(shell::cargo().args(["fmt", "--check", "--manifest-path", FUZZ]));
    workspace
        .and(kernel_program)
        .and(fuzz_targets)
        .context("type `cargo fmt`, and the same in sipauth-ebpf and tests/fuzz")
}

/// They take modules of the agent in by path, which the agent's own build cannot know. With the code that cargo-fuzz would see.
fn fuzz_targets_compile() -> Result<()> {
    let mut check = shell::cargo();
    check.args(["check", "--quiet", "--locked", "--bins", "--manifest-path", FUZZ]);
    check.arg("--target-dir").arg(shell::target_dir().join("fuzz/check"));
    check.env("RUSTFLAGS", "--cfg=fuzzing -Dwarnings");
    shell::run(&mut check)
}

fn clippy_workspace() -> Result<()> {
    shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn clippy_kernel_program() -> Result<()> {
    let toolchain = compiler::find()?;
    ensure!(
        compiler::has_clippy(&toolchain),
        "{} has no clippy: rustup component add clippy --toolchain {0}",
        toolchain.name
    );
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let mut clippy = toolchain.cargo("clippy", &root());
    // With an outer cargo's flags for bpf-linker left in: clippy does not link.
    clippy
        .env("CLIPPY_CONF_DIR", root())
        .arg("--")
        .args(lint_flags(&manifest)?)
        .args(["-D", "warnings"]);
    shell::run(&mut clippy)
}

fn object_has_no_panics() -> Result<()> {
    let mut build = compiler::find()?.cargo("build", &root());
    build.arg("--quiet");
    shell::run(&mut build)?;
    let path = object_path(&root());
    object::check_no_panics(&fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?)
}

/// The workspace's lint table as compiler flags. The kernel program is a workspace of its own and cannot inherit the
/// table; so there is one table, not two that drift apart.
fn lint_flags(manifest: &str) -> Result<Vec<String>> {
    let mut lints = Vec::new();
    let mut prefix = None;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            prefix = match line {
                "[workspace.lints.rust]" => Some(""),
                "[workspace.lints.clippy]" => Some("clippy::"),
                _ => None,
            };
            continue;
        }
        let (Some(prefix), Some((name, value))) = (prefix, line.split_once('=')) else {
            continue;
        };
        let level = value.split('"').nth(1).with_context(|| format!("lint without a level: {line}"))?;
        let priority = value
            .split_once("priority")
            .and_then(|(_, rest)| rest.trim_matches([' ', '=', '}']).parse::<i64>().ok());
        lints.push((priority.unwrap_or(0), format!("--{level}={prefix}{}", name.trim())));
    }
    ensure!(!lints.is_empty(), "no lint table in Cargo.toml");
    lints.sort_by_key(|(priority, _)| *priority);
    Ok(lints.into_iter().map(|(_, flag)| flag).collect())
}

#[cfg(test)]
mod tests {
    use super::lint_flags;

    #[test]
    fn the_lint_table_becomes_flags_with_groups_first() {
        let manifest = "[workspace.lints.rust]\nmissing_docs = \"warn\"\n[workspace.lints.clippy]\nall = { level = \"warn\", priority = -1 }\n\
                        [profile.release]\npanic = \"unwind\"\n";
        assert_eq!(lint_flags(manifest).unwrap(), ["--warn=clippy::all", "--warn=missing_docs"]);
    }
}
