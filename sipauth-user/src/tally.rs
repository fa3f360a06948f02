//! What became of the lines of a log: written, or lost and why. Said once when it begins to fail, and once when it works again.

use std::{
    fmt::Display,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Counts of one log.
#[derive(Debug)]
pub struct Tally {
    log: &'static str,
    written: AtomicU64,
    lost: AtomicU64,
    /// Why the last line was lost; `None` where it was written.
    failing: Mutex<Option<String>>,
}

impl Tally {
    /// Of a log of this name.
    #[must_use]
    pub const fn new(log: &'static str) -> Self {
        Self {
            log,
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failing: Mutex::new(None),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.log
    }

    /// Counts a line; `to` says where it was to go.
    pub fn count(&self, result: io::Result<()>, to: &impl Display) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                self.written.fetch_add(1, Relaxed);
                if failing.take().is_some() {
                    let lost = self.lost.load(Relaxed);
                    tracing::info!(log = self.log, %to, lost, "the log is written again");
                }
            }
            Err(error) => {
                self.lost.fetch_add(1, Relaxed);
                let why = format!("{to}: {error}");
                if failing.is_none() {
                    tracing::warn!(
                        log = self.log,
                        %to,
                        %error,
                        "the log cannot be written: see that it is there and has room; calls go on, and lines that are lost are counted"
                    );
                }
                *failing = Some(why);
            }
        }
    }

    /// Counts what did not get as far as to be written.
    pub fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
    }

    /// Lines that were written, since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Lines that were not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Why the last line was lost, if it was.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_and_forgotten_when_it_is_over() {
        let tally = Tally::new("test");
        for _ in 0..3 {
            tally.count(Err(io::ErrorKind::StorageFull.into()), &"/x");
        }
        assert_eq!((tally.written(), tally.lost()), (0, 3));
        assert!(tally.failing().is_some_and(|why| why.starts_with("/x: ")));
        tally.count(Ok(()), &"/x");
        assert_eq!((tally.written(), tally.lost(), tally.failing()), (1, 3, None));
    }
}
