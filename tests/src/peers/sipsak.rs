//! sipsak: one request a run, of its own making or from a file, with credentials where it is challenged.

use std::net::SocketAddr;

use anyhow::Context as _;

use super::program::{self, Account, Program};
use super::{SIP_PORT, Via};
use crate::lab::{Host, Lab};

/// Where it stands, and who it is.
#[derive(Clone, Copy, Debug)]
pub struct Sipsak<'a> {
    lab: &'a Lab,
    host: Host,
    via: Via,
    account: Account<'a>,
}

impl<'a> Sipsak<'a> {
    /// Nothing runs yet.
    #[must_use]
    pub const fn new(lab: &'a Lab, host: Host, via: Via, account: Account<'a>) -> Self {
        Self { lab, host, via, account }
    }

    /// Registers; whether that succeeds.
    ///
    /// # Errors
    /// When it cannot be run, or hangs.
    pub fn register(&self) -> anyhow::Result<bool> {
        Ok(self.run(self.account.user, &["-U", "-i"], None)?.0)
    }

    /// Asks for the softswitch's abilities; whether there is an answer.
    ///
    /// # Errors
    /// As [`Sipsak::register`].
    pub fn options(&self) -> anyhow::Result<bool> {
        Ok(self.run("100", &[], None)?.0)
    }

    /// Calls, acknowledges, and hangs up; whether all of it succeeds.
    ///
    /// # Errors
    /// As [`Sipsak::register`].
    pub fn call(&self, id: &str) -> anyhow::Result<bool> {
        let (answered, output) = self.run("100", &[], Some(&self.request("INVITE", id, 1, "")))?;
        if !answered {
            return Ok(false);
        }
        let tag = output.rsplit("To: ").find_map(|rest| rest.lines().next()?.split_once(";tag="));
        let tag = tag.with_context(|| format!("no tag in the answer:\n{output}"))?.1;
        let bye = self.request("BYE", id, 3, &format!(";tag={tag}"));
        Ok(self.run("100", &[], Some(&bye))?.0)
    }

    /// It puts a Via in front by itself.
    fn request(&self, method: &str, id: &str, number: u32, tag: &str) -> String {
        let (user, own, switch) = (self.account.user, self.host.v4(), Host::Softswitch.v4());
        format!(
            "{method} sip:100@{switch}:{SIP_PORT} SIP/2.0\r\nFrom: <sip:{user}@{switch}>;tag=sak{id}\r\nTo: <sip:100@{switch}>{tag}\r\n\
             Call-ID: {id}@{own}\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\nContact: <sip:{user}@{own}:{SIP_PORT}>\r\n\
             User-Agent: sipsak\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// Whether it was satisfied, and what it printed.
    fn run(&self, to: &str, options: &[&str], request: Option<&str>) -> anyhow::Result<(bool, String)> {
        let dir = program::directory(self.lab, self.host, "sipsak")?;
        let mut command = self.lab.command(self.host, "sipsak");
        let target = SocketAddr::from((Host::Softswitch.v4(), SIP_PORT));
        command.args(["-vvv", "-s", &format!("sip:{to}@{target}")]);
        command.args(["-u", self.account.user, "-a", self.account.password]);
        command.args(["-E", if self.via.tcp() { "tcp" } else { "udp" }]);
        // The port of a registration is that of later calls, as a gateway has it; over TCP a port rests for a while after use.
        if !self.via.tcp() {
            command.args(["-S", "-l", &SIP_PORT.to_string()]);
        }
        command.args(options);
        if let Some(text) = request {
            std::fs::write(dir.join("request"), text)?;
            command.args(["-f", "request"]);
        }
        let mut program = Program::start(&mut command, &dir).context("sipsak")?;
        let satisfied = program.finish()?;
        Ok((satisfied, program.output()))
    }
}
