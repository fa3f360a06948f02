//! Reads what test binaries print, and counts.

use std::ops::AddAssign;

/// How many tests passed, failed, and said that they could not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ran and held.
    pub(crate) passed: u64,
    /// Ran and did not hold, or could not be built.
    pub(crate) failed: u64,
    /// Could not run here.
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Which part of a test binary's output a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Results,
    /// Output of tests that passed; only a skip is of interest. `counted` is whether this test's skip was counted.
    Successes {
        counted: bool,
    },
    Failures,
}

/// A reader of the standard test harness's output (with `--show-output`), and of lines that begin with `SKIP`.
pub(crate) struct Reader {
    counts: Counts,
    section: Section,
    test: String,
    show_passed: bool,
}

impl Reader {
    /// With `show_passed`, a line for each test that passed.
    pub(crate) fn new(show_passed: bool) -> Self {
        Self {
            counts: Counts::default(),
            section: Section::Results,
            test: String::new(),
            show_passed,
        }
    }

    /// Takes a line; returns what of it is worth showing.
    pub(crate) fn line(&mut self, line: &str) -> Option<String> {
        match line {
            "successes:" => self.section = Section::Successes { counted: false },
            "failures:" => self.section = Section::Failures,
            _ => {}
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.result(result);
            return None;
        }
        match self.section {
            Section::Results => self.result_line(line),
            Section::Successes { counted } => self.output_of_success(line, counted),
            Section::Failures => Some(line.to_owned()),
        }
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn result_line(&mut self, line: &str) -> Option<String> {
        // With `--nocapture` the harness's "test name ... " may stand before it.
        let said = line.split_once(" ... ").map_or(line, |(_, said)| said).trim_start();
        if said.starts_with("SKIP") {
            self.skip();
            return Some(line.to_owned());
        }
        let noise = line.trim().is_empty()
            || line.starts_with("running ")
            || ["Finished ", "Running ", "Doc-tests "]
                .iter()
                .any(|word| line.trim_start().starts_with(word));
        let passed = line.starts_with("test ") && line.ends_with(" ok");
        (!noise && (self.show_passed || !passed)).then(|| line.to_owned())
    }

    fn output_of_success(&mut self, line: &str, counted: bool) -> Option<String> {
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            test.clone_into(&mut self.test);
            self.section = Section::Successes { counted: false };
        } else if line.starts_with("SKIP") && !counted {
            self.section = Section::Successes { counted: true };
            self.skip();
            return Some(format!("{line} ({})", self.test));
        }
        None
    }

    /// The harness counts a test that skipped itself as passed.
    fn skip(&mut self) {
        self.counts.skipped += 1;
        self.counts.passed = self.counts.passed.wrapping_sub(1);
    }

    fn result(&mut self, result: &str) {
        self.section = Section::Results;
        let count = |what: &str| {
            let before = result.split(what).next().unwrap_or_default();
            before
                .split_whitespace()
                .next_back()
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.counts.passed = self.counts.passed.wrapping_add(count(" passed"));
        self.counts.failed += count(" failed");
        self.counts.skipped += count(" ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Reader};

    const OUTPUT: &str = "
running 3 tests
test a_call_passes ... ok
test b_needs_root ... ok
test c_breaks ... FAILED

successes:

---- b_needs_root stdout ----
SKIP needs root
SKIP really

successes:
    a_call_passes
    b_needs_root

failures:

---- c_breaks stdout ----
SKIP is only a word here

failures:
    c_breaks

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn a_test_that_says_skip_has_not_passed() {
        let mut reader = Reader::new(false);
        let shown: Vec<String> = OUTPUT.lines().filter_map(|line| reader.line(line)).collect();
        assert_eq!(
            reader.counts(),
            Counts {
                passed: 1,
                failed: 1,
                skipped: 2
            }
        );
        assert!(shown.contains(&"SKIP needs root (b_needs_root)".to_owned()));
        assert!(shown.contains(&"test c_breaks ... FAILED".to_owned()));
        assert!(!shown.iter().any(|line| line.contains("a_call_passes")));
    }

    #[test]
    fn a_skip_without_capture_is_counted_too() {
        let mut reader = Reader::new(true);
        for line in ["test a ... SKIP no SIPp", "ok", "test result: ok. 1 passed; 0 failed; 0 ignored"] {
            reader.line(line);
        }
        assert_eq!(
            reader.counts(),
            Counts {
                passed: 0,
                failed: 0,
                skipped: 1
            }
        );
    }
}
