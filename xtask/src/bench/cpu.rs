//! CPU time of processes and of the machine, in microseconds.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{UsageWho, getrusage},
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
    unistd::Pid,
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

/// User and system time of the calling thread, exact to the nanosecond.
pub(super) fn of_thread() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}

/// User and system time of the children that have ended and were waited for.
pub(super) fn of_children() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

/// What the kernel has spent in sipauth's programs that are loaded now, while it counted that ([`aya::sys::enable_stats`]). It is part of the
/// time of whoever sent the packets.
pub(super) fn of_programs() -> Result<i64> {
    let mut sum = 0;
    for program in aya::programs::loaded_programs() {
        let program = program?;
        if program.name_as_str().is_some_and(|name| name.starts_with("sipauth_")) {
            sum += i64::try_from(program.run_time().as_nanos())?;
        }
    }
    Ok(sum / 1_000)
}

/// What the whole machine was busy: everything but idle and waiting for disks.
pub(super) fn of_machine() -> Result<i64> {
    busy("cpu")
}

fn busy(name: &str) -> Result<i64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find(|line| line.split(' ').next() == Some(name));
    let line = line.with_context(|| format!("/proc/stat has no {name}"))?;
    let fields: Vec<i64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, softirq, ..] = fields[..] else {
        anyhow::bail!("/proc/stat: {line}");
    };
    Ok((user + nice + system + irq + softirq) * TICK)
}

/// Binds the calling thread, and what it starts from now on, to these processors.
pub(super) fn pin(to: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &one in to {
        set.set(one)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("processors {to:?}"))
}

/// The calling thread, and what it starts from now on, goes before all others of its processor, so that its times are its own on a machine that does other things too.
pub(super) fn prefer() -> Result<()> {
    // SAFETY: no preconditions; zero is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    ensure!(done == 0, "priority: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The processor for the generator, which is the last one, and those for all else: the same one where there is no other.
pub(super) fn split() -> Result<(usize, Vec<usize>)> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut all: Vec<usize> = (0..CpuSet::count()).filter(|&one| allowed.is_set(one).unwrap_or(false)).collect();
    let last = all.pop().context("no processor")?;
    if all.is_empty() {
        all.push(last);
    }
    Ok((last, all))
}

/// What one processor was busy, as [`of_machine`].
pub(super) fn of_processor(which: usize) -> Result<i64> {
    busy(&format!("cpu{which}"))
}
