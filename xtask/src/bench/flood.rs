//! Calls of gateways in each mode, without and with a flood of unknown sources at the generator's full rate.
//!
//! Two softswitches, each in a lab of its own, with the same SIPp behind: sipauth in front of it; and nftables at netdev ingress with the
//! addresses (and the port) that may call, then Kamailio, which asks the password gateway for its password. In each round each has two turns, one without and one
//! with the flood: three SIPps call at the same time, one a mode, at a rate that leaves the machine room. The generator has the last processor for
//! itself and all else the others, so the flood takes what the filter costs, and no more, from the calls: a virtual link hands packets on where they are sent.
//! The delay of a call is from its first INVITE to its 180, which SIPp sends at once, on the caller's wire ([`super::delays`]).

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;
use sipauth_tests::{
    lab::{Host, Lab},
    napi::Napi,
    peers::{Call, Uas, Via},
};

use super::{
    chart::{self, Bar, Head, Tone},
    cpu,
    delays::Capture,
    figures::{self, Spread},
    generator::{self, Generator},
    publish::{goal, publish},
    receivers::{Receiver, Side},
    release_build,
    sides::{HOLD, Kamailio, PASSWORD, SINK, USER},
};
use crate::shell::heading;

/// Times the delay without the flood that the slowest of a hundred may take with it.
const GOAL_DELAY: f64 = 2.0;
/// Until the flood is under way.
const START: Duration = Duration::from_millis(500);

/// How much to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Other addresses that are allowed
    #[arg(long, default_value_t = 100_000)]
    allowed: u32,
    /// New calls a second in each mode
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Seconds of a turn
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rounds; in each, both have a turn without the flood and one with it
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// One short round, with 10,000 addresses
    #[arg(long)]
    short: bool,
    /// Measure this sipauth, instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// How a call proves where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Ip,
    IpPort,
    Password,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Ip, Self::IpPort, Self::Password];

    const fn label(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::IpPort => "ip-port",
            Self::Password => "password",
        }
    }

    fn call(self) -> Call {
        match self {
            Self::Ip => Call::from(Host::CarrierIp),
            Self::IpPort => Call::from(Host::CarrierPort),
            Self::Password => Call::from(Host::PbxPassword).digest(USER, PASSWORD),
        }
    }
}

/// The calls of one mode in one turn.
#[derive(Clone, Copy, Debug)]
struct Calls {
    tried: u32,
    answered: u32,
    /// Milliseconds that half of the calls, and 99 of a hundred, were answered within.
    delay: [f64; 2],
}

/// What a turn gave, by mode.
struct Turn {
    modes: Vec<Calls>,
    /// Packets a second that were refused meanwhile.
    refused: f64,
}

struct Row<'a> {
    label: &'static str,
    lab: &'a Lab,
    generator: Generator,
    receiver: Receiver<'a>,
    /// Without and with the flood.
    turns: [Vec<Turn>; 2],
    /// The kernel program answers itself, and both have the same link.
    _napi: Napi,
    _kamailio: Option<Kamailio<'a>>,
    _switch: Uas,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let (rounds, seconds, allowed) = if options.short {
        (1, 3, options.allowed.min(10_000))
    } else {
        (options.rounds, options.seconds, options.allowed)
    };
    ensure!(rounds > 0 && seconds > 0 && allowed > 0 && options.rate > 0, "nothing to measure");
    heading("build");
    let binary = options.binary.clone().map_or_else(release_build, Ok)?;
    let object = generator::build()?;
    let machine = figures::machine();
    let (own, others) = cpu::split()?;
    cpu::pin(&others)?;
    cpu::prefer()?;
    heading(&format!("the generator on processor {own}, all else on {others:?}"));
    let labs = [Lab::new()?, Lab::new()?];
    let mut rows = [
        Row::start(&labs[0], Side::Sipauth, allowed, &binary, &object)?,
        Row::start(&labs[1], Side::NftIngress, allowed, &binary, &object)?,
    ];
    for round in 1..=rounds {
        heading(&format!("round {round} of {rounds}"));
        for row in &mut rows {
            for flooded in [false, true] {
                let turn = row.turn(options.rate * seconds, options.rate, flooded.then_some(own))?;
                row.print(&turn, flooded);
                row.turns[usize::from(flooded)].push(turn);
            }
        }
    }
    report(
        &Of {
            rate: options.rate,
            seconds,
            allowed,
            machine,
        },
        &rows,
    )
}

impl<'a> Row<'a> {
    fn start(lab: &'a Lab, side: Side, allowed: u32, binary: &Path, object: &PathBuf) -> Result<Self> {
        let receiver = Receiver::install(lab, side, allowed, binary, object).context(side.label())?;
        receiver.admit_callers()?;
        let ours = side == Side::Sipauth;
        Ok(Self {
            label: if ours { "sipauth" } else { "nftables + Kamailio" },
            lab,
            generator: Generator::new(lab, object)?,
            receiver,
            turns: [Vec::new(), Vec::new()],
            _napi: lab.receives_from_xdp(Host::Softswitch)?,
            _switch: if ours {
                Uas::softswitch(lab, Via::Udp4)?
            } else {
                Uas::softswitch_at(lab, SINK)?
            },
            _kamailio: if ours {
                None
            } else {
                Some(Kamailio::start(lab, "t_relay();", Some(Host::PbxPassword))?)
            },
        })
    }

    fn turn(&self, calls: u32, rate: u32, flood: Option<usize>) -> Result<Turn> {
        let stop = AtomicBool::new(false);
        // Bounded whatever happens to the calls.
        let bound = Duration::from_secs(u64::from(calls / rate) + 30);
        let before = self.receiver.counts()?;
        let (modes, sent) = thread::scope(|scope| {
            let running = flood.map(|on| {
                let stop = &stop;
                scope.spawn(move || self.generator.run(self.lab, on, bound, || stop.load(Ordering::Relaxed)))
            });
            if running.is_some() {
                thread::sleep(START);
            }
            let modes = self.calls(calls, rate);
            stop.store(true, Ordering::Relaxed);
            let sent = running.map(|flood| flood.join().map_err(|_| anyhow::anyhow!("the generator's thread"))?);
            anyhow::Ok((modes?, sent.transpose()?))
        })?;
        let mut refused = 0.0;
        if let Some(sent) = sent {
            let after = self.receiver.counts()?;
            generator::check(self.label, sent, after[0] - before[0], after[1] - before[1])?;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let count = (after[1] - before[1]) as f64;
            refused = count / sent.elapsed.as_secs_f64();
        }
        Ok(Turn { modes, refused })
    }

    /// All modes at the same time.
    fn calls(&self, calls: u32, rate: u32) -> Result<Vec<Calls>> {
        let started: Vec<_> = Mode::ALL
            .iter()
            .map(|mode| {
                let call = mode.call().times(calls, rate).hold(HOLD);
                Ok((Capture::start(self.lab, call.caller())?, call.start(self.lab)?))
            })
            .collect::<Result<_>>()?;
        started
            .into_iter()
            .map(|(capture, running)| {
                let outcome = running.finish()?;
                let mut delays = capture.finish()?;
                delays.sort_by(f64::total_cmp);
                Ok(Calls {
                    tried: outcome.tried,
                    answered: outcome.answered,
                    delay: [50, 99].map(|percent| percentile(&delays, percent)),
                })
            })
            .collect()
    }

    fn print(&self, turn: &Turn, flooded: bool) {
        for (mode, calls) in Mode::ALL.iter().zip(&turn.modes) {
            println!(
                "{:<20} {:<9} {}: {} of {} calls answered, p50 {:.2} ms, p99 {:.2} ms",
                self.label,
                mode.label(),
                if flooded { "flood   " } else { "no flood" },
                calls.answered,
                calls.tried,
                calls.delay[0],
                calls.delay[1]
            );
        }
        if flooded {
            println!(
                "{:<20} {:.3} million packets a second refused meanwhile",
                self.label,
                turn.refused / 1e6
            );
        }
    }

    /// Over all rounds, of one mode.
    fn spread(&self, flooded: usize, mode: usize, figure: impl Fn(&Calls) -> f64) -> Spread {
        Spread::of(&self.turns[flooded].iter().map(|turn| figure(&turn.modes[mode])).collect::<Vec<_>>())
    }

    fn lost(&self, flooded: usize, mode: usize) -> u32 {
        let turns = self.turns[flooded].iter().map(|turn| turn.modes[mode]);
        turns.map(|calls| calls.tried - calls.answered).sum()
    }
}

/// Of sorted values.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// What the figures are of.
struct Of {
    rate: u32,
    seconds: u32,
    allowed: u32,
    machine: String,
}

fn report(of: &Of, rows: &[Row<'_>]) -> Result<()> {
    let mut table = figures::table(&[
        "calls, without / with flood",
        "mode",
        "answered a second",
        "lost",
        "p50, ms",
        "p99, ms",
        "p99, times",
        "refused meanwhile, Mpps",
    ]);
    let (mut sides, mut notes, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut worst: f64 = 0.0;
    for row in rows {
        let refused = Spread::of(&row.turns[1].iter().map(|turn| turn.refused / 1e6).collect::<Vec<_>>());
        for (mode, kind) in Mode::ALL.iter().enumerate() {
            let both = |figure: &dyn Fn(&Calls) -> f64| [0, 1].map(|flooded| row.spread(flooded, mode, figure));
            let a_second = both(&|calls| f64::from(calls.answered) / f64::from(of.seconds));
            let (middle, slow) = (both(&|calls| calls.delay[0]), both(&|calls| calls.delay[1]));
            let lost = [0, 1].map(|flooded| row.lost(flooded, mode));
            let times = slow[1].median / slow[0].median;
            let pair = |of: [Spread; 2]| format!("{:.2} / {:.2}", of[0].median, of[1].median);
            table.add_row([
                row.label.to_owned(),
                kind.label().to_owned(),
                format!("{:.1} / {:.1}", a_second[0].median, a_second[1].median),
                format!("{} / {}", lost[0], lost[1]),
                pair(middle),
                pair(slow),
                format!("{times:.2}"),
                format!("{:.3}", refused.median),
            ]);
            let json = |of: [Spread; 2]| of.map(|spread| spread.json());
            sides.push(json!({
                "side": row.label, "mode": kind.label(), "answered_a_second": json(a_second), "lost": lost, "p50_ms": json(middle),
                "p99_ms": json(slow), "p99_times": times, "refused_mpps": refused.json(),
            }));
            let ours = row.label == "sipauth";
            let bar = |label: &str, value, tone| Bar {
                label: label.to_owned(),
                value,
                tone,
            };
            groups.push((
                format!("{}, mode {}", row.label, kind.label()),
                vec![
                    bar("without flood", slow[0], Tone::Floor),
                    bar("with flood", slow[1], if ours { Tone::Ours } else { Tone::Other }),
                ],
            ));
            if ours {
                worst = worst.max(times);
                notes.push(goal(
                    &format!(
                        "mode {}, {} calls lost under the flood and {} without, and p99 at {times:.2} times, none of either and {GOAL_DELAY} at most",
                        kind.label(),
                        lost[1],
                        lost[0]
                    ),
                    // A machine that loses calls without a flood shows nothing.
                    lost == [0, 0] && times <= GOAL_DELAY,
                ));
            }
        }
    }
    let chart = chart::bars(
        &Head {
            title: &format!("Under a flood, p99 delay is at most {worst:.1} times that without"),
            subtitle: &format!("{} calls a second in each mode at once; {}", of.rate, of.machine),
            axis: "ms from INVITE to 180, 99th percentile",
        },
        &groups,
    )?;
    let figures = json!({
        "allowed": of.allowed, "rate": of.rate, "seconds": of.seconds, "rounds": rows.first().map(|row| row.turns[0].len()), "sides": sides, "notes": notes,
    });
    publish("flood", &mut table, &notes, &chart, &figures)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn so_many_of_a_hundred_are_not_above_the_percentile() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([50, 99].map(|percent| percentile(&hundred, percent)), [50.0, 99.0]);
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert!(percentile(&[], 99).is_nan());
    }
}
