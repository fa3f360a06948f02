//! linphonec, the command line of Linphone, as a second softphone: it reads commands from standard input, and files instead of a sound card.

use std::path::PathBuf;

use anyhow::Context as _;

use super::Via;
use super::program::{self, Account, Program, Softphone};
use crate::lab::{Host, Lab};

/// A running linphonec.
#[derive(Debug)]
pub struct Linphone {
    program: Program,
    log: PathBuf,
}

impl Softphone for Linphone {
    fn start(lab: &Lab, host: Host, via: Via, account: Account<'_>) -> anyhow::Result<Self> {
        let dir = program::directory(lab, host, "linphone")?;
        // It does not make the directory of its database.
        std::fs::create_dir_all(dir.join(".local/share/linphone"))?;
        let values = [
            ("SOFTSWITCH", &*Host::Softswitch.v4().to_string()),
            ("TRANSPORT", if via.tcp() { "tcp" } else { "udp" }),
            ("USER", account.user),
            ("PASSWORD", account.password),
        ];
        program::fill("linphone.rc", &dir.join("linphone.rc"), &values)?;
        let log = dir.join("linphone.log");
        let mut command = lab.command(host, "linphonec");
        command.args(["-c", "linphone.rc", "-d", "5", "-l"]).arg(&log);
        let mut program = Program::start(&mut command, &dir).context("linphonec (Debian: linphone-cli)")?;
        program.say("soundcard use files")?;
        Ok(Self { program, log })
    }

    fn is_registered(&mut self) -> anyhow::Result<bool> {
        let ends = ["Register refresher [200]", "Register refresher [401]"];
        Ok(self.program.wait_for(&self.log, &ends)? == 0)
    }

    fn dial(&mut self) -> anyhow::Result<bool> {
        self.program.say(&format!("call sip:100@{}", Host::Softswitch.v4()))?;
        let ends = ["Media streams established", " error.", " ended ("];
        Ok(self.program.wait_for_output(&ends)? == 0)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        self.program.say("terminate")?;
        self.program.wait_for_output(&[" ended ("]).map(drop)
    }
}
