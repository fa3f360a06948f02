//! Who changed what, when, and with which result: a line for each change that is made through the control socket, by a signal, or by name servers, whose
//! answers say where gateways are.
//!
//! Names of things and of fields are written, and values that are no secrets; never a password, hash or key.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use nix::unistd::{Uid, User};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    control::{Caller, GatewayInfo, Refusal, Request, Response},
    gateway::{RawGateway, SetGateway},
    logfile::{Limits, LogFile},
    tally::Tally,
};

/// An audit is kept for as long as there is room for it.
const LIMITS: Limits = Limits {
    bytes: 16 << 20,
    age: None,
    files: 30,
};
/// Result of a change that is made, and its error.
const DONE: (&str, Option<&str>) = ("done", None);
/// Longest part of a line that the log of the agent repeats.
const SHOWN: usize = 400;

/// What somebody asks for, before it is done.
#[derive(Debug)]
pub struct Attempt {
    action: &'static str,
    what: Value,
}

/// Who asks.
#[derive(Debug, Serialize)]
pub struct Author {
    uid: Option<u32>,
    user: Option<String>,
    pid: Option<i32>,
    command: String,
}

/// One line.
#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    action: &'static str,
    #[serde(flatten)]
    author: &'a Author,
    what: &'a Value,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Attempt {
    /// `None` for what changes nothing.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        let (action, what) = match request {
            Request::GatewayAdd { gateway } => (
                "gateway-add",
                json!({ "gateway": short(&gateway.name), "mode": gateway.mode, "fields": given(gateway) }),
            ),
            Request::GatewaySet { name, fields } => ("gateway-set", json!({ "gateway": short(name), "fields": changed(fields) })),
            Request::GatewayRemove { name } => ("gateway-remove", json!({ "gateway": short(name) })),
            Request::Apply { dry_run: true, .. } => return None,
            Request::Apply { gateways, prune, .. } => ("apply", json!({ "gateways": gateways.len(), "prune": prune })),
            Request::BanAdd { bans } => ("ban-add", json!({ "bans": bans })),
            Request::BanRemove { address } => ("ban-remove", json!({ "address": address })),
            Request::Reload => ("reload", json!({})),
            Request::Detach => ("detach", json!({})),
            Request::Export
            | Request::GatewayList
            | Request::GatewayShow { .. }
            | Request::Explain(_)
            | Request::Stats
            | Request::Sample
            | Request::Status
            | Request::BanList
            | Request::FlowList
            | Request::Events { .. }
            | Request::Trace(_) => return None,
        };
        Some(Self { action, what })
    }

    /// Host names that stand for other addresses now, each with those before and after, and the gateways that have them.
    #[must_use]
    pub fn of_names(names: &[(String, Vec<String>, Vec<String>)], gateways: &[String]) -> Self {
        let names: Vec<Value> = names
            .iter()
            .map(|(name, before, after)| json!({ "name": name, "before": before, "after": after }))
            .collect();
        Self {
            action: "host-names",
            what: json!({ "names": names, "gateways": gateways }),
        }
    }

    /// What only the answer says.
    fn complete(&mut self, response: &Response) {
        let more = match response {
            Response::Applied(report) => {
                let names = |all: &[GatewayInfo]| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
                let changed: Vec<Value> = report
                    .changed
                    .iter()
                    .map(|one| json!({ "gateway": one.after.name, "fields": differing(&one.before, &one.after, one.password) }))
                    .collect();
                let added = report.added.iter().map(|one| &one.name).chain(&report.more.added_names);
                json!({ "added": added.collect::<Vec<_>>(), "changed": changed, "removed": names(&report.removed) })
            }
            Response::Reloaded(report) => json!({ "applied": report.applied, "restart": report.restart }),
            Response::Detached { removed } => json!({ "removed": removed }),
            _ => return,
        };
        if let (Some(what), Value::Object(more)) = (self.what.as_object_mut(), more) {
            what.extend(more);
        }
    }
}

impl Author {
    /// Whoever is at the other end of the control socket. Asks the system for names, which may take time.
    #[must_use]
    pub fn of(caller: Caller) -> Self {
        // 0 is a process that this one cannot see.
        let pid = caller.pid.filter(|pid| *pid > 0);
        let name = pid.and_then(|pid| fs::read(format!("/proc/{pid}/comm")).ok()).unwrap_or_default();
        Self {
            uid: Some(caller.uid),
            user: User::from_uid(Uid::from_raw(caller.uid)).ok().flatten().map(|user| user.name),
            pid,
            command: String::from_utf8_lossy(&name).trim_end().to_owned(),
        }
    }

    /// What is no process that could be named: a signal, of which the kernel does not say who sent it, or name servers.
    #[must_use]
    pub fn unnamed(name: &str) -> Self {
        Self {
            uid: None,
            user: None,
            pid: None,
            command: name.to_owned(),
        }
    }
}

/// The file, and what became of its lines.
#[derive(Debug)]
pub struct Audit {
    file: Mutex<LogFile>,
    /// Lines written and lost.
    pub tally: Tally,
}

impl Audit {
    /// In a directory; nothing is made before the first line.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self {
            file: Mutex::new(LogFile::new(directory, "audit", LIMITS)),
            tally: Tally::new("audit"),
        }
    }

    /// Writes what was asked for and what came of it, to the file and to the log. Blocks. A line that cannot be written is no reason to
    /// refuse a change: it is counted, and still in the log.
    pub fn record(&self, author: &Author, mut attempt: Attempt, response: &Response) {
        attempt.complete(response);
        let outcome = match response {
            Response::Error {
                refusal: Refusal::No,
                message,
            } => ("refused", Some(message.as_str())),
            Response::Error {
                refusal: Refusal::Failed,
                message,
            } => ("failed", Some(message.as_str())),
            _ => DONE,
        };
        self.write(author, &attempt, outcome);
    }

    /// Likewise of a change that nobody asked for and that is made.
    pub fn record_made(&self, author: &Author, attempt: &Attempt) {
        self.write(author, attempt, DONE);
    }

    fn write(&self, author: &Author, attempt: &Attempt, (result, error): (&'static str, Option<&str>)) {
        let what = shown(&attempt.what.to_string());
        let Author { uid, user, pid, command } = author;
        match result {
            "failed" => tracing::warn!(%what, result, error, user, uid, pid, command, "{}", attempt.action),
            _ => tracing::info!(%what, result, error, user, uid, pid, command, "{}", attempt.action),
        }
        let now = SystemTime::now();
        let entry = Entry {
            time: humantime::format_rfc3339_millis(now).to_string(),
            action: attempt.action,
            author,
            what: &attempt.what,
            result,
            error,
        };
        let Ok(line) = serde_json::to_string(&entry) else { return };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let path = file.path();
        self.tally.count(file.append(&line, now), &path.display());
    }
}

/// A name that was not validated may be anything.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn names<const N: usize>(fields: [(&'static str, bool); N]) -> Vec<&'static str> {
    fields.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// The fields that a new gateway has.
fn given(gateway: &RawGateway) -> Vec<&'static str> {
    let RawGateway {
        name: _,
        mode: _,
        addresses,
        ports,
        username,
        realm,
        password,
        allow_weak_password,
        credentials,
        digest,
        priority,
    } = gateway;
    names([
        ("addresses", !addresses.is_empty()),
        ("ports", !ports.is_empty()),
        ("username", username.is_some()),
        ("realm", realm.is_some()),
        ("password", password.is_some() || credentials.is_some()),
        ("allow-weak-password", *allow_weak_password),
        ("digest", !digest.is_empty()),
        ("priority", *priority != 0),
    ])
}

/// The fields that are set.
fn changed(fields: &SetGateway) -> Vec<&'static str> {
    let SetGateway {
        mode,
        addresses,
        ports,
        username,
        realm,
        password,
        allow_weak_password,
        digest,
        priority,
    } = fields;
    names([
        ("mode", mode.is_some()),
        ("addresses", addresses.is_some()),
        ("ports", ports.is_some()),
        ("username", username.is_some()),
        ("realm", realm.is_some()),
        ("password", password.is_some()),
        ("allow-weak-password", *allow_weak_password),
        ("digest", !digest.is_empty()),
        ("priority", priority.is_some()),
    ])
}

fn differing(before: &GatewayInfo, after: &GatewayInfo, password: bool) -> Vec<&'static str> {
    names([
        ("mode", before.mode != after.mode),
        ("addresses", before.addresses != after.addresses),
        ("ports", before.ports != after.ports),
        ("username", before.username != after.username),
        ("realm", before.realm != after.realm),
        ("password", password),
        ("digest", before.digest != after.digest),
        ("priority", before.priority != after.priority),
    ])
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
