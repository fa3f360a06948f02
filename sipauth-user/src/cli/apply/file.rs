//! The file of gateways.

use std::{
    cell::LazyCell,
    collections::HashMap,
    io::Read as _,
    num::NonZero,
    ops::Range,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context as _;
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{super::password::read_password, Many};
use crate::{
    config::RawDigest,
    gateway::{Mode, RawGateway, Secret},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    gateway: Vec<Spanned<Entry>>,
}

/// A table `[[gateway]]`: the fields of [`RawGateway`], and where to read a password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    mode: Mode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_weak_password: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credentials: Option<Secret>,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: i32,
    #[serde(default, skip_serializing_if = "RawDigest::is_empty")]
    digest: RawDigest,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

/// Reads the file; every line that is wrong is named, and then nothing is returned.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<RawGateway>> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}; check --file", path.display()))?
    };
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> anyhow::Result<Vec<RawGateway>> {
    let newlines = LazyCell::new(|| memchr::memchr_iter(b'\n', text.as_bytes()).collect::<Vec<_>>());
    let line = |offset: usize| 1 + newlines.partition_point(|at| *at < offset);
    let place = |offset: usize| format!("{}:{}", path.display(), line(offset));
    let parts = parts(text).map_err(|error| {
        // The parser's text names the key; it quotes no value but an unknown word.
        anyhow::anyhow!(
            "{}: {}; nothing was applied",
            place(error.span().map_or(0, |span| span.start)),
            error.message().replace('\n', " ")
        )
    })?;
    let count = parts.iter().map(Vec::len).sum();
    let (mut gateways, mut starts, mut errors) = (Vec::with_capacity(count), Vec::with_capacity(count), Vec::new());
    for (start, gateway) in parts.into_iter().flatten() {
        match gateway {
            Ok(gateway) => {
                gateways.push(gateway);
                starts.push(start);
            }
            Err(error) => errors.push((start, format!("{}: {error:#}", place(start)))),
        }
    }
    let mut names = HashMap::with_capacity_and_hasher(count, RandomState::default());
    for (gateway, &start) in gateways.iter().zip(&starts) {
        let name = gateway.name.as_str();
        if let Some(first) = names.insert(name, start) {
            let text = format!("gateway {name} is there already, at line {}; leave one out", line(first));
            errors.push((start, format!("{}: {text}", place(start))));
        }
    }
    if errors.is_empty() {
        return Ok(gateways);
    }
    errors.sort_by_key(|(start, _)| *start);
    let mut texts: Vec<String> = errors.into_iter().map(|(_, text)| text).collect();
    texts.push("nothing was applied".to_owned());
    Err(Many(texts.join("\n")).into())
}

/// A table of the file: where it starts, and the gateway, or what is wrong with it.
type Table = (usize, anyhow::Result<RawGateway>);

/// The tables of the file, in its order.
///
/// The parser holds everything in memory that it has not yet given away, which is a hundred times the text. So a long file is taken in parts that
/// end before a `[[gateway]]`, by as many threads as there are CPUs. What cannot be read so (such a line within a string of several lines, or an
/// error) is read as a whole.
fn parts(text: &str) -> Result<Vec<Vec<Table>>, toml::de::Error> {
    /// Bytes of a part.
    const PART: usize = 256 << 10;
    let (mut starts, mut end) = (vec![0], PART);
    while let Some(found) = text
        .as_bytes()
        .get(end..)
        .and_then(|rest| memchr::memmem::find(rest, b"\n[[gateway]]"))
    {
        let start = end + found + 1;
        starts.push(start);
        end = start + PART;
    }
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    let ranges: Vec<_> = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let read = |some: &[Range<usize>]| some.iter().map(|part| tables(text, part.clone())).collect::<Result<Vec<_>, _>>();
    let all = thread::scope(|scope| {
        let shares = ranges.chunks(ranges.len().div_ceil(threads));
        let readers: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
        let read = readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic)));
        read.collect::<Result<Vec<_>, _>>()
    });
    match all {
        Ok(all) => Ok(all.into_iter().flatten().collect()),
        Err(_) => Ok(vec![tables(text, 0..text.len())?]),
    }
}

fn tables(text: &str, part: Range<usize>) -> Result<Vec<Table>, toml::de::Error> {
    let start = part.start;
    let file: File = toml::from_str(text.get(part).unwrap_or_default())?;
    let tables = file.gateway.into_iter();
    Ok(tables
        .map(|table| (start + table.span().start, gateway(table.into_inner())))
        .collect())
}

fn gateway(entry: Entry) -> anyhow::Result<RawGateway> {
    let password = match (entry.password, &entry.password_file) {
        (Some(_), Some(_)) => anyhow::bail!("gateway {}: password and password-file; give one of them", entry.name),
        (None, Some(file)) => Some(read_password(file).with_context(|| format!("gateway {}", entry.name))?),
        (password, None) => password,
    };
    let raw = RawGateway {
        name: entry.name,
        mode: entry.mode,
        addresses: entry.addresses,
        ports: entry.ports,
        username: entry.username,
        realm: entry.realm,
        password,
        allow_weak_password: entry.allow_weak_password,
        credentials: entry.credentials,
        digest: entry.digest,
        priority: entry.priority,
    };
    // The agent judges; judging here as well tells the line. Only it knows whether a missing password is known already.
    let mut checked = raw.clone();
    if checked.mode == Mode::Password && checked.password.is_none() && checked.credentials.is_none() {
        checked.password = Some(Secret::new("known to the agent".to_owned()));
        checked.allow_weak_password = true;
    }
    checked.validate("sipauth", None, |_, _, _| Secret::default())?;
    Ok(raw)
}

/// The file that gives these gateways.
pub(super) fn write(gateways: &[RawGateway]) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Written {
        gateway: Vec<Entry>,
    }
    let entry = |raw: &RawGateway| {
        let raw = raw.clone();
        Entry {
            name: raw.name,
            mode: raw.mode,
            addresses: raw.addresses,
            ports: raw.ports,
            username: raw.username,
            realm: raw.realm,
            password: raw.password,
            password_file: None,
            allow_weak_password: raw.allow_weak_password,
            credentials: raw.credentials,
            priority: raw.priority,
            digest: raw.digest,
        }
    };
    let written = Written {
        gateway: gateways.iter().map(entry).collect(),
    };
    toml::to_string(&written).context("the gateways cannot be written as TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
[[gateway]]
name = \"carrier-a\"
mode = \"ip\"
addresses = [\"203.0.113.5\", \"198.51.100.0/24\"]
priority = 2

[[gateway]]
name = \"office\"
mode = \"password\"
username = \"office1\"
password = \"a good one\"
[gateway.digest]
algorithms = [\"SHA-256\", \"MD5\"]
challenge = 407
";

    fn lines(text: &str) -> String {
        parse(Path::new("g.toml"), text).expect_err("an error").to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let read = parse(Path::new("g.toml"), GOOD).expect("gateways");
        assert_eq!(read.len(), 2);
        let written = write(&read).expect("text");
        assert_eq!(parse(Path::new("g.toml"), &written).expect("gateways"), read, "{written}");
    }

    #[test]
    fn a_long_file_is_read_as_if_it_were_short() {
        let entry = |n: usize| {
            format!(
                "[[gateway]]\nname = \"g-{n}\"\nmode = \"ip\"\naddresses = [\"10.{}.{}.1\"]\n",
                n / 256,
                n % 256
            )
        };
        let text: String = (0..20_000).map(entry).collect();
        assert!(text.len() > 1 << 20);
        let read = parse(Path::new("g.toml"), &text).expect("gateways");
        assert_eq!((read.len(), read[19_999].name.as_str()), (20_000, "g-19999"));
        let error = lines(&format!(
            "{text}[[gateway]]\nname = \"g-3\"\nmode = \"ip\"\naddresses = [\"10.0.0.1\"]\n"
        ));
        assert!(error.contains("g.toml:80001: gateway g-3 is there already, at line 13"), "{error}");
        let error = lines(&format!("{text}[[gateway]]\nname = \"x\"\nmode = \"ipp\"\n"));
        assert!(error.starts_with("g.toml:80003: "), "{error}");
        // Not a table: a part of a string.
        let odd = format!(
            "{text}[[gateway]]\nmode = \"ip\"\naddresses = [\"10.9.9.9\"]\nname = \"\"\"\n[[gateway]]\n\"\"\"\n{}",
            text.replace("g-", "h-")
        );
        let error = lines(&odd);
        assert!(error.contains("g.toml:80001: ") && !error.contains("already"), "{error}");
    }

    #[test]
    fn every_wrong_entry_is_named_by_its_line() {
        let text = format!(
            "{GOOD}\n[[gateway]]\nname = \"b\"\nmode = \"ip\"\naddresses = [\"300.1.1.1\"]\n[[gateway]]\nname = \"office\"\nmode = \"ip\"\naddresses = [\"10.0.0.1\"]\n"
        );
        let error = lines(&text);
        assert!(error.contains("g.toml:17: gateway b: \"300.1.1.1\" is not an address"), "{error}");
        assert!(error.contains("g.toml:21: gateway office is there already, at line 8"), "{error}");
        assert!(error.ends_with("nothing was applied"));
        let unknown = lines("[[gateway]]\nname = \"a\"\nmode = \"ip\"\nadress = [\"10.0.0.1\"]\n");
        assert!(unknown.starts_with("g.toml:4: ") && unknown.contains("adress"), "{unknown}");
        let mode = lines("[[gateway]]\nname = \"a\"\nmode = \"ipp\"\n");
        assert!(mode.starts_with("g.toml:3: ") && mode.contains("ipp"), "{mode}");
    }
}
