//! The Debian package, installed, run, upgraded and removed in a clean system that boots in the lab.
//! `cargo xtask test package` makes the package and the system.

#[path = "package/install.rs"]
mod install;
#[path = "package/remove.rs"]
mod remove;
#[path = "package/service.rs"]
mod service;
#[path = "lab/support.rs"]
#[allow(dead_code, reason = "the lab's tests use the rest")]
mod support;

use sipauth_tests::system::System;

/// Installs the package with apt, which finds what it depends on; answers what was said.
pub(crate) fn install(system: &System, package: &str) -> anyhow::Result<String> {
    system.shell(&format!(
        "apt-get install -y --no-install-recommends -o APT::Sandbox::User=root -o Dpkg::Options::=--force-confold {package} 2>&1"
    ))
}

/// Names the interface, as the installation says.
pub(crate) fn configure(system: &System) -> anyhow::Result<()> {
    system
        .shell("sed -i 's/^#interface = .*/interface = [\"eth0\"]/' /etc/sipauth/sipauth.toml")
        .map(drop)
}
