//! Where the agent's settings come from: the flags of `run`, and a file that is read again at each reload.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ConfigError, DEFAULT_FILE, RawSettings, Settings, file};

/// Flags over a file.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    file: Option<PathBuf>,
    flags: RawSettings,
}

/// Settings, as they were read at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Validated.
    pub settings: Settings,
    /// Keys that the file has and a flag sets to something else.
    pub overruled: Vec<String>,
}

impl Origin {
    /// Of a file, else of the usual one if it is there, and of flags, which win.
    #[must_use]
    pub const fn new(file: Option<PathBuf>, flags: RawSettings) -> Self {
        Self { file, flags }
    }

    /// Reads and validates.
    ///
    /// # Errors
    /// The file, or the first rule that is broken; with the line of the key where the file has it.
    pub fn read(&self) -> Result<Read, ConfigError> {
        let usual = Path::new(DEFAULT_FILE);
        let Some(path) = self.file.as_deref().or_else(|| usual.exists().then_some(usual)) else {
            return Ok(Read {
                settings: self.flags.clone().validate()?,
                overruled: Vec::new(),
            });
        };
        let text = file::read(path)?;
        let raw = file::parse(path, &text)?;
        let flags = serde_json::to_value(&self.flags).unwrap_or_default();
        let mut overruled = Vec::new();
        differing(&flags, &serde_json::to_value(&raw).unwrap_or_default(), "", &mut overruled);
        let settings = self.flags.clone().over(raw).validate().map_err(|error| {
            let key = error.key();
            // What a flag says is not on any line of the file.
            let flagged = flags
                .pointer(&format!("/{}", key.replace('.', "/")))
                .is_some_and(|value| !value.is_null());
            match file::line_of(&text, &key).filter(|_| !flagged) {
                Some(line) => ConfigError::Value {
                    path: path.to_owned(),
                    line,
                    error: Box::new(error),
                },
                None => error,
            }
        })?;
        Ok(Read { settings, overruled })
    }
}

/// Keys that are in both and not the same.
fn differing(flags: &Value, file: &Value, prefix: &str, into: &mut Vec<String>) {
    let (Some(flags), Some(file)) = (flags.as_object(), file.as_object()) else {
        return;
    };
    for (key, flag) in flags {
        match file.get(key) {
            None | Some(Value::Null) => {}
            Some(table @ Value::Object(_)) => differing(flag, table, &format!("{prefix}{key}."), into),
            Some(value) if !flag.is_null() && value != flag => into.push(format!("{prefix}{key}")),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sipauth.toml");
        std::fs::write(&path, text).expect("written");
        (directory, path)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_is_named_where_they_differ() {
        let (_directory, path) =
            written("interface = [\"eth0\"]\nmonitor = true\nrealm = \"same\"\n[digest]\nqop = \"both\"\nchallenge = 407\n");
        let flags = RawSettings {
            monitor: Some(false),
            realm: Some("same".to_owned()),
            digest: super::super::RawDigest {
                challenge: Some(401),
                ..super::super::RawDigest::default()
            },
            ..RawSettings::default()
        };
        let read = Origin::new(Some(path), flags).read().expect("settings");
        assert!(!read.settings.monitor && !read.settings.digest.proxy);
        assert_eq!(read.overruled, ["digest.challenge", "monitor"]);
    }

    #[test]
    fn a_broken_rule_is_named_by_file_line_and_key_unless_a_flag_breaks_it() {
        let (_directory, path) = written("interface = [\"eth0\"]\n\n# often wrong\nban-time = \"1y\"\n");
        let read = |flags| {
            Origin::new(Some(path.clone()), flags)
                .read()
                .expect_err("a broken rule")
                .to_string()
        };
        let error = read(RawSettings::default());
        assert!(error.contains("sipauth.toml:4: ban-time: \"1y\""), "{error}");
        let flagged = read(RawSettings {
            ban_time: Some("2y".to_owned()),
            ..RawSettings::default()
        });
        assert!(flagged.starts_with("ban-time: \"2y\""), "{flagged}");
        let (_directory, path) = written("interface = [\"eth0\"]\n[digest]\nqop = \"auth\"\nchallenge = 403\n");
        let error = Origin::new(Some(path), RawSettings::default())
            .read()
            .expect_err("a broken rule")
            .to_string();
        assert!(error.contains("sipauth.toml:4: digest.challenge: 403"), "{error}");
        let (_directory, path) = written("monitor = true\n");
        let error = Origin::new(Some(path), RawSettings::default())
            .read()
            .expect_err("a broken rule")
            .to_string();
        assert!(error.starts_with("interface: none given"), "{error}");
    }
}
