//! The file of gateways.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
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
    // Offsets rise from entry to entry, so lines are counted once.
    let (mut counted, mut line) = (0, 1);
    let mut line_at = |offset: usize| {
        line += text
            .as_bytes()
            .get(counted..offset)
            .map_or(0, |bytes| memchr::memchr_iter(b'\n', bytes).count());
        counted = counted.max(offset);
        line
    };
    let entries = entries(text).map_err(|error| {
        let line = line_at(error.span().map_or(0, |span| span.start));
        // The parser's text names the key; it quotes no value but an unknown word.
        anyhow::anyhow!(
            "{}:{line}: {}; nothing was applied",
            path.display(),
            error.message().replace('\n', " ")
        )
    })?;
    let (mut gateways, mut errors) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut names = std::collections::HashMap::new();
    for (start, entry) in entries {
        let line = line_at(start);
        match gateway(entry) {
            Ok(gateway) => {
                if let Some(first) = names.insert(gateway.name.clone(), line) {
                    errors.push(format!(
                        "{}:{line}: gateway {} is there already, at line {first}; leave one out",
                        path.display(),
                        gateway.name
                    ));
                }
                gateways.push(gateway);
            }
            Err(error) => errors.push(format!("{}:{line}: {error:#}", path.display())),
        }
    }
    if errors.is_empty() {
        return Ok(gateways);
    }
    errors.push("nothing was applied".to_owned());
    Err(Many(errors.join("\n")).into())
}

/// The tables of the file and where each starts.
///
/// The parser holds everything in memory that it has not yet given away, which is a hundred times the text. So a long file is taken in parts that
/// end before a `[[gateway]]`. What cannot be read so (such a line within a string of several lines, or an error) is read as a whole.
fn entries(text: &str) -> Result<Vec<(usize, Entry)>, toml::de::Error> {
    /// Bytes of a part.
    const PART: usize = 256 << 10;
    let (mut all, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let rest = text.get(start..).unwrap_or_default();
        let end = memchr::memmem::find_iter(rest.as_bytes(), b"\n[[gateway]]")
            .find(|end| *end >= PART)
            .map_or(text.len(), |end| start + end + 1);
        let Ok(part) = toml::from_str::<File>(text.get(start..end).unwrap_or_default()) else {
            let whole: File = toml::from_str(text)?;
            return Ok(whole
                .gateway
                .into_iter()
                .map(|entry| (entry.span().start, entry.into_inner()))
                .collect());
        };
        all.extend(
            part.gateway
                .into_iter()
                .map(|entry| (start + entry.span().start, entry.into_inner())),
        );
        start = end;
    }
    Ok(all)
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
