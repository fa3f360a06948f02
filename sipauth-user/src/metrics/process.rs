//! The agent's own process, by the names that Prometheus' client libraries have in common.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// What `/proc` says of this process; zeros where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) start_time_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) open_fds: u64,
}

impl Process {
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            open_fds: u64::try_from(fds).unwrap_or(u64::MAX),
            ..Self::of(
                &stat,
                boot.unwrap_or_default(),
                unit(SysconfVar::CLK_TCK),
                unit(SysconfVar::PAGE_SIZE),
            )
            .unwrap_or_default()
        }
    }

    /// By proc(5): after the command in brackets, which may hold anything, field 3 is the first.
    #[expect(clippy::cast_precision_loss, reason = "clock ticks of a process are far below 2^52")]
    fn of(stat: &str, boot: u64, ticks: u64, page: u64) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let seconds = |count: u64| count as f64 / ticks.max(1) as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)? + field(15)?),
            start_time_seconds: boot as f64 + seconds(field(22)?),
            resident_bytes: field(24)? * page,
            open_fds: 0,
        })
    }
}

fn unit(what: SysconfVar) -> u64 {
    sysconf(what)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_whatever_the_command_is_called() {
        let stat = "12 (si) p) 3) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 900 20 7 22";
        let process = Process::of(stat, 1_000_000, 100, 4096).expect("all fields");
        assert_eq!(process.cpu_seconds.to_bits(), 2.0_f64.to_bits());
        assert_eq!(process.start_time_seconds.to_bits(), 1_000_009.0_f64.to_bits());
        assert_eq!(process.resident_bytes, 7 * 4096);
        assert!(Process::of("12 (short) S 1", 0, 100, 4096).is_none());
    }

    #[test]
    fn this_process_has_memory_and_has_begun_lately() {
        let process = Process::now();
        assert!(process.resident_bytes > 1 << 20 && process.open_fds > 2, "{process:?}");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        assert!((now - process.start_time_seconds).abs() < 3_600.0, "{process:?} at {now}");
    }
}
