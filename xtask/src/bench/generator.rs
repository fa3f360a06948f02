//! Packets at the highest rate that one processor makes: a kernel program of our own on live frames (`BPF_PROG_TEST_RUN`,
//! kernel 5.18), which are redirected into a link of the lab. The receiver's end of a virtual link runs on the processor that sends, so generator and
//! receiver share one, and a packet's cost in the receiver is the time it adds to the generator's own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode, xdp::XdpLinkId},
};
use sipauth_tests::{
    flood,
    frame::Frame,
    lab::{Host, Lab},
};

use super::{addresses, cpu, figures::Spread};
use crate::{setup::compiler, shell, toolchain};

/// Bytes of a frame, with Ethernet header: a small INVITE.
pub(super) const LENGTH: usize = 400;
/// Headers of Ethernet, IPv4 and UDP.
const HEADERS: usize = 42;
/// Frames until the receiver has its turn; the kernel's own default, and less than a virtual link's queue.
const BATCH: u32 = 64;
/// Frames in one system call. Each call waits for some ticks of the clock before it returns, so there must be few of them in a flood.
const CALL: u32 = 1 << 20;

/// Builds the programs.
pub(super) fn build() -> Result<PathBuf> {
    let mut build = compiler::find()?.cargo("build", &shell::root());
    build.arg("--quiet");
    shell::run(&mut build)?;
    Ok(toolchain::object_path(&shell::root()).with_file_name("generator"))
}

/// Ready to send to the softswitch of a lab.
pub(super) struct Generator {
    programs: Ebpf,
    frame: Vec<u8>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) frames: u64,
    pub(super) elapsed: Duration,
    /// Nanoseconds of the processor's time a frame, in the median of the system calls: what else the machine does now and then
    /// does not count. The receiver runs within these calls.
    pub(super) each: f64,
}

impl Generator {
    pub(super) fn new(lab: &Lab, object: &PathBuf) -> Result<Self> {
        let frame = template(flood::mac(lab, Host::Softswitch)?);
        let interface = lab.at_the_bridge(|| Ok(nix::net::if_::if_nametoindex(Host::Softswitch.name())?))?;
        let words = frame[14..24].as_chunks().0.iter().chain(frame[30..34].as_chunks().0);
        let sum: u32 = words.map(|&word| u32::from(u16::from_be_bytes(word))).sum();
        let mut programs = EbpfLoader::new()
            .override_global("INTERFACE", &interface, true)
            .override_global("HEADER_SUM", &sum, true)
            .override_global("SOURCE_SET", &addresses::REFUSED.0, true)
            .override_global("SOURCE_RANDOM", &addresses::REFUSED.1, true)
            .load(&fs::read(object).with_context(|| object.display().to_string())?)?;
        program(&mut programs, "generate")?.load()?;
        Ok(Self { programs, frame })
    }

    /// Sends for so long, or until `stop` says so, on one processor.
    pub(super) fn run(&self, lab: &Lab, on: usize, time: Duration, stop: impl Fn() -> bool + Sync + Send) -> Result<Sent> {
        let generate: &Xdp = self.programs.program("generate").context("no program generate")?.try_into()?;
        lab.at_the_bridge(|| {
            cpu::pin(&[on])?;
            cpu::prefer()?;
            let begin = Instant::now();
            let mut calls = Vec::new();
            while begin.elapsed() < time && !stop() {
                let before = cpu::of_thread()?;
                generate.test_run(TestRunOptions {
                    data_in: Some(&self.frame),
                    repeat: CALL,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                })?;
                calls.push((cpu::of_thread()? - before).as_secs_f64() * 1e9 / f64::from(CALL));
            }
            Ok(Sent {
                frames: u64::from(CALL) * calls.len() as u64,
                elapsed: begin.elapsed(),
                each: Spread::of(&calls).median,
            })
        })
    }
}

/// Puts a program of a loaded object on the softswitch's interface, in the driver.
pub(super) fn attach(lab: &Lab, programs: &mut Ebpf, name: &str) -> Result<XdpLinkId> {
    let program = program(programs, name)?;
    program.load()?;
    lab.inside(Host::Softswitch, || Ok(program.attach("eth0", XdpMode::Driver)?))
}

/// The program that refuses everything at once, on the softswitch's interface as long as it is held.
pub(super) fn attach_floor(lab: &Lab, object: &PathBuf) -> Result<Ebpf> {
    let mut programs = Ebpf::load(&fs::read(object)?)?;
    attach(lab, &mut programs, "refuse")?;
    Ok(programs)
}

fn program<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let found = programs.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(found.try_into()?)
}

/// A datagram to the softswitch, as long as wanted; the source is zero.
fn template(to: [u8; 6]) -> Vec<u8> {
    let mut payload = b"INVITE sip:100@203.0.113.10 SIP/2.0\r\nCall-ID: 1\r\nSubject: ".to_vec();
    payload.resize(LENGTH - HEADERS, b'x');
    let mut frame = Frame {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Host::Softswitch.v4()),
        // Over IPv4 zero means that there is none (RFC 768).
        no_checksum: true,
        payload,
        ..Frame::invite()
    }
    .bytes();
    frame[..6].copy_from_slice(&to);
    frame
}

/// The most that is lost or not counted, as a share of a thousand, for a measurement to hold.
const TOLERANCE: u64 = 10;

/// A receiver is measured by what it really refused.
pub(super) fn check(label: &str, sent: Sent, arrived: u64, refused: u64) -> Result<()> {
    let enough = sent.frames - sent.frames * TOLERANCE / 1000;
    // The empty program drops what the stack sends to and fro, as well.
    let most = sent.frames + sent.frames / 1000;
    ensure!(
        arrived >= enough && refused >= enough && refused <= most,
        "{label}: {} packets were sent, {arrived} arrived and {refused} were refused: this measures something else",
        sent.frames
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_counts_only_where_the_packets_were_refused() {
        let sent = Sent {
            frames: 1000,
            ..Sent::default()
        };
        assert!(check("all", sent, 1000, 1000).is_ok());
        assert!(check("none arrives", sent, 0, 0).is_err());
        assert!(check("passed", sent, 1000, 0).is_err());
        assert!(check("counts of somebody else", sent, 1000, 2000).is_err());
    }

    #[test]
    fn the_template_is_as_long_as_promised() {
        assert_eq!(template([2; 6]).len(), LENGTH);
    }
}
