//! Memory of an agent: of its process, and of its maps in the kernel.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sipauth_tests::lab::{Host, Lab};

use crate::shell;

/// Resident memory of a process, in bytes: now, and the most that it ever was.
pub(super) fn of_process(pid: u32) -> Result<[u64; 2]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?])
}

/// Bytes that the kernel has for the maps that are pinned below a directory or used by the program on the softswitch's interface. From
/// kernel 6.4 on it counts what is allocated; before, it estimates from the sizes.
pub(super) fn of_maps(lab: &Lab, pins: &Path) -> Result<u64> {
    let mut maps = BTreeMap::new();
    let mut keep = |map: &Value| -> Result<()> {
        let number = |key: &str| map[key].as_u64().with_context(|| format!("bpftool: no {key} of {map}"));
        maps.insert(number("id")?, number("bytes_memlock")?);
        Ok(())
    };
    let links: Value = serde_json::from_str(&lab.run(Host::Softswitch, &["ip", "-json", "-details", "link", "show", "eth0"])?)?;
    let program = links[0]["xdp"]["prog"]["id"].as_u64().context("no program on eth0")?;
    let shown = show(&["prog", "show", "id", &program.to_string()])?;
    for id in shown["map_ids"].as_array().into_iter().flatten() {
        keep(&show(&["map", "show", "id", &id.to_string()])?)?;
    }
    for version in fs::read_dir(pins)?.flatten() {
        for pin in fs::read_dir(version.path())?.flatten() {
            // Links are pinned there as well.
            if let Ok(map) = show(&["map", "show", "pinned", &pin.path().display().to_string()]) {
                keep(&map)?;
            }
        }
    }
    ensure!(maps.len() > 1, "{} has no maps", pins.display());
    Ok(maps.values().sum())
}

fn show(what: &[&str]) -> Result<Value> {
    let text = shell::read(Command::new("bpftool").arg("--json").args(what))?;
    serde_json::from_str(&text).with_context(|| format!("bpftool {}: {text}", what.join(" ")))
}
