//! baresip, a softphone, without sound devices: a tone instead of a microphone, and its control port instead of keys.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::program::{self, Account, PATIENCE, Program, Softphone};
use super::{SIP_PORT, Via};
use crate::lab::{Host, Lab};

/// A running baresip.
#[derive(Debug)]
pub struct Baresip {
    program: Program,
    control: TcpStream,
    events: String,
}

impl Softphone for Baresip {
    fn start(lab: &Lab, host: Host, via: Via, account: Account<'_>) -> anyhow::Result<Self> {
        let dir = program::directory(lab, host, "baresip")?;
        program::fill("baresip.config", &dir.join("config"), &[("ADDRESS", &host.v4().to_string())])?;
        let (Account { user, password }, switch) = (account, Host::Softswitch.v4());
        let transport = if via.tcp() { "tcp" } else { "udp" };
        let account = format!(
            "<sip:{user}@{switch};transport={transport}>;auth_user={user};auth_pass={password};regint=60;answermode=auto;audio_codecs=PCMA\n"
        );
        std::fs::write(dir.join("accounts"), account)?;
        std::fs::write(dir.join("contacts"), "")?;
        let mut program = Program::start(lab.command(host, "baresip").arg("-f").arg(&dir), &dir).context("baresip")?;
        program.wait_for_output(&["baresip is ready"])?;
        let control = lab.inside(host, || Ok(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 4444)))?))?;
        control.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(Self {
            program,
            control,
            events: String::new(),
        })
    }

    fn is_registered(&mut self) -> anyhow::Result<bool> {
        // The last is what it says of a challenge for an algorithm that it has not.
        let ends = ["200 OK", "401 Unauthorized", "Function not implemented"];
        Ok(self.program.wait_for_output(&ends)? == 0)
    }

    fn dial(&mut self) -> anyhow::Result<bool> {
        self.command("dial", &format!("sip:100@{}:{SIP_PORT}", Host::Softswitch.v4()))?;
        Ok(self.wait_for_event(&["CALL_ESTABLISHED", "CALL_CLOSED"])? == 0)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        self.command("hangup", "")?;
        self.wait_for_event(&["CALL_CLOSED"]).map(drop)
    }
}

impl Baresip {
    /// A netstring with JSON in it.
    fn command(&mut self, command: &str, parameters: &str) -> anyhow::Result<()> {
        let text = format!(r#"{{"command":"{command}","params":"{parameters}"}}"#);
        self.control.write_all(format!("{}:{text},", text.len()).as_bytes())?;
        Ok(())
    }

    fn wait_for_event(&mut self, names: &[&str]) -> anyhow::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            if let Some(found) = names.iter().position(|name| self.events.contains(name)) {
                return Ok(found);
            }
            ensure!(
                Instant::now() < deadline,
                "no {names:?}: {}\n{}",
                self.events,
                self.program.output()
            );
            match self.control.read(&mut buffer) {
                Ok(0) => anyhow::bail!("baresip is gone:\n{}", self.program.output()),
                Ok(length) => self.events += &String::from_utf8_lossy(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
