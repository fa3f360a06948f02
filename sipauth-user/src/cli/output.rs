//! How answers look: aligned columns without borders, or JSON.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// Prints JSON, indented, with a newline.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Prints a line. Unlike `println!` it does not panic where the reader has gone.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Says something to the operator that is no answer.
#[allow(clippy::print_stderr, reason = "this is where the program talks to its operator")]
pub(super) fn note(text: &str) {
    eprintln!("sipauth: {text}");
}

/// Prints rows in aligned columns; those from `numbers` on are numbers, aligned to the right.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>, numbers: usize) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.map(str::to_uppercase));
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(&table.trim_fmt())
}

/// A list, or a dash where there is nothing.
pub(super) fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// A long list in a table: its first three.
pub(super) fn shortened(items: &[String]) -> String {
    match items.split_at_checked(3) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => list(items),
    }
}
