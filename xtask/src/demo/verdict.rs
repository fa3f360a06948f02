//! What the filter counted during a step, and whether that is what the calls must have caused.
//!
//! A SIP message over UDP is one packet, so there the numbers are exact, retransmissions included. Over TCP the stack decides how many
//! segments there are; then only "at least" can be said, and that no other reason moved.

use sipauth_tests::agent::Stats;
use sipauth_tests::peers::Outcome;

use super::script::{Expect, Step};

/// ARP, neighbour discovery and ICMP go past the filter at any time.
const BACKGROUND: &str = "not_protected";
/// INVITE, ACK, BYE.
const PLAIN_CALL: u64 = 3;
/// INVITE, ACK to the 401, INVITE, ACK, BYE.
const DIGEST_CALL: u64 = 5;
const VERDICTS: [&str; 4] = ["pass", "drop", "punt", "absorb"];

/// Counters that moved during a step.
#[derive(Debug)]
pub(super) struct Seen {
    reasons: Vec<(String, u64)>,
    outcomes: Vec<(String, u64)>,
    gateway: Option<[u64; VERDICTS.len()]>,
}

impl Seen {
    pub(super) fn between(before: &Stats, after: &Stats, gateway: Option<&str>) -> Self {
        let mut reasons = after.moved_since(before);
        reasons.retain(|(label, _)| label != BACKGROUND);
        reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let gateway = gateway.map(|g| VERDICTS.map(|v| after.gateway(g, v).saturating_sub(before.gateway(g, v))));
        Self {
            reasons,
            outcomes: after.outcomes_since(before),
            gateway,
        }
    }

    fn reason(&self, label: &str) -> u64 {
        self.reasons.iter().find(|(l, _)| l == label).map_or(0, |(_, n)| *n)
    }

    fn outcome(&self, label: &str) -> u64 {
        self.outcomes.iter().find(|(l, _)| l == label).map_or(0, |(_, n)| *n)
    }

    /// For the live view: reasons with packets.
    pub(super) fn text(&self) -> String {
        let parts: Vec<String> = self.reasons.iter().map(|(label, n)| format!("{label} {n}")).collect();
        if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
    }

    /// For the table: the reason as an operator names it.
    pub(super) fn why(&self, step: &Step) -> String {
        match step.expect {
            Expect::RefusedByAgent(_, outcome) if self.outcome(outcome) > 0 => outcome.into(),
            Expect::Authenticated if self.outcome("authenticated") > 0 => "authenticated".into(),
            _ => self
                .reasons
                .first()
                .map_or_else(|| "nothing counted".into(), |(label, _)| label.clone()),
        }
    }

    /// Whatever does not fit to what the peers did.
    pub(super) fn disagreements(&self, step: &Step, outcome: &Outcome) -> Vec<String> {
        let mut wrong = Vec::new();
        let tcp = step.call.transport().tcp();
        let (tried, again) = (u64::from(outcome.tried), u64::from(outcome.retransmissions));
        let mut count = |what: &str, found: u64, wanted: u64, exact: bool| {
            if found < wanted || (exact && found != wanted) {
                wrong.push(format!(
                    "{what} is {found}, must be {}{wanted}",
                    if exact { "" } else { "at least " }
                ));
            }
        };
        let allowed: &[&str] = match step.expect {
            Expect::Admitted(reason) => {
                count(reason, self.reason(reason), PLAIN_CALL * tried + again, !tcp);
                &[reason]
            }
            Expect::AdmittedInFragments(reason) => {
                count(reason, self.reason(reason), PLAIN_CALL * tried + again, true);
                count("fragment", self.reason("fragment"), tried, false);
                &[reason, "fragment"]
            }
            Expect::Authenticated => {
                count(
                    "challenge, flow and own_ack",
                    self.reason("challenge") + self.reason("flow") + self.reason("own_ack"),
                    DIGEST_CALL * tried + again,
                    !tcp,
                );
                count("authenticated", self.outcome("authenticated"), tried, true);
                &["challenge", "flow", "own_ack"]
            }
            Expect::Called => {
                // 180, 200 and the far end's BYE.
                count("peer", self.reason("peer") + self.reason("peer_request"), PLAIN_CALL * tried, false);
                &["peer"]
            }
            Expect::Refused(reason) => {
                count(reason, self.reason(reason), tried + again, !tcp);
                &[reason]
            }
            Expect::RefusedByAgent(reason, agent) => {
                count(reason, self.reason(reason), tried, false);
                count(agent, self.outcome(agent), tried, false);
                count("authenticated", self.outcome("authenticated"), 0, true);
                &[reason, "no_flow", "peer", "own_ack"]
            }
        };
        for (label, n) in self.reasons.iter().filter(|(label, _)| !allowed.contains(&label.as_str())) {
            wrong.push(format!("{label} moved by {n}"));
        }
        let all: u64 = self.reasons.iter().map(|(_, n)| n).sum();
        let of_gateway = self.gateway.map(|v| v.iter().sum::<u64>());
        if of_gateway.is_some_and(|n| n != all) {
            wrong.push(format!(
                "{all} packets counted by reason, {} for the gateway",
                of_gateway.unwrap_or(0)
            ));
        }
        wrong
    }
}

/// The sum of all steps against the counters before the first and after the last: nothing may have moved in between.
pub(super) fn totals(start: &Stats, end: &Stats, rows: &[(Step, Outcome, Seen)]) -> Vec<String> {
    let moved = end.moved_since(start).into_iter().filter(|(label, _)| label != BACKGROUND);
    moved
        .filter_map(|(label, total)| {
            let sum: u64 = rows.iter().map(|(_, _, seen)| seen.reason(&label)).sum();
            (sum != total).then(|| format!("{label}: {total} in all, {sum} in the rows"))
        })
        .collect()
}
