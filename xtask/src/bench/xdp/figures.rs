//! What was measured, by family, number of gateways, case and program; and the goals.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bench::figures::{Spread, thousands};

pub(super) const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
pub(super) const OWN: &str = "sipauth";
pub(super) const THEIRS: &str = "xdp-filter";
/// As the measurement names them; other cases are taken as they come.
pub(super) const REFUSED: &str = "refused: random source";
const HOT: &str = "ip: one source";
const EMPTY: &str = "empty";
const PARSE: &str = "parse";
/// What the goals speak of, where it was measured.
const MANY: u64 = 100_000;
const FEW: u64 = 10;

/// Family, gateways, case, program.
type Key = (String, u64, String, String);

pub(super) struct Figures {
    pub(super) gateways: Vec<u64>,
    /// In the order of the measurement.
    pub(super) cases: Vec<String>,
    pub(super) rounds: usize,
    turns: HashMap<Key, Vec<f64>>,
}

/// A ratio that is to be small.
pub(super) struct Goal {
    pub(super) what: String,
    pub(super) family: &'static str,
    pub(super) ratio: f64,
    pub(super) most: f64,
}

impl Goal {
    pub(super) fn json(&self) -> Value {
        json!({ "goal": self.what, "family": self.family, "ratio": self.ratio, "at_most": self.most, "met": self.ratio <= self.most })
    }
}

impl Figures {
    pub(super) fn new(measured: &Value, gateways: Vec<u64>) -> Result<Self> {
        let mut turns = HashMap::new();
        let mut cases: Vec<String> = Vec::new();
        for turn in measured["turns"].as_array().context("no turns")? {
            let text = |key: &str| {
                turn[key]
                    .as_str()
                    .map(str::to_owned)
                    .with_context(|| format!("a turn without {key}"))
            };
            let rounds: Option<Vec<f64>> = turn["nanoseconds"]
                .as_array()
                .and_then(|rounds| rounds.iter().map(Value::as_f64).collect());
            let case = text("case")?;
            if !cases.contains(&case) {
                cases.push(case.clone());
            }
            let key = (
                text("family")?,
                turn["gateways"].as_u64().context("a turn without gateways")?,
                case,
                text("program")?,
            );
            turns.insert(key, rounds.context("a turn without nanoseconds")?);
        }
        for case in [REFUSED, HOT] {
            ensure!(cases.iter().any(|known| known == case), "the measurement has no case {case:?}");
        }
        let rounds = turns.values().map(Vec::len).min().unwrap_or(0);
        Ok(Self {
            gateways,
            cases,
            rounds,
            turns,
        })
    }

    fn turns(&self, family: &str, gateways: u64, case: &str, program: &str) -> Option<&[f64]> {
        let key = (family.to_owned(), gateways, case.to_owned(), program.to_owned());
        self.turns.get(&key).map(Vec::as_slice)
    }

    /// Empty and parsing, whole.
    pub(super) fn floor(&self, family: &str) -> (Spread, Spread) {
        let of = |program| {
            let all: Vec<f64> = self
                .gateways
                .iter()
                .filter_map(|&gateways| self.turns(family, gateways, REFUSED, program))
                .flatten()
                .copied()
                .collect();
            Spread::of(&all)
        };
        (of(EMPTY), of(PARSE))
    }

    /// Above parsing of the same packets in the same round.
    pub(super) fn above(&self, family: &str, gateways: u64, case: &str, program: &str) -> Option<Spread> {
        let floor = self.turns(family, gateways, case, PARSE)?;
        let all = self.turns(family, gateways, case, program)?;
        let above: Vec<f64> = all.iter().zip(floor).map(|(all, floor)| all - floor).collect();
        Some(Spread::of(&above))
    }

    /// The number of gateways that the goals speak of, or the one measured that is next below.
    pub(super) fn large(&self) -> u64 {
        let below = self.gateways.iter().copied().filter(|&gateways| gateways <= MANY).max();
        below.or_else(|| self.gateways.iter().copied().min()).unwrap_or(MANY)
    }

    /// Goals of which everything was measured.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let many = self.large();
        let number = thousands(many);
        let mut goals = Vec::new();
        for family in FAMILIES {
            let median = |gateways, case, program| self.above(family, gateways, case, program).map(|spread| spread.median);
            let mut goal = |what: String, value: Option<f64>, than: Option<f64>, most| {
                if let (Some(value), Some(than)) = (value, than) {
                    goals.push(Goal {
                        what,
                        family,
                        ratio: value / than,
                        most,
                    });
                }
            };
            let refused = median(many, REFUSED, OWN);
            goal(
                format!("random source refused, {number} gateways: of xdp-filter's cost above parsing"),
                refused,
                median(many, REFUSED, THEIRS),
                0.5,
            );
            goal(
                format!("random source refused, {number} gateways: of the cost with {FEW}"),
                refused,
                median(FEW, REFUSED, OWN),
                1.2,
            );
            goal(
                format!("ip hit, one source, {number} gateways: of xdp-filter's cost above parsing"),
                median(many, HOT, OWN),
                median(many, HOT, THEIRS),
                1.0,
            );
        }
        goals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same in each family: refused, hot.
    fn measured(own: [f64; 2]) -> Value {
        let mut turns = Vec::new();
        for family in FAMILIES {
            for gateways in [FEW, MANY] {
                for (case, own) in [REFUSED, HOT].into_iter().zip(own) {
                    for (program, above) in [(EMPTY, -10.0), (PARSE, 0.0), (OWN, own), (THEIRS, 40.0)] {
                        // The machine is slower in the second round.
                        let rounds = [30.0 + above, 50.0 + above];
                        turns.push(json!({
                            "family": family, "gateways": gateways, "case": case, "program": program, "nanoseconds": rounds
                        }));
                    }
                }
            }
        }
        json!({ "turns": turns })
    }

    fn figures(own: [f64; 2]) -> Result<Figures> {
        Figures::new(&measured(own), vec![FEW, MANY])
    }

    #[test]
    fn what_is_above_parsing_is_compared_within_a_round() -> Result<()> {
        let figures = figures([20.0, 30.0])?;
        assert_eq!(figures.above("IPv6", MANY, REFUSED, OWN), Some(Spread::exact(20.0)));
        assert_eq!(figures.above("IPv6", MANY, "another case", OWN), None);
        let (empty, parse) = figures.floor("IPv4");
        assert_eq!((empty.least, parse.most, figures.rounds), (20.0, 50.0, 2));
        Ok(())
    }

    #[test]
    fn a_goal_is_met_up_to_its_bound_and_missed_beyond() -> Result<()> {
        let met = |own| -> Result<Vec<bool>> {
            let goals = figures(own)?.goals();
            Ok(goals.iter().map(|goal| goal.ratio <= goal.most).collect())
        };
        assert_eq!(met([20.0, 40.0])?, [true; 6]);
        assert_eq!(met([21.0, 41.0])?, [false, true, false, false, true, false]);
        Ok(())
    }

    #[test]
    fn what_was_not_measured_is_no_goal() -> Result<()> {
        let figures = Figures::new(&measured([20.0, 40.0]), vec![1_000])?;
        assert!(figures.goals().is_empty());
        assert_eq!(figures.large(), 1_000);
        assert!(Figures::new(&json!({ "turns": [] }), vec![FEW]).is_err());
        Ok(())
    }
}
