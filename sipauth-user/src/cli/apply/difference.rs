//! What `apply` shows before it does it.

use std::{
    fmt::Display,
    io::{IsTerminal as _, stdout},
};

use super::{super::gateway::who, output};
use crate::control::{ApplyReport, ChangedGateway, GatewayInfo};

/// Lines of each kind that are shown; of a hundred thousand gateways nobody reads more.
const SHOWN: usize = 200;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Prints the difference and who is cut off by it.
pub(super) fn print(report: &ApplyReport) -> anyhow::Result<()> {
    let paint = Paint(stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let line = |gateway: &GatewayInfo| format!("{} (mode {}): {}", gateway.name, gateway.mode, who(gateway));
    some(&report.added, report.more.added, |gateway| {
        output::line(&paint.with(GREEN, format!("+ {}", line(gateway))))
    })?;
    some(&report.changed, report.more.changed, |changed| {
        output::line(&paint.with(YELLOW, format!("~ {}", changed.after.name)))?;
        fields(changed)?.into_iter().try_for_each(|(field, before, after)| {
            output::line(&format!("    {field}: {} -> {}", paint.with(RED, before), paint.with(GREEN, after)))
        })
    })?;
    some(&report.removed, report.more.removed, |gateway| {
        output::line(&paint.with(RED, format!("- {}", line(gateway))))
    })?;
    for warning in &report.warnings {
        output::note(&format!("warning: {warning}"));
    }
    let lost = report
        .changed
        .iter()
        .filter_map(|changed| Some((&changed.after.name, losses(changed)?)));
    let lost: Vec<String> = report
        .removed
        .iter()
        .map(|gateway| format!("{}: {}", gateway.name, who(gateway)))
        .chain(lost.map(|(name, what)| format!("{name}: {what}")))
        .collect();
    if !lost.is_empty() {
        output::line(&paint.with(RED, "cut off:".to_owned()))?;
        some(&lost, report.more.changed + report.more.removed, |one| {
            output::line(&format!("  {one}"))
        })?;
    }
    Ok(())
}

/// In a line.
pub(super) fn summary(report: &ApplyReport) -> String {
    format!(
        "{} added, {} changed, {} removed, {} unchanged",
        report.added.len() + report.more.added,
        report.changed.len() + report.more.changed,
        report.removed.len() + report.more.removed,
        report.unchanged
    )
}

fn some<T>(all: &[T], unnamed: usize, print: impl FnMut(&T) -> anyhow::Result<()>) -> anyhow::Result<()> {
    all.iter().take(SHOWN).try_for_each(print)?;
    match all.len().saturating_sub(SHOWN) + unnamed {
        0 => Ok(()),
        more => output::line(&format!("  and {more} more")),
    }
}

/// The fields that differ, by their names in the file.
fn fields(changed: &ChangedGateway) -> anyhow::Result<Vec<(String, String, String)>> {
    let as_object = |info: &GatewayInfo| match serde_json::to_value(info) {
        Ok(serde_json::Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(serde_json::Map::new()),
        Err(error) => Err(error),
    };
    let (before, after) = (as_object(&changed.before)?, as_object(&changed.after)?);
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let text = |value: Option<&serde_json::Value>| match value {
        None | Some(serde_json::Value::Null) => "(none)".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let mut differ: Vec<_> = names
        .into_iter()
        // What host names stand for follows from them.
        .filter(|name| *name != "names" && before.get(*name) != after.get(*name))
        .map(|name| (name.clone(), text(before.get(name)), text(after.get(name))))
        .collect();
    if changed.password {
        differ.push(("password".to_owned(), "(secret)".to_owned(), "(another)".to_owned()));
    }
    Ok(differ)
}

/// Whose calls a changed gateway no longer admits; `None` for nobody's.
fn losses(changed: &ChangedGateway) -> Option<String> {
    let (before, after) = (&changed.before, &changed.after);
    if before.mode != after.mode {
        return Some(format!("mode {} is now {}", before.mode, after.mode));
    }
    if changed.password || before.username != after.username {
        return Some("whoever has the old credentials".to_owned());
    }
    let gone: Vec<String> = before
        .addresses
        .iter()
        .filter(|one| !after.addresses.contains(one))
        .cloned()
        .collect();
    let narrowed = before.addresses.is_empty() && !after.addresses.is_empty();
    if narrowed {
        return Some("calls from anywhere else than its addresses".to_owned());
    }
    // Without an address it may call from anywhere.
    if !gone.is_empty() && !after.addresses.is_empty() {
        return Some(format!("calls from {}", output::shortened(&gone)));
    }
    let ports: Vec<&u16> = before.ports.iter().filter(|port| !after.ports.contains(port)).collect();
    (!ports.is_empty()).then(|| format!("calls from source port {}", output::list(&ports)))
}

/// Colours, where somebody looks at them.
struct Paint(bool);

impl Paint {
    fn with(&self, colour: &str, text: impl Display) -> String {
        if self.0 {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}
