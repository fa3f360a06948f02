//! What the ring `package` needs: the package in two versions, and a clean system to install it in.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{dist, shell};

/// Besides the smallest system: what the package depends on, what makes it boot, and what shows manual pages and interfaces.
const PACKAGES: &str = "systemd,systemd-sysv,man-db,iproute2";

/// Environment of the tests. All has been built.
pub(crate) fn environment() -> Result<Vec<(&'static str, OsString)>> {
    let binary = shell::target_dir().join("debug/sipauth");
    let version = env!("CARGO_PKG_VERSION");
    Ok(vec![
        ("SIPAUTH_PACKAGE_ROOT", root()?.into()),
        ("SIPAUTH_PACKAGE", dist::pack(&binary, version)?.into()),
        ("SIPAUTH_PACKAGE_NEXT", dist::pack(&binary, &format!("{version}+next"))?.into()),
    ])
}

/// Makes the system where it is not there yet; it is never changed.
fn root() -> Result<PathBuf> {
    let dir = shell::target_dir().join("package");
    let (root, unfinished) = (dir.join("root"), dir.join("unfinished"));
    if root.exists() {
        return Ok(root);
    }
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&dir)?;
    shell::note("Making a clean Debian, once (some minutes)");
    shell::run_with_bar(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), &release()?])
            .arg(&unfinished),
        |_| None,
    )?;
    fs::rename(&unfinished, &root)?;
    Ok(root)
}

/// Of this machine, for whose libraries the binary is built.
fn release() -> Result<String> {
    let file = Path::new("/etc/os-release");
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID=").as_deref(), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(name)) => Ok(name),
        _ => bail!("the ring `package` needs a Debian machine: {} names another system", file.display()),
    }
}
