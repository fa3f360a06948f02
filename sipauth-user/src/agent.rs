//! Runs the agent.

use std::path::Path;

use crate::config::Settings;

/// Runs until told to stop.
///
/// # Errors
/// Always, in this branch.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("this build cannot protect {}: it has no agent", settings.interfaces.join(", "))
}

/// Removes everything that is pinned under `bpffs`, without an agent; answers what was removed.
///
/// # Errors
/// Always, in this branch.
pub fn detach(bpffs: &Path) -> anyhow::Result<Vec<String>> {
    anyhow::bail!("this build cannot detach from {}: it has no agent", bpffs.display())
}
