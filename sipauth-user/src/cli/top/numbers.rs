//! The rates for a program: of two samples, a second apart.

use std::{path::Path, thread, time::Duration};

use serde::Serialize;

use super::super::{understand, unexpected};
use crate::{
    control::{Client, Health, Request, Response, Sample},
    rates::Rates,
};

/// What `sipauth top --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Numbers {
    #[serde(flatten)]
    rates: Rates,
    health: Health,
}

pub(super) fn numbers(socket: &Path) -> anyhow::Result<Numbers> {
    let mut client = Client::connect(socket)?;
    let before = sample(&mut client)?;
    thread::sleep(Duration::from_secs(1));
    let after = sample(&mut client)?;
    let rates = Rates::between(&before, &after);
    Ok(Numbers {
        rates: rates.ok_or_else(|| anyhow::anyhow!("the agent's clock stands still; ask again"))?,
        health: after.health,
    })
}

fn sample(client: &mut Client) -> anyhow::Result<Sample> {
    match understand(client.call(&Request::Sample)?)? {
        Response::Sample(sample) => Ok(*sample),
        _ => Err(unexpected()),
    }
}
