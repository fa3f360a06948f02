//! What a measurement leaves behind: a table on the terminal and as Markdown, a chart, the figures as JSON, and whether its goals are met.

use anyhow::Result;
use comfy_table::Table;
use serde_json::Value;

use super::{figures, save};

/// Prints and writes it all; `notes` are sentences below the table, `chart` is a picture.
pub(super) fn publish(name: &str, table: &mut Table, notes: &[String], chart: &str, figures: &Value) -> Result<()> {
    figures::show(table);
    for note in notes {
        println!("{note}");
    }
    let paragraphs: String = notes.iter().map(|note| format!("\n{note}\n")).collect();
    figures::write(&format!("{name}.md"), &format!("{}{paragraphs}", figures::markdown(table)))?;
    figures::write(&format!("{name}.svg"), chart)?;
    save(name, figures)?;
    Ok(())
}

/// A goal, and whether it is met.
pub(super) fn goal(text: &str, met: bool) -> String {
    format!("Goal {}: {text}.", if met { "met" } else { "missed" })
}
