//! Where passwords come from: a file, standard input or chance, never the command line itself, which others can see.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use zeroize::Zeroizing;

use super::{ask, output};
use crate::{
    control::{GatewayInfo, Request, Response},
    gateway::{Secret, generate},
};

/// Longest password file that is read.
const MAX_PASSWORD: u64 = 4096;

/// Where the password of a gateway comes from.
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Read the password from standard input, up to the end of its first line
    #[arg(long, group = "given_password")]
    pub password_stdin: bool,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE", group = "given_password")]
    pub password_file: Option<PathBuf>,
    /// Make a strong password and print it, once
    #[arg(long, group = "given_password")]
    pub generate_password: bool,
    /// Take a password that is short or easily guessed
    #[arg(long)]
    pub allow_weak_password: bool,
}

impl PasswordArgs {
    /// The password that was asked for; `username` is whose.
    pub(super) fn read(&self, username: Option<&str>) -> anyhow::Result<Option<Secret>> {
        if self.generate_password {
            let made = generate(username.unwrap_or_default()).context("cannot read random numbers from /dev/urandom")?;
            return Ok(Some(made));
        }
        match (&self.password_file, self.password_stdin) {
            (Some(path), _) => read_password(path).map(Some),
            (None, true) => first_line(io::stdin().lock()).map(Some),
            (None, false) => Ok(None),
        }
    }
}

/// The first line of a file.
pub(super) fn read_password(path: &Path) -> anyhow::Result<Secret> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}, where a password is to be", path.display()))?;
    first_line(file)
}

/// The first line, without its end.
fn first_line(source: impl Read) -> anyhow::Result<Secret> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    source
        .take(MAX_PASSWORD)
        .read_to_string(&mut text)
        .context("the password cannot be read; give it as one line of UTF-8 text")?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Prints what to set on a gateway's own side, with the password, which nobody can show again.
pub(super) fn print_generated(gateway: &GatewayInfo, password: &Secret, socket: &Path) -> anyhow::Result<()> {
    output::line("\nset on the gateway's own side (the password is not shown again):")?;
    output::line(&format!("  username  {}", gateway.username.as_deref().unwrap_or("-")))?;
    output::line(&format!("  password  {}", password.expose()))?;
    output::line(&format!(
        "  realm     {} (most devices take it from the challenge)",
        gateway.realm.as_deref().unwrap_or("-")
    ))?;
    // The gateway is there whatever becomes of this question.
    let ports = match ask(socket, &Request::Status) {
        Ok(Response::Status(status)) => output::list(&status.ports),
        _ => "5060".to_owned(),
    };
    output::line(&format!("  server    the address of this host, port {ports}, UDP or TCP"))
}
