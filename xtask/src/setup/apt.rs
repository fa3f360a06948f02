//! Packages of Debian and its relatives.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{find_program, is_root, note, run_with_bar};

/// Installs packages. Where that is not possible, the error is the command to type.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "this is not a Debian system (no apt-get): install what Debian calls `{wanted}` with your own package manager, then try again"
        );
    }
    if !is_root() {
        bail!("installing packages needs root. Type: sudo apt-get update && sudo apt-get install -y {wanted}");
    }
    note(&format!("Installing {wanted}"));
    if run_with_bar(
        apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages),
        progress,
    )
    .is_ok()
    {
        return Ok(());
    }
    // A fresh or stale machine does not know the packages, or knows versions that the mirror no longer has.
    update()?;
    run_with_bar(
        apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages),
        progress,
    )
    .with_context(|| {
        format!("cannot install {wanted}: check the network and /etc/apt/sources.list, then type: apt-get install -y {wanted}")
    })
}

/// Keeps the init script of a package that was just installed from running, on systems without systemd. Elsewhere there is nothing to do,
/// and no harm in it.
pub(crate) fn disable(package: &str) {
    for (program, arguments) in [("update-rc.d", [package, "disable"]), ("invoke-rc.d", [package, "stop"])] {
        if find_program(program).is_some() {
            let quiet = || std::process::Stdio::null();
            let _ = Command::new(program).args(arguments).stdout(quiet()).stderr(quiet()).status();
        }
    }
}

/// Refreshes the package lists.
pub(crate) fn update() -> Result<()> {
    note("Updating the package lists");
    run_with_bar(apt_get().arg("update"), progress).context("apt-get update failed: check the network and /etc/apt/sources.list")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-o",
        "APT::Status-Fd=1",
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]);
    command
}

/// Lines such as `dlstatus:3:41.2:…` and `pmstatus:sipp:60.0:…`: the download is the first half of the way.
fn progress(line: &str) -> Option<(u64, u64)> {
    let (kind, rest) = line.split_once(':')?;
    let half = match kind {
        "dlstatus" => 0,
        "pmstatus" => 100,
        _ => return None,
    };
    let percent = rest.split(':').nth(1)?.split('.').next()?.parse::<u64>().ok()?;
    Some((half + percent.min(100), 200))
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn download_is_the_first_half_and_unpacking_the_second() {
        assert_eq!(progress("dlstatus:1:50.5:Retrieving file 1 of 2"), Some((50, 200)));
        assert_eq!(progress("pmstatus:sip-tester:60.0:Unpacking"), Some((160, 200)));
        assert_eq!(progress("Setting up sip-tester"), None);
        assert_eq!(progress("Get:1 http://mirror/debian bookworm"), None);
    }
}
