//! Another reading of messages to compare with: slow, simple, and sharing no code with the parser.

/// No control characters but tabs, and line ends only where a line is folded.
pub(super) fn is_one_line(value: &[u8]) -> bool {
    if value.contains(&0) {
        return false;
    }
    let text: Vec<u8> = value.iter().copied().filter(|byte| *byte != b'\r').collect();
    let folded = text
        .split(|byte| *byte == b'\n')
        .skip(1)
        .all(|line| matches!(line.first(), Some(b' ' | b'\t')));
    let carriage_returns_end_lines = value.windows(2).all(|pair| pair[0] != b'\r' || pair[1] == b'\n') && value.last() != Some(&b'\r');
    folded && carriage_returns_end_lines
}

/// Only CRLF ends a line, and nothing is folded.
pub(super) fn has_clean_lines(message: &[u8]) -> bool {
    let lines: Vec<&[u8]> = message.split(|byte| *byte == b'\n').collect();
    lines.last().is_some_and(|last| last.is_empty())
        && lines[..lines.len() - 1].iter().all(|line| {
            line.strip_suffix(b"\r")
                .is_some_and(|line| !line.contains(&b'\r') && !matches!(line.first(), Some(b' ' | b'\t')))
        })
}

/// What is before and after the first blank line, the line ends before the message left out.
pub(super) fn halves(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let begin = data.iter().position(|byte| *byte != b'\r' && *byte != b'\n')?;
    let data = &data[begin..];
    let mut start = 0;
    loop {
        let length = data[start..].iter().position(|byte| *byte == b'\n')?;
        let line = &data[start..start + length];
        let next = start + length + 1;
        if line.is_empty() || line == b"\r" {
            return Some((&data[..start], &data[next..]));
        }
        start = next;
    }
}

/// The header lines: names in lower case, values with each run of white space made one space.
pub(super) fn headers(data: &[u8]) -> Vec<(String, String)> {
    let head = halves(data).map_or(data, |(head, _)| head);
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).skip(1) {
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| {
            (
                name.trim_end_matches([' ', '\t', '\n', '\r']).to_ascii_lowercase(),
                words(&latin1(value)),
            )
        })
        .collect()
}

/// The words of a value, each a space apart; bytes become characters one to one.
pub(super) fn words(value: &[u8]) -> String {
    let text: String = value.iter().map(|byte| char::from(*byte)).collect();
    text.split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect()
}
