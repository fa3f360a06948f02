//! The harness program with the packets of one case, and its clock.

use std::{fs, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_gettime};
use sipauth_common::address::Address;
use sipauth_tests::frame::Frame;

use crate::{
    Result,
    addresses::{Family, Kind, Traffic},
};

const PASS: u32 = 2;
const DROP: u32 = 1;
/// Words of the frame that are written anew for every packet.
const WORDS: usize = 8;
const SEED: u64 = 0x5851_f42d_4c95_7f2d;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) enum Under {
    Empty,
    Parse,
    Sipauth { index: usize, kind: Kind },
    Filter { index: usize, kind: Kind },
}

/// As the program has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Plan {
    head: [u64; WORDS],
    seed: u64,
    set: [u64; 2],
    random: [u64; 2],
    count: u32,
    next: u32,
}
// SAFETY: integers without padding; every bit pattern is valid.
unsafe impl aya::Pod for Plan {}

/// One family's program, with the addresses of one case.
pub(crate) struct Harness {
    ebpf: Ebpf,
    program: &'static str,
    under_test: ProgramArray<MapData>,
    frame: Vec<u8>,
}

impl Harness {
    pub(crate) fn load(object: &Path, family: Family, traffic: &Traffic) -> Result<Self> {
        let bytes = fs::read(object).map_err(|error| format!("{}: {error}", object.display()))?;
        let (frame, program) = match family {
            Family::V4 => (Frame::invite(), "harness_v4"),
            Family::V6 => (Frame::invite_v6(), "harness_v6"),
        };
        let frame = frame.bytes();
        let mut head = [0; WORDS];
        for (word, bytes) in head.iter_mut().zip(frame.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let words = |address: &Address| {
            let octets = address.octets();
            match family {
                Family::V4 => [u64::from(u32::from_le_bytes([octets[12], octets[13], octets[14], octets[15]])), 0],
                Family::V6 => {
                    let [high, low] = [octets.as_chunks::<8>().0[0], octets.as_chunks::<8>().0[1]];
                    [u64::from_ne_bytes(high), u64::from_ne_bytes(low)]
                }
            }
        };
        let mut plan = Plan {
            head,
            seed: 0,
            set: [0; 2],
            random: [0; 2],
            count: 1,
            next: 0,
        };
        let listed = match traffic {
            Traffic::Listed(all) => all.as_slice(),
            Traffic::Random { set, random } => {
                (plan.seed, plan.set, plan.random) = (SEED, words(set), words(random));
                &[]
            }
        };
        plan.count = u32::try_from(listed.len())?.max(1);
        let mut ebpf = EbpfLoader::new().map_max_entries("SOURCES", plan.count).load(&bytes)?;
        for name in [program, "empty", "parse"] {
            xdp(&mut ebpf, name)?.load()?;
        }
        let mut sources: Array<_, [u64; 2]> = ebpf.map_mut("SOURCES").ok_or("no map SOURCES")?.try_into()?;
        for (index, address) in (0..).zip(listed) {
            sources.set(index, words(address), 0)?;
        }
        let mut plans: Array<_, Plan> = ebpf.map_mut("PLAN").ok_or("no map PLAN")?.try_into()?;
        plans.set(0, plan, 0)?;
        let under_test = ebpf.take_map("UNDER_TEST").ok_or("no map UNDER_TEST")?.try_into()?;
        Ok(Self {
            ebpf,
            program,
            under_test,
            frame,
        })
    }

    /// What the harness jumps to from now on.
    pub(crate) fn choose(&mut self, program: &ProgramFd) -> Result<()> {
        Ok(self.under_test.set(0, program, 0)?)
    }

    /// Likewise, a program of its own object.
    pub(crate) fn choose_own(&mut self, name: &str) -> Result<()> {
        let program = xdp(&mut self.ebpf, name)?.fd()?.try_clone()?;
        self.choose(&program)
    }

    /// Runs so many packets to fill caches, and then those that count: nanoseconds of one of them. All must end alike.
    pub(crate) fn run(&mut self, warm_up: u32, packets: u32, passes: bool) -> Result<f64> {
        let program: &Xdp = self.ebpf.program(self.program).ok_or("no harness")?.try_into()?;
        let run = |repeat| -> Result<()> {
            let ran = program.test_run(TestRunOptions {
                data_in: Some(&self.frame),
                repeat,
                ..TestRunOptions::default()
            })?;
            let wanted = if passes { PASS } else { DROP };
            if ran.return_value != wanted {
                return Err(format!("the verdict was {}, not {wanted}", ran.return_value).into());
            }
            Ok(())
        };
        run(warm_up)?;
        let before = clock()?;
        run(packets)?;
        Ok((clock()? - before) / f64::from(packets))
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).ok_or_else(|| format!("no program {name}"))?.try_into()?)
}

/// What this thread has run, ns: whole nanoseconds of a packet, as the kernel gives them, are too coarse.
fn clock() -> Result<f64> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    #[allow(clippy::cast_precision_loss, reason = "some minutes in nanoseconds are exact in 53 bits")]
    Ok(now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64)
}
