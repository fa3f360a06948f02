//! A file of lines that is rotated by size and age, in a bounded number of files.
//!
//! A line is there as a whole or not at all, also where the disk is full: who reads the file must be able to trust each of them. The
//! file is opened when there is something to write, and anew when somebody moved it away, so `logrotate` is neither needed nor in the way.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What is written behind the name.
const SUFFIX: &str = "jsonl";

/// When to begin another file, and how many to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A file is no longer than this, unless a single line is.
    pub bytes: u64,
    /// A file has lines of no more than this time; `None` for however long.
    pub age: Option<Duration>,
    /// So many files at most, the one that is written to among them.
    pub files: usize,
}

/// The file `NAME.jsonl` of a directory, and `NAME-TIME.jsonl` for those that are full.
#[derive(Debug)]
pub struct LogFile {
    directory: PathBuf,
    name: &'static str,
    limits: Limits,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    size: u64,
    began: SystemTime,
}

impl LogFile {
    /// Touches nothing yet.
    #[must_use]
    pub const fn new(directory: PathBuf, name: &'static str, limits: Limits) -> Self {
        Self {
            directory,
            name,
            limits,
            open: None,
        }
    }

    /// Where lines go.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.{SUFFIX}", self.name))
    }

    /// Writes a line; its end is added.
    ///
    /// # Errors
    /// Whatever the system says, such as that the disk is full; nothing of the line is in the file then. The next line tries anew.
    pub fn append(&mut self, line: &str, now: SystemTime) -> io::Result<()> {
        let mut open = self.opened(now)?;
        let length = line.len() as u64 + 1;
        let aged = self
            .limits
            .age
            .is_some_and(|age| now.duration_since(open.began).is_ok_and(|past| past >= age));
        if open.size > 0 && (aged || open.size + length > self.limits.bytes) {
            drop(open);
            self.rotate(now)?;
            open = self.opened(now)?;
        }
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if let Err(error) = open.file.write_all(&bytes) {
            // What was written of it goes. Where not even that can be done, opening the file again ends the line.
            if open.file.set_len(open.size).is_ok() {
                self.open = Some(open);
            }
            return Err(error);
        }
        open.size += length;
        self.open = Some(open);
        Ok(())
    }

    /// The file, if it is still the one of this name; else anew.
    fn opened(&mut self, now: SystemTime) -> io::Result<Open> {
        let path = self.path();
        if let Some(open) = self.open.take()
            && fs::metadata(&path).is_ok_and(|there| there.ino() == open.inode)
        {
            return Ok(open);
        }
        DirBuilder::new().recursive(true).mode(0o750).create(&self.directory)?;
        let mut file = File::options().read(true).append(true).create(true).mode(0o640).open(&path)?;
        let there = file.metadata()?;
        let mut size = there.size();
        if size > 0 && last_byte(&mut file)? != b'\n' {
            file.write_all(b"\n")?;
            size += 1;
        }
        let began = if size == 0 {
            now
        } else {
            there.created().or_else(|_| there.modified()).unwrap_or(now)
        };
        Ok(Open {
            inode: there.ino(),
            file,
            size,
            began,
        })
    }

    /// Gives the file the name of a full one, and removes the oldest.
    fn rotate(&self, now: SystemTime) -> io::Result<()> {
        let stamp: String = humantime::format_rfc3339_millis(now).to_string().replace(['-', ':'], "");
        let free = (0..100)
            .map(|more| if more == 0 { stamp.clone() } else { format!("{stamp}-{more:02}") })
            .map(|stamp| self.directory.join(format!("{}-{stamp}.{SUFFIX}", self.name)))
            .find(|path| !path.exists());
        let full = free.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(self.path(), full)?;
        let mut full = self.full();
        let kept = self.limits.files.saturating_sub(1);
        let surplus = full.len().saturating_sub(kept);
        for old in full.drain(..surplus) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// All files that are there, the oldest first.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let last = Some(self.path()).filter(|path| path.exists());
        self.full().into_iter().chain(last).collect()
    }

    /// The files that are full, the oldest first.
    fn full(&self) -> Vec<PathBuf> {
        let prefix = format!("{}-", self.name);
        let ours = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix(&prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(SUFFIX))
        };
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut full: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| ours(path)).collect();
        // Without the suffix, so that the second of a millisecond comes after the first.
        full.sort_by_cached_key(|path| path.with_extension(""));
        full
    }
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 30,
        age: Some(Duration::from_secs(60)),
        files: 3,
    };

    fn at(second: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(second)
    }

    fn file(directory: &tempfile::TempDir, limits: Limits) -> LogFile {
        LogFile::new(directory.path().join("logs"), "test", limits)
    }

    /// Contents of all files, the oldest first.
    fn contents(file: &LogFile) -> Vec<String> {
        file.files()
            .into_iter()
            .map(|path| fs::read_to_string(path).expect("a file"))
            .collect()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = file(&directory, LIMITS);
        for number in 0..12 {
            log.append(&format!("line {number:04}"), at(0)).expect("written");
        }
        assert_eq!(
            contents(&log),
            [
                "line 0003\nline 0004\nline 0005\n",
                "line 0006\nline 0007\nline 0008\n",
                "line 0009\nline 0010\nline 0011\n"
            ]
        );
        // A line that is longer than a file has one for itself.
        log.append(&"x".repeat(50), at(0)).expect("written");
        assert_eq!(contents(&log)[2].len(), 51);
        assert_eq!(contents(&log).len(), 3);
    }

    #[test]
    fn an_old_file_is_put_aside_and_an_empty_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = file(&directory, LIMITS);
        log.append("first", at(0)).expect("written");
        log.append("second", at(59)).expect("written");
        log.append("third", at(61)).expect("written");
        assert_eq!(contents(&log), ["first\nsecond\n", "third\n"]);
        // The age is that of the file, not of the process.
        let mut other = file(&directory, LIMITS);
        other.append("fourth", at(10)).expect("written");
        assert_eq!(contents(&other), ["first\nsecond\n", "third\nfourth\n"]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_and_a_torn_line_is_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = file(&directory, LIMITS);
        log.append("one", at(0)).expect("written");
        fs::rename(log.path(), directory.path().join("elsewhere")).expect("moved");
        log.append("two", at(0)).expect("written");
        assert_eq!(contents(&log), ["two\n"]);
        fs::write(log.path(), "torn").expect("written");
        log.append("three", at(0)).expect("written");
        let mut again = file(&directory, LIMITS);
        fs::write(log.path(), "torn").expect("written");
        again.append("three", at(0)).expect("written");
        assert_eq!(contents(&again), ["torn\nthree\n"]);
    }

    #[test]
    fn others_cannot_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = file(&directory, LIMITS);
        log.append("one", at(0)).expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&log.path()) & 0o137, 0);
        assert_eq!(mode(log.path().parent().expect("a directory")) & 0o027, 0);
    }

    #[test]
    fn an_error_is_told_and_the_next_line_tries_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = file(&directory, LIMITS);
        let in_the_way = directory.path().join("logs");
        fs::write(&in_the_way, "no directory").expect("written");
        assert!(log.append("one", at(0)).is_err());
        fs::remove_file(&in_the_way).expect("removed");
        log.append("two", at(0)).expect("written");
        assert_eq!(contents(&log), ["two\n"]);
    }
}
