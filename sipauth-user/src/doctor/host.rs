//! The clock, and the directory of the store.

use std::path::Path;

use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};

use super::{Finding, Site};

/// Less than this, and the store may not be able to take a change.
const ROOM: u64 = 64 << 20;

pub(super) fn check(site: &Site) -> Vec<Finding> {
    vec![
        state_dir(&site.path(&site.state_dir), &site.state_dir, site.agent.is_some()),
        clock(),
    ]
}

/// A running agent has opened its store there; only the room that is left is to be seen.
fn state_dir(path: &Path, name: &Path, running: bool) -> Finding {
    const CHECK: &str = "state-dir";
    let name = name.display();
    if running && !path.exists() {
        return Finding::unknown(CHECK, format!("{name} of the agent cannot be seen from here"), "run it as root");
    }
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !running && access(existing, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return Finding::problem(
            CHECK,
            format!("{name} cannot be written to by this user"),
            "run as root, or give it to the user that the agent runs as",
        );
    }
    match statvfs(existing) {
        Err(error) => Finding::unknown(CHECK, format!("{name}: {error}"), "run as root"),
        Ok(stat) if stat.blocks_available() * stat.fragment_size() < ROOM => Finding::problem(
            CHECK,
            format!("{name} is on a file system with less than {} MiB left", ROOM >> 20),
            "make room: without it no gateway can be changed",
        ),
        Ok(_) if existing != path => Finding::ok(CHECK, format!("{name} will be made at the first run")),
        Ok(_) => Finding::ok(CHECK, format!("{name} is there and has room")),
    }
}

fn clock() -> Finding {
    // SAFETY: a structure of integers, for which zero is valid; `modes` 0 only reads.
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of the right type.
    let state = unsafe { libc::adjtimex(&raw mut time) };
    synchronised(state >= 0, time.status & libc::STA_UNSYNC != 0)
}

fn synchronised(known: bool, unsynchronised: bool) -> Finding {
    const CHECK: &str = "clock";
    let remedy =
        "run chrony or systemd-timesyncd; the agent's own challenges do not need it, but the times of its records do, and several nodes";
    match (known, unsynchronised) {
        (false, _) => Finding::unknown(CHECK, "the kernel does not say whether it is kept", remedy),
        (true, true) => Finding::unknown(CHECK, "no time service has told the kernel that it keeps the clock", remedy),
        (true, false) => Finding::ok(CHECK, "kept by a time service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_the_one_above() {
        let directory = tempfile::tempdir().expect("a directory");
        let inside = directory.path().join("a/b");
        let found = state_dir(&inside, &inside, false);
        assert!(found.state == State::Ok && found.text.contains("will be made"), "{found:?}");
        assert!(state_dir(directory.path(), directory.path(), true).text.contains("has room"));
        assert_eq!(state_dir(&inside, &inside, true).state, State::Unknown);
        let proc = Path::new("/proc/sipauth");
        assert_ne!(state_dir(proc, proc, false).state, State::Ok);
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_not_ok() {
        assert_eq!(synchronised(true, false).state, State::Ok);
        assert_eq!(synchronised(true, true).state, State::Unknown);
        assert_eq!(synchronised(false, false).state, State::Unknown);
        assert_eq!(clock().check, "clock");
    }
}
