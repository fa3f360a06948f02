//! `cargo xtask build`: the agent, with the kernel program inside.

use anyhow::Result;

use crate::{setup, shell};

/// Builds all of the workspace, so that features are the same as in tests and nothing is built twice.
pub(crate) fn run(release: bool) -> Result<()> {
    setup::ensure(setup::Purpose::Build)?;
    let mut cargo = shell::cargo();
    cargo.args(["build", "--workspace"]);
    if release {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)?;
    println!(
        "{}",
        shell::target_dir()
            .join(if release { "release" } else { "debug" })
            .join("sipauth")
            .display()
    );
    Ok(())
}
