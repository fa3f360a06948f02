//! `sipauth stats`.

use std::path::Path;

use super::{OutputArgs, ask, output, unexpected};
use crate::control::{Request, Response};

pub(super) fn execute(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Stats(stats) = ask(socket, &Request::Stats)? else {
        return Err(unexpected());
    };
    if output.json {
        return output::json(&stats);
    }
    // A person looks for what happened; the JSON has every series, also those of 0.
    let mut reasons: Vec<_> = stats.reasons.iter().filter(|(_, count)| count.packets > 0).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(count.packets));
    if reasons.is_empty() {
        output::line("no packets yet")?;
    } else {
        let rows = reasons.into_iter().map(|(reason, count)| {
            [
                reason.clone(),
                count.verdict.clone(),
                count.packets.to_string(),
                count.bytes.to_string(),
            ]
        });
        output::table(["reason", "verdict", "packets", "bytes"], rows, 2)?;
    }
    if !stats.gateways.is_empty() {
        output::line("")?;
        let rows = stats.gateways.iter().map(|(name, counts)| {
            let packets = [counts.pass, counts.drop, counts.punt, counts.absorb].map(|count| count.packets.to_string());
            let [pass, drop, punt, absorb] = packets;
            [name.clone(), pass, drop, punt, absorb]
        });
        output::table(["gateway", "pass", "drop", "punt", "absorb"], rows, 1)?;
    }
    let outcomes: Vec<_> = stats.authentication.iter().filter(|(_, count)| **count > 0).collect();
    if !outcomes.is_empty() {
        output::line("")?;
        output::table(
            ["authentication", "count"],
            outcomes.into_iter().map(|(outcome, count)| [outcome.clone(), count.to_string()]),
            1,
        )?;
    }
    Ok(())
}
