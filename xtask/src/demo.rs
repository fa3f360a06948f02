//! The demo: a lab of network namespaces, real SIP peers, and a call in every mode.

use anyhow::Result;

/// Runs the demo; with `keep`, leaves the lab up.
pub(crate) fn run(_keep: bool) -> Result<()> {
    anyhow::bail!("the demo is not written yet")
}
