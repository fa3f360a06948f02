//! Post-dial delays of calls, as the caller's interface sees them: SIPp's own clock has steps of some milliseconds.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sipauth_tests::lab::{Host, Lab};

/// Bytes of a packet that are kept: all headers up to the CSeq.
const SNAPLEN: usize = 1024;
/// Of the file, and of each packet in it.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Headers of Ethernet, IPv4 and UDP.
const PACKET_HEADERS: usize = 42;
/// A capture of seconds and microseconds on a little-endian machine.
const MAGIC: [u8; 4] = 0xa1b2_c3d4_u32.to_le_bytes();
/// For tcpdump to begin and to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A capture of the calls of a host, which ends with this.
pub(super) struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    pub(super) fn start(lab: &Lab, host: Host) -> Result<Self> {
        let file = lab.state().join(format!("{}.pcap", host.name()));
        let log = lab.state().join(format!("{}-tcpdump.log", host.name()));
        let tcpdump = lab
            .command(host, "tcpdump")
            .args(["-Z", "root", "-n", "-i", "eth0", "-s", &SNAPLEN.to_string(), "-w"])
            .arg(&file)
            .args(["udp", "port", "5060"])
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("tcpdump (Debian: tcpdump)")?;
        let started = Self { tcpdump, file };
        let begin = Instant::now();
        while !fs::read_to_string(&log)?.contains("listening on") {
            ensure!(begin.elapsed() < PATIENCE, "tcpdump: {}", fs::read_to_string(&log)?);
            thread::sleep(Duration::from_millis(10));
        }
        Ok(started)
    }

    /// Milliseconds from the first INVITE of each call to the 180 that answers it.
    pub(super) fn finish(mut self) -> Result<Vec<f64>> {
        kill(Pid::from_raw(i32::try_from(self.tcpdump.id())?), Signal::SIGTERM)?;
        let begin = Instant::now();
        while self.tcpdump.try_wait()?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "tcpdump does not end");
            thread::sleep(Duration::from_millis(10));
        }
        delays(&fs::read(&self.file).with_context(|| self.file.display().to_string())?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

fn delays(capture: &[u8]) -> Result<Vec<f64>> {
    ensure!(capture.starts_with(&MAGIC), "not a capture of tcpdump's");
    let mut invites = HashMap::new();
    let mut delays = Vec::new();
    let mut rest = &capture[FILE_HEADER.min(capture.len())..];
    while let Some((header, packets)) = rest.split_at_checked(RECORD_HEADER) {
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        // Cut short where tcpdump was ended in the middle.
        let Some((packet, next)) = packets.split_at_checked(number(8) as usize) else {
            break;
        };
        rest = next;
        let at = f64::from(number(0)) * 1e3 + f64::from(number(4)) / 1e3;
        let text = String::from_utf8_lossy(packet.get(PACKET_HEADERS..).unwrap_or_default());
        let Some(call) = text.lines().find_map(|line| line.strip_prefix("Call-ID:")) else {
            continue;
        };
        if text.starts_with("INVITE ") {
            invites.entry(call.trim().to_owned()).or_insert(at);
        } else if text.starts_with("SIP/2.0 180")
            && let Some(begin) = invites.remove(call.trim())
        {
            delays.push(at - begin);
        }
    }
    Ok(delays)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of a capture, at this many microseconds.
    fn record(micros: u32, text: &str) -> Vec<u8> {
        let length = u32::try_from(PACKET_HEADERS + text.len()).unwrap().to_le_bytes();
        let time = [micros / 1_000_000, micros % 1_000_000].map(u32::to_le_bytes).concat();
        [&time[..], &length, &length, &[0; PACKET_HEADERS], text.as_bytes()].concat()
    }

    #[test]
    fn a_delay_is_from_the_first_invite_of_a_call_to_its_180() {
        let header = [&MAGIC[..], &[0; FILE_HEADER - 4]].concat();
        let capture = [
            header,
            record(1_000, "INVITE sip:1 SIP/2.0\r\nCall-ID: a\r\n"),
            record(1_500, "INVITE sip:1 SIP/2.0\r\nCall-ID: b\r\n"),
            record(2_000, "SIP/2.0 401 Unauthorized\r\nCall-ID: a\r\n"),
            record(2_500, "INVITE sip:1 SIP/2.0\r\nCall-ID: a\r\n"),
            record(1_003_500, "SIP/2.0 180 Ringing\r\nCall-ID: a\r\n"),
            record(1_004_000, "SIP/2.0 180 Ringing\r\nCall-ID: a\r\n"),
        ]
        .concat();
        assert_eq!(delays(&capture).unwrap(), [1002.5]);
        assert_eq!(delays(&capture[..capture.len() - 1]).unwrap(), [1002.5], "cut short");
        assert!(delays(b"GIF89a").is_err());
    }
}
