//! `sipauth reload`.

use std::path::Path;

use super::{OutputArgs, ask, output, unexpected};
use crate::control::{Request, Response};

pub(super) fn execute(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Reloaded(report) = ask(socket, &Request::Reload)? else {
        return Err(unexpected());
    };
    report.warnings.iter().for_each(|warning| output::note(warning));
    if output.json {
        return output::json(&report);
    }
    if report.applied.is_empty() {
        output::line("nothing changed that can be applied while the agent runs")?;
    } else {
        output::line(&format!("applied: {}", report.applied.join(", ")))?;
    }
    if !report.restart.is_empty() {
        output::line(&format!("needs a restart: {}", report.restart.join(", ")))?;
    }
    if !report.overruled.is_empty() {
        output::line(&format!("overruled by a flag of `sipauth run`: {}", report.overruled.join(", ")))?;
    }
    Ok(())
}
