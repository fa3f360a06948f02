//! What all measurements do with their figures: median and spread, a table for the terminal and one for the README, files.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::shell;

/// What the rounds of a measurement gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Not numbers for none.
    pub(super) fn of(rounds: &[f64]) -> Self {
        let mut all = rounds.to_vec();
        all.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (all.first(), all.last()) else {
            return Self::exact(f64::NAN);
        };
        let middle = all.len() / 2;
        let median = if all.len() % 2 == 1 {
            all[middle]
        } else {
            f64::midpoint(all[middle - 1], all[middle])
        };
        Self { median, least, most }
    }

    /// What does not vary.
    pub(super) const fn exact(value: f64) -> Self {
        Self {
            median: value,
            least: value,
            most: value,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

/// A table whose first column names the row and whose others are figures.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Prints a table.
pub(super) fn show(table: &mut Table) {
    align(table);
    println!("\n{table}");
}

/// The same table as Markdown, for the README.
pub(super) fn markdown(table: &mut Table) -> String {
    align(table);
    table.load_style(presets::ASCII_MARKDOWN);
    let text = format!("{table}\n");
    table.load_style(presets::UTF8_FULL_CONDENSED);
    text
}

/// Columns are there only once a row is.
fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Writes a file of a measurement: its name says what it is (`.json`, `.svg`, `.md`).
pub(super) fn write(name: &str, text: &str) -> Result<PathBuf> {
    let directory = shell::target_dir().join("bench");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("{}", path.display());
    Ok(path)
}

/// The kernel and processor that the figures are from, as the README names them.
pub(super) fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("kernel {}, {processor}, {cores} cores", kernel.trim())
}

/// A whole number with commas: 1,000,000.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(
            Spread::of(&[5.0, 1.0, 3.0]),
            Spread {
                median: 3.0,
                least: 1.0,
                most: 5.0
            }
        );
        assert!((Spread::of(&[4.0, 1.0, 3.0, 2.0]).median - 2.5).abs() < 1e-9);
        assert!(Spread::of(&[]).median.is_nan());
    }

    #[test]
    fn a_table_is_markdown_too_and_stays_what_it_was() {
        let mut table = table(&["program", "ns"]);
        table.add_row(["empty", "7"]);
        let before = table.to_string();
        assert_eq!(markdown(&mut table), "| program | ns |\n|---------|----|\n| empty   |  7 |\n");
        assert_eq!(table.to_string().lines().count(), before.lines().count());
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!(
            [0, 10, 999, 1_000, 100_000, 1_000_000].map(thousands),
            ["0", "10", "999", "1,000", "100,000", "1,000,000"]
        );
    }
}
