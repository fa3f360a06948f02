//! Where records are written.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{Record, Target, Wanted};
use crate::{
    logfile::{Limits, LogFile},
    tally::Tally,
};

/// A file of records has this much at most.
const BYTES: u64 = 32 << 20;
/// And those of so long.
const AGE: Duration = Duration::from_secs(24 * 3_600);
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
/// Facility daemon, severity notice.
const PRIORITY: u8 = 3 * 8 + 5;

/// Where records are written.
pub(super) enum Sink {
    File(LogFile),
    Journald(PathBuf),
    Syslog(PathBuf),
    Off,
}

impl Sink {
    pub(super) fn new(wanted: &Wanted) -> Self {
        match wanted.target {
            Target::File => Self::File(file(wanted.directory.clone(), wanted.files)),
            Target::Journald => Self::Journald(PathBuf::from(JOURNAL)),
            Target::Syslog => Self::Syslog(PathBuf::from(SYSLOG)),
            Target::Off => Self::Off,
        }
    }

    /// Writes a record, or counts it as lost.
    pub(super) fn write(&mut self, record: &Record, tally: &Tally) {
        let (result, to) = match self {
            Self::File(file) => (json(record).and_then(|line| file.append(&line, SystemTime::now())), file.path()),
            Self::Journald(socket) => (journal(record).and_then(|entry| send(socket, &entry)), socket.clone()),
            Self::Syslog(socket) => {
                let entry = json(record).map(|line| format!("<{PRIORITY}>sipauth[{}]: {line}", process::id()));
                (entry.and_then(|entry| send(socket, entry.as_bytes())), socket.clone())
            }
            Self::Off => return,
        };
        tally.count(result, &to.display());
    }
}

fn json(record: &Record) -> io::Result<String> {
    serde_json::to_string(record).map_err(io::Error::other)
}

/// The records in a directory, of which so many files are kept.
pub(super) const fn file(directory: PathBuf, files: usize) -> LogFile {
    let limits = Limits {
        bytes: BYTES,
        age: Some(AGE),
        files,
    };
    LogFile::new(directory, "records", limits)
}

/// A socket of its own for each: where the other end was started anew, the next datagram reaches it. Where that has no room, it is lost.
fn send(to: &PathBuf, datagram: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(datagram, to).map(drop)
}

/// The native protocol of the journal: a field a line; one whose value has line ends with its length in front.
fn journal(record: &Record) -> io::Result<Vec<u8>> {
    let mut entry = Vec::with_capacity(1_024);
    field(&mut entry, "MESSAGE", &record.sentence())?;
    field(&mut entry, "PRIORITY", "5")?;
    field(&mut entry, "SYSLOG_IDENTIFIER", "sipauth")?;
    let Value::Object(fields) = serde_json::to_value(record).map_err(io::Error::other)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    for (name, value) in fields {
        let name = format!("SIPAUTH_{}", name.to_ascii_uppercase());
        match value {
            Value::Null => {}
            Value::String(text) => field(&mut entry, &name, &text)?,
            other => field(&mut entry, &name, &other.to_string())?,
        }
    }
    Ok(entry)
}

fn field(entry: &mut Vec<u8>, name: &str, value: &str) -> io::Result<()> {
    if value.contains('\n') {
        writeln!(entry, "{name}")?;
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        writeln!(entry, "{value}")
    } else {
        writeln!(entry, "{name}={value}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
