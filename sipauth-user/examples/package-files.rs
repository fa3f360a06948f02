//! Writes what a package has that follows from the program: manual pages, shell completions, and the default configuration.
//! `cargo xtask dist` runs it.

use std::{env, fs, io, path::Path};

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use sipauth_user::{cli, config};

/// As for other programs of the administrator.
const SECTION: &str = "8";

fn main() -> io::Result<()> {
    let directory = env::args_os()
        .nth(1)
        .ok_or_else(|| io::Error::other("say where to write: package-files DIRECTORY"))?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory.join("man"))?;
    let mut command = cli::command();
    command.build();
    manual(&command, &directory.join("man"))?;
    for (shell, name) in [
        (Shell::Bash, "sipauth.bash"),
        (Shell::Zsh, "_sipauth"),
        (Shell::Fish, "sipauth.fish"),
    ] {
        let mut file = fs::File::create(directory.join(name))?;
        generate(shell, &mut cli::command(), "sipauth", &mut file);
    }
    fs::write(directory.join("sipauth.toml"), configuration()?)
}

/// A page for the command and each below it.
fn manual(command: &Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = fs::File::create(directory.join(format!("{name}.{SECTION}")))?;
    Man::new(command.clone())
        .section(SECTION)
        .manual("System administration")
        .source(format!("sipauth {}", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help" && !below.is_hide_set())
    {
        manual(below, directory)?;
    }
    Ok(())
}

/// As `config default` prints it, but for what an installed service must not guess and what its package has made.
fn configuration() -> io::Result<String> {
    let mut text = config::DEFAULT_TEXT.to_owned();
    for (there, wanted) in [
        ("\ninterface = [\"eth0\"]", "\n#interface = [\"eth0\"]"),
        ("\n#socket-group = \"sipauth\"", "\nsocket-group = \"sipauth\""),
    ] {
        if !text.contains(there) {
            return Err(io::Error::other(format!(
                "the default configuration has no line {:?}",
                there.trim()
            )));
        }
        text = text.replacen(there, wanted, 1);
    }
    Ok(text)
}
