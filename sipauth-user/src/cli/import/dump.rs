//! Kamailio's tables `subscriber` and `address` from a dump of its database, as mysqldump, pg_dump and `sqlite3 .dump` write it.

mod kamailio;
mod lexer;
mod rows;
mod tables;

use super::Found;

/// What is wrong with the dump as a whole.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct DumpError {
    line: u64,
    what: String,
}

/// Beginnings of lines that only a dump has.
const MARKS: [&str; 5] = [
    "insert into ",
    "replace into ",
    "create table ",
    "copy ",
    "-- postgresql database dump",
];

/// Whether this is a dump, and not a table in CSV.
pub(super) fn is_dump(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| {
        let start = line.get(..32.min(line.len())).unwrap_or_default().trim_ascii_start();
        let begins = |mark: &&str| start.get(..mark.len()).is_some_and(|s| s.eq_ignore_ascii_case(mark.as_bytes()));
        // A CSV table may have a column that is called Copy.
        MARKS.iter().any(begins) && (!begins(&"copy ") || line.to_ascii_lowercase().windows(6).any(|w| w == b" stdin"))
    })
}

/// The gateways that the dump has.
///
/// # Errors
/// It ends in the middle, or has neither of the tables.
pub(super) fn read(text: &[u8]) -> Result<Found, DumpError> {
    let rows = rows::read(text)?;
    if rows.is_empty() {
        return Err(DumpError {
            line: 1,
            what: "this dump has no rows of Kamailio's tables subscriber and address; dump these two, with their data".to_owned(),
        });
    }
    Ok(kamailio::gateways(rows))
}

#[cfg(test)]
mod tests;
