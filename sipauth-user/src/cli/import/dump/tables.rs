//! The two tables that are read: their columns, rows and values.

use std::collections::HashMap;

/// A table that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TableName {
    /// Who has a password.
    Subscriber,
    /// Who is trusted by address.
    Address,
}

impl TableName {
    /// By its name, whatever the schema before it.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name.rsplit('.').next()? {
            "subscriber" => Some(Self::Subscriber),
            "address" => Some(Self::Address),
            _ => None,
        }
    }

    /// Columns as Kamailio makes them, for a dump that names none; earlier versions had more.
    pub(super) fn columns(self, count: usize) -> Option<&'static [&'static str]> {
        const SUBSCRIBER: &[&str] = &["id", "username", "domain", "password", "ha1", "ha1b"];
        const EARLIER: &[&str] = &["id", "username", "domain", "password", "email_address", "ha1", "ha1b", "rpid"];
        const ADDRESS: &[&str] = &["id", "grp", "ip_addr", "mask", "port", "tag"];
        let known = match self {
            Self::Subscriber => [SUBSCRIBER, EARLIER],
            Self::Address => [ADDRESS; 2],
        };
        known.into_iter().find(|columns| columns.len() == count)
    }
}

/// A row, or why it is none.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) table: TableName,
    /// Line of the file.
    pub(super) line: u64,
    /// Its number in its statement.
    pub(super) number: usize,
    /// By column; NULL is not there.
    pub(super) fields: Result<HashMap<String, String>, String>,
}

impl Row {
    /// Where an operator finds it again.
    pub(super) fn place(&self) -> String {
        let id = self.fields.as_ref().ok().and_then(|fields| fields.get("id"));
        id.map_or_else(
            || format!("line {} (row {} there)", self.line, self.number),
            |id| format!("line {} (id {id})", self.line),
        )
    }
}

/// A value: `None` is NULL; the error is a value that is not written as it is.
pub(super) type Value = Result<Option<String>, &'static str>;

/// What stands in the list of columns and is none.
pub(super) fn is_constraint(word: &str) -> bool {
    const WORDS: [&str; 9] = [
        "constraint",
        "primary",
        "key",
        "unique",
        "index",
        "check",
        "foreign",
        "fulltext",
        "exclude",
    ];
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// A field of COPY's text format.
pub(super) fn copied(field: &[u8]) -> Value {
    if field == b"\\N" {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    String::from_utf8(out)
        .map(Some)
        .map_err(|_| "a value of it is not UTF-8; dump it as UTF-8")
}
