//! CPU time of processes and of the machine, in microseconds.

use std::fs;

use anyhow::{Context as _, Result};
use nix::{
    sys::resource::{UsageWho, getrusage},
    sys::time::TimeValLike as _,
};

/// Microseconds in a clock tick of `/proc`, which is a hundredth of a second whatever the kernel's own.
const TICK: i64 = 10_000;

/// User and system time of all processes of a process group, which the lab makes one for each program that it starts.
pub(super) fn of_group(group: u32) -> Result<i64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        // Processes come and go meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name, which is in parentheses, may have blanks.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
        // Fields 5, 14 and 15 of proc(5).
        if number(2) == Some(i64::from(group)) {
            ticks += number(11).unwrap_or(0) + number(12).unwrap_or(0);
        }
    }
    Ok(ticks * TICK)
}

/// User and system time of the children that have ended and were waited for.
pub(super) fn of_children() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

/// What the whole machine was busy: everything but idle and waiting for disks.
pub(super) fn of_machine() -> Result<i64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<i64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, softirq, ..] = fields[..] else {
        anyhow::bail!("/proc/stat: {line}");
    };
    Ok((user + nice + system + irq + softirq) * TICK)
}
