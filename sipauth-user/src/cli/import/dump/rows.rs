//! Statements to rows, of the two tables alone; everything else in a dump is stepped over.

use std::collections::HashMap;

use super::{
    DumpError,
    lexer::{Lexer, Token},
    tables::{Row, TableName, Value, copied, is_constraint},
};

/// More rows than this are not read.
const MOST: usize = 1 << 20;

/// All rows of the two tables, in their order.
pub(super) fn read(text: &[u8]) -> Result<Vec<Row>, DumpError> {
    check_end(text)?;
    let mut reader = Reader {
        lexer: Lexer::new(text),
        columns: HashMap::new(),
        rows: Vec::new(),
    };
    while let Some(token) = reader.lexer.next()? {
        match token {
            Token::Symbol(b'\\') => drop(reader.lexer.rest_of_line()),
            Token::Symbol(b';') => {}
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "insert" | "replace" => reader.insert()?,
                "copy" => reader.copy()?,
                "create" => reader.create()?,
                _ => reader.skip_statement()?,
            },
            _ => reader.skip_statement()?,
        }
        if reader.rows.len() > MOST {
            return Err(DumpError {
                line: reader.lexer.line(),
                what: format!("more than {MOST} rows; import a part of them at a time"),
            });
        }
    }
    Ok(reader.rows)
}

/// A dump that says where it begins says where it ends. With a part of the rows `--prune` would remove the gateways of the others.
fn check_end(text: &[u8]) -> Result<(), DumpError> {
    const ENDS: [(&[u8], &[u8]); 4] = [
        (b"MySQL dump ", b"-- Dump completed"),
        (b"MariaDB dump ", b"-- Dump completed"),
        (b"-- PostgreSQL database dump\n", b"-- PostgreSQL database dump complete"),
        (b"BEGIN TRANSACTION;\n", b"COMMIT;"),
    ];
    const NEAR: usize = 512;
    let head = text.get(..NEAR).unwrap_or(text);
    let tail = text.get(text.len().saturating_sub(NEAR)..).unwrap_or(text);
    let has = |part: &[u8], words: &[u8]| memchr::memmem::find(part, words).is_some();
    match ENDS.iter().find(|(begin, end)| has(head, begin) && !has(tail, end)) {
        None => Ok(()),
        Some((_, end)) => Err(DumpError {
            line: 1 + memchr::memchr_iter(b'\n', text).count() as u64,
            what: format!(
                "the dump ends without its last line, {:?}; is it whole?",
                String::from_utf8_lossy(end)
            ),
        }),
    }
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    /// As CREATE TABLE has them.
    columns: HashMap<TableName, Vec<String>>,
    rows: Vec<Row>,
}

impl<'a> Reader<'a> {
    fn cut_off(&self) -> DumpError {
        DumpError {
            line: self.lexer.line(),
            what: "the dump ends in the middle of rows; is it whole?".to_owned(),
        }
    }

    /// To the end of the statement.
    fn skip_statement(&mut self) -> Result<(), DumpError> {
        while self.lexer.next()?.is_some_and(|token| token != Token::Symbol(b';')) {}
        Ok(())
    }

    /// A name with what is before its dots, and the word after it.
    fn name(&mut self) -> Result<(String, Option<Token<'a>>), DumpError> {
        let mut name = String::new();
        loop {
            match self.lexer.next()? {
                Some(Token::Word(part)) if name.is_empty() || name.ends_with('.') || part.starts_with('.') => name.push_str(&part),
                Some(Token::Name(part)) if name.is_empty() || name.ends_with('.') => name.push_str(&part),
                other => return Ok((name, other)),
            }
        }
    }

    /// `INSERT INTO table [(columns)] VALUES (…), (…);`
    fn insert(&mut self) -> Result<(), DumpError> {
        // IGNORE, OR REPLACE and the like.
        loop {
            match self.lexer.next()? {
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("into") => break,
                Some(Token::Word(_)) => {}
                None | Some(Token::Symbol(b';')) => return Ok(()),
                Some(_) => return self.skip_statement(),
            }
        }
        let (name, next) = self.name()?;
        let Some(table) = TableName::of(&name) else {
            return if next == Some(Token::Symbol(b';')) {
                Ok(())
            } else {
                self.skip_statement()
            };
        };
        let listed = if next == Some(Token::Symbol(b'(')) {
            Some(self.list()?)
        } else {
            None
        };
        let mut token = if listed.is_some() { self.lexer.next()? } else { next };
        // OVERRIDING SYSTEM VALUE.
        while matches!(&token, Some(Token::Word(word)) if !word.eq_ignore_ascii_case("values")) {
            token = self.lexer.next()?;
        }
        let mut number = 0;
        loop {
            match self.lexer.next()? {
                Some(Token::Symbol(b'(')) => {
                    number += 1;
                    let line = self.lexer.line();
                    let values = self.values()?;
                    let fields = self.fields(table, listed.as_deref(), values);
                    self.rows.push(Row {
                        table,
                        line,
                        number,
                        fields,
                    });
                }
                Some(Token::Symbol(b',')) => {}
                Some(Token::Symbol(b';')) => return Ok(()),
                None => return Err(self.cut_off()),
                // ON CONFLICT DO NOTHING, or a SELECT.
                Some(_) => return self.skip_statement(),
            }
        }
    }

    /// Names up to the closing bracket.
    fn list(&mut self) -> Result<Vec<String>, DumpError> {
        let mut names = Vec::new();
        loop {
            match self.lexer.next()? {
                Some(Token::Word(name)) => names.push(name.to_ascii_lowercase()),
                Some(Token::Name(name)) => names.push(name.to_ascii_lowercase()),
                Some(Token::Symbol(b',')) => {}
                _ => return Ok(names),
            }
        }
    }

    /// The values up to the closing bracket.
    fn values(&mut self) -> Result<Vec<Value>, DumpError> {
        const COMPUTED: Value = Err("a value of it is computed, or not text; write it out");
        let (mut values, mut value, mut depth) = (Vec::new(), None, 0_usize);
        loop {
            let token = self.lexer.next()?.ok_or_else(|| self.cut_off())?;
            match token {
                Token::Symbol(b')') if depth == 0 => {
                    values.extend(value);
                    return Ok(values);
                }
                Token::Symbol(b',') if depth == 0 => values.push(value.take().unwrap_or(COMPUTED)),
                // The character set before a string.
                Token::Word(word) if value.is_none() && word.starts_with('_') => {}
                Token::Word(word) if value.is_none() => {
                    let null = word.eq_ignore_ascii_case("null");
                    value = Some(Ok((!null).then(|| word.into_owned())));
                }
                Token::Text(text) if value.is_none() => {
                    value = Some(
                        String::from_utf8(text)
                            .map(Some)
                            .map_err(|_| "a value of it is not UTF-8; dump it as UTF-8"),
                    );
                }
                Token::Name(text) if value.is_none() => value = Some(Ok(Some(text))),
                other => {
                    match other {
                        Token::Symbol(b'(') => depth += 1,
                        Token::Symbol(b')') => depth -= 1,
                        _ => {}
                    }
                    value = Some(COMPUTED);
                }
            }
        }
    }

    fn fields(&self, table: TableName, listed: Option<&[String]>, values: Vec<Value>) -> Result<HashMap<String, String>, String> {
        let count = values.len();
        let known = listed.or_else(|| self.columns.get(&table).map(Vec::as_slice));
        let columns = match known {
            Some(columns) => columns.to_vec(),
            None => table
                .columns(count)
                .ok_or("nothing says which columns these are; dump the tables with their definition")?
                .iter()
                .map(ToString::to_string)
                .collect(),
        };
        if columns.len() != count {
            return Err(format!("it has {count} values for {} columns", columns.len()));
        }
        let mut fields = HashMap::with_capacity(count);
        for (column, value) in columns.into_iter().zip(values) {
            if let Some(value) = value? {
                fields.insert(column, value);
            }
        }
        Ok(fields)
    }

    /// `COPY table (columns) FROM stdin;` and the lines after it.
    fn copy(&mut self) -> Result<(), DumpError> {
        let (name, next) = self.name()?;
        let listed = if next == Some(Token::Symbol(b'(')) {
            Some(self.list()?)
        } else {
            None
        };
        let mut from_here = false;
        let mut token = if listed.is_some() { self.lexer.next()? } else { next };
        while let Some(word) = token {
            match word {
                Token::Symbol(b';') => break,
                Token::Word(word) => from_here |= word.eq_ignore_ascii_case("stdin"),
                _ => {}
            }
            token = self.lexer.next()?;
        }
        if !from_here {
            return Ok(());
        }
        let table = TableName::of(&name);
        self.lexer.rest_of_line();
        for number in 1.. {
            let line = self.lexer.line();
            let text = self.lexer.rest_of_line().ok_or_else(|| self.cut_off())?;
            if text == b"\\." {
                break;
            }
            if let Some(table) = table {
                let values = text.split(|byte| *byte == b'\t').map(copied).collect();
                let fields = self.fields(table, listed.as_deref(), values);
                self.rows.push(Row {
                    table,
                    line,
                    number,
                    fields,
                });
            }
        }
        Ok(())
    }

    /// `CREATE TABLE table (column …, …);`: in which order the columns are.
    fn create(&mut self) -> Result<(), DumpError> {
        let is_table = |token: &Token<'_>| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("table"));
        let token = self.lexer.next()?;
        match token {
            Some(token) if is_table(&token) => {}
            None | Some(Token::Symbol(b';')) => return Ok(()),
            Some(_) => return self.skip_statement(),
        }
        let (mut name, mut next) = self.name()?;
        if name.eq_ignore_ascii_case("if") {
            // NOT EXISTS: the first of these is `next`.
            self.lexer.next()?;
            (name, next) = self.name()?;
        }
        let Some(table) = TableName::of(&name).filter(|_| next == Some(Token::Symbol(b'('))) else {
            return if next == Some(Token::Symbol(b';')) {
                Ok(())
            } else {
                self.skip_statement()
            };
        };
        let (mut columns, mut depth, mut first) = (Vec::new(), 0_usize, true);
        while let Some(token) = self.lexer.next()? {
            match token {
                Token::Name(name) if first => columns.push(name.to_ascii_lowercase()),
                Token::Word(word) if first && !is_constraint(&word) => columns.push(word.to_ascii_lowercase()),
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') if depth == 0 => break,
                Token::Symbol(b')') => depth -= 1,
                Token::Symbol(b',') if depth == 0 => {
                    first = true;
                    continue;
                }
                _ => {}
            }
            first = false;
        }
        self.columns.insert(table, columns);
        self.skip_statement()
    }
}
