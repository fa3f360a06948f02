//! The words of SQL, as far as dumps need them.

use std::borrow::Cow;

use super::DumpError;

/// A word of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or number without quotes.
    Word(Cow<'a, str>),
    /// A name in quotes.
    Name(String),
    /// A string. Not always UTF-8.
    Text(Vec<u8>),
    /// Anything else.
    Symbol(u8),
}

/// Reads a text word by word.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// Number of the line that comes next.
    line: u64,
    /// MySQL's dialect: a backslash in a string takes the next character with it, and `#` begins a comment.
    mysql: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let has = |part: &[u8], words: &[u8]| part.windows(words.len()).any(|window| window == words);
        let head = text.get(..4096).unwrap_or(text);
        let other = has(head, b"PostgreSQL database dump") || has(head, b"BEGIN TRANSACTION;");
        let named = has(head, b"MySQL dump") || has(head, b"MariaDB dump");
        // A dump without its comments: nobody else writes names so.
        let mysql = !other && (named || memchr::memmem::find(text, b"INTO `").is_some());
        Self {
            text,
            at: 0,
            line: 1,
            mysql,
        }
    }

    /// Number of the line where the next word may begin.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// The next word; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, DumpError> {
        self.skip_blank();
        let Some(byte) = self.peek() else { return Ok(None) };
        Ok(Some(match byte {
            b'\'' => Token::Text(self.string(b'\'', self.mysql)?),
            b'"' | b'`' => Token::Name(String::from_utf8_lossy(&self.string(byte, false)?).into_owned()),
            b'$' if !self.mysql => self.dollar_quoted()?,
            b'-' | b'+' if self.text.get(self.at + 1).is_some_and(u8::is_ascii_digit) => self.word(),
            _ if is_word(byte) => self.prefixed()?,
            _ => {
                self.at += 1;
                Token::Symbol(byte)
            }
        }))
    }

    /// What is left of the line, without its end; `None` at the end of the text.
    pub(super) fn rest_of_line(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = memchr::memchr(b'\n', rest);
        self.at += end.map_or(rest.len(), |end| end + 1);
        self.line += u64::from(end.is_some());
        let line = end.map_or(rest, |end| &rest[..end]);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn error(line: u64, what: &str) -> DumpError {
        DumpError {
            line,
            what: format!("{what}; is the dump whole?"),
        }
    }

    fn skip_blank(&mut self) {
        while let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) {
            if rest[0].is_ascii_whitespace() {
                self.line += u64::from(rest[0] == b'\n');
                self.at += 1;
            } else if rest.starts_with(b"--") || (self.mysql && rest[0] == b'#') {
                self.rest_of_line();
            } else if rest.starts_with(b"/*") {
                // One that does not end has the whole rest in it.
                let end = memchr::memmem::find(&rest[2..], b"*/").map_or(rest.len(), |end| end + 4);
                self.pass(end);
            } else {
                return;
            }
        }
    }

    /// Steps over so many bytes.
    fn pass(&mut self, bytes: usize) {
        let passed = &self.text[self.at..self.at + bytes];
        self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.at += bytes;
    }

    fn word(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let length = rest[1..].iter().position(|byte| !is_word(*byte)).map_or(rest.len(), |end| end + 1);
        self.at += length;
        Token::Word(String::from_utf8_lossy(&rest[..length]))
    }

    /// A word, or a string with a letter before it: `E'…'` has escapes, `X'…'` is in hex, and `N'…'` and `_utf8'…'` are as they are.
    fn prefixed(&mut self) -> Result<Token<'a>, DumpError> {
        let line = self.line;
        let Token::Word(word) = self.word() else {
            return Err(Self::error(line, "no word"));
        };
        if self.peek() != Some(b'\'') {
            return Ok(Token::Word(word));
        }
        Ok(match &*word {
            "E" | "e" => Token::Text(self.string(b'\'', true)?),
            "N" | "n" => Token::Text(self.string(b'\'', self.mysql)?),
            "X" | "x" => Token::Text(unhex(&self.string(b'\'', false)?).ok_or_else(|| Self::error(line, "a string that is not in hex"))?),
            _ => Token::Word(word),
        })
    }

    /// A quoted text; a quote in it is written twice.
    fn string(&mut self, quote: u8, escapes: bool) -> Result<Vec<u8>, DumpError> {
        let begin = self.line;
        let mut out = Vec::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let next = if escapes {
                memchr::memchr2(quote, b'\\', rest)
            } else {
                memchr::memchr(quote, rest)
            };
            let end = next.ok_or_else(|| Self::error(begin, "a quote that is never closed"))?;
            out.extend_from_slice(&rest[..end]);
            let follows = rest.get(end + 1).copied();
            match (rest[end], follows) {
                (b'\\', Some(byte)) => {
                    self.pass(end + 2);
                    out.push(match byte {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'0' if self.mysql => 0,
                        b'Z' if self.mysql => 26,
                        other => other,
                    });
                }
                (found, Some(twice)) if found == quote && twice == quote => {
                    self.pass(end + 2);
                    out.push(quote);
                }
                (found, _) if found == quote => {
                    self.pass(end + 1);
                    return Ok(out);
                }
                _ => return Err(Self::error(begin, "a quote that is never closed")),
            }
        }
    }

    /// `$tag$ … $tag$`, in which nothing is special (PostgreSQL).
    fn dollar_quoted(&mut self) -> Result<Token<'a>, DumpError> {
        let rest = &self.text[self.at..];
        let length = rest[1..].iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
        let Some(length) = length.filter(|length| rest[1 + length] == b'$') else {
            self.at += 1;
            return Ok(Token::Symbol(b'$'));
        };
        let (tag, inner) = rest.split_at(length + 2);
        let end = memchr::memmem::find(inner, tag).ok_or_else(|| Self::error(self.line, "a $-quote that is never closed"))?;
        self.pass(2 * tag.len() + end);
        Ok(Token::Text(inner[..end].to_vec()))
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || byte >= 0x80
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks(2);
    pairs
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}
