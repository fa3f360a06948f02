//! `sipauth top`: the numbers of `--json` under calls, and the screen in a pseudo-terminal.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sipauth_tests::agent::{Agent, binary};
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas};
use sipauth_tests::require_root;

use crate::support::{add, lab};

#[test]
fn the_rates_of_top_are_those_of_the_calls() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    add(&agent, Host::CarrierPort)?;
    let of = |rates: &serde_json::Value, gateway: Host| rates["gateways"][gateway.name()]["pass"]["packets"].as_f64();

    let idle = agent.json(&["top"])?;
    assert_eq!(
        (idle["verdicts"]["pass"]["packets"].as_f64(), of(&idle, Host::CarrierIp)),
        (Some(0.0), Some(0.0))
    );
    assert_eq!((&idle["lanes"][0]["lane"], &idle["health"]["bans"]), (&"trusted".into(), &0.into()));

    // 30 calls a second, each of an INVITE, an ACK and a BYE.
    let calls = Call::from(Host::CarrierIp).times(180, 30).start(&lab)?;
    let refused = Call::from(Host::Stranger).times(60, 10).start(&lab)?;
    std::thread::sleep(Duration::from_secs(2));
    let busy = agent.json(&["top"])?;
    let (rate, drops) = (of(&busy, Host::CarrierIp), busy["verdicts"]["drop"]["packets"].as_f64());
    assert!(rate.is_some_and(|rate| (60.0..=120.0).contains(&rate)), "90 a second: {busy:#}");
    // Each refused INVITE is sent three times.
    assert!(drops.is_some_and(|rate| (15.0..=45.0).contains(&rate)), "30 a second: {busy:#}");
    assert_eq!(of(&busy, Host::CarrierPort), Some(0.0), "which does not call");
    assert!(calls.finish()?.all_answered());
    assert!(refused.finish()?.all_refused());
    Ok(())
}

#[test]
fn the_screen_shows_calls_outlives_the_agent_and_leaves_the_terminal_as_it_was() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let mut agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    assert_eq!(agent.cli(&["top"])?.code, 2, "without a terminal");

    let mut screen = Screen::open(&agent)?;
    let calls = Call::from(Host::Stranger).times(20, 10).start(&lab)?;
    screen.wait_for(Host::CarrierIp.name())?;
    screen.wait_for("unknown_source")?;
    calls.finish()?;
    agent.stop()?;
    screen.wait_for("AGENT AWAY")?;
    agent.restart()?;
    screen.wait_for("live")?;
    screen.press("q")?;
    screen.left()?;

    let mut screen = Screen::open(&agent)?;
    screen.wait_for(Host::CarrierIp.name())?;
    let inner = std::fs::read_to_string(agent.state().join("top.pid"))?;
    kill(Pid::from_raw(inner.trim().parse()?), Signal::SIGTERM)?;
    screen.left()?;

    let mut screen = Screen::open(&agent)?;
    screen.wait_for(Host::CarrierIp.name())?;
    let inner = std::fs::read_to_string(agent.state().join("top.pid"))?;
    let place = std::path::PathBuf::from(format!("/proc/{}/fd", inner.trim()));
    screen.child.kill()?;
    screen.child.wait()?;
    let begin = Instant::now();
    // What is left of a program that has ended, until its parent asks, has no files.
    while std::fs::read_dir(&place).is_ok_and(|files| files.count() > 0) {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(20), "top goes on without its terminal");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// `sipauth top` in a pseudo-terminal of 80 by 24, which `script` makes.
struct Screen {
    child: Child,
    drawn: std::path::PathBuf,
    seen: usize,
}

impl Screen {
    fn open(agent: &Agent<'_>) -> anyhow::Result<Self> {
        let (pid, drawn) = (agent.state().join("top.pid"), agent.state().join("top.drawn"));
        for old in [&pid, &drawn] {
            let _ = std::fs::remove_file(old);
        }
        let command = format!(
            "stty rows 24 cols 80; echo $$ > {}; exec {} --socket {} top",
            pid.display(),
            binary()?.display(),
            agent.socket().display()
        );
        let child = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &command])
            .arg(&drawn)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("script (package bsdutils)")?;
        Ok(Self { child, drawn, seen: 0 })
    }

    fn press(&mut self, key: &str) -> anyhow::Result<()> {
        self.child.stdin.as_mut().context("no stdin")?.write_all(key.as_bytes())?;
        Ok(())
    }

    fn drawn(&self) -> String {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.drawn).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for a text that is drawn after what has been waited for before.
    fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let drawn = self.drawn();
            let new = drawn.get(self.seen..).unwrap_or_default();
            if let Some(at) = new.find(text) {
                self.seen += at + text.len();
                return Ok(());
            }
            anyhow::ensure!(begin.elapsed() < Duration::from_secs(15), "{text:?} is never drawn:\n{drawn}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// It ends well, and the last thing it does is to leave the other screen and to show the cursor.
    fn left(mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            anyhow::ensure!(begin.elapsed() < Duration::from_secs(10), "top does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let drawn = self.drawn();
        let (enter, leave) = (drawn.find("\x1b[?1049h"), drawn.rfind("\x1b[?1049l"));
        assert!(enter.is_some() && leave > enter && drawn.rfind("\x1b[?25h") > enter, "{drawn:?}");
        assert!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
