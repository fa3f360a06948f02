//! `sipauth status`.

use std::path::{Path, PathBuf};

use super::{OutputArgs, ask, output, unexpected};
use crate::control::{Request, Response};

pub(super) fn execute(output: OutputArgs, socket: &Path) -> anyhow::Result<()> {
    let Response::Status(status) = ask(socket, &Request::Status)? else {
        return Err(unexpected());
    };
    if output.json {
        return output::json(&status);
    }
    output::line(&format!(
        "agent           sipauth {}, pid {}, up {}",
        status.version,
        status.pid,
        duration(status.uptime)
    ))?;
    for interface in &status.interfaces {
        output::line(&format!("interface       {}, XDP {}", interface.name, interface.xdp_mode))?;
    }
    output::line(&format!("ports           {}", output::list(&status.ports)))?;
    output::line(&format!("default policy  {}", status.default_policy))?;
    let enforcing = if status.monitor {
        "no: monitor mode counts verdicts and passes everything"
    } else {
        "yes"
    };
    output::line(&format!("enforcing       {enforcing}"))?;
    output::line(&format!(
        "agent down      {}",
        if status.fail_open {
            "new password calls pass (fail open)"
        } else {
            "new password calls are refused"
        }
    ))?;
    output::line(&format!("gateways        {}", status.gateways))?;
    output::line(&format!("realm           {}", status.realm))?;
    for log in &status.logs {
        let path = |directory: &PathBuf| format!(" {}", directory.join(&log.log).with_extension("jsonl").display());
        let place = log.directory.as_ref().map(path).unwrap_or_default();
        let lost = if log.lost > 0 {
            format!(", {} lost", log.lost)
        } else {
            String::new()
        };
        let why = log.failing.as_ref().map(|why| format!("; the last at {why}")).unwrap_or_default();
        output::line(&format!(
            "{:<15} {}{place}, {} written{lost}{why}",
            log.log, log.target, log.written
        ))?;
    }
    output::line(&format!("map layout      {}", status.layout))
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
