//! What rules of nftables, as `nft -j list ruleset` prints them, do to a packet that begins something. What is not understood here
//! makes the answer depend, never accept.

use std::collections::HashMap;

use serde_json::Value;

/// Chains that jump to each other are followed so far.
const DEPTH: usize = 16;

/// A packet on its way in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Where it arrives.
    pub(super) interface: &'a str,
    /// Of which family.
    pub(super) ipv6: bool,
    /// TCP or UDP.
    pub(super) tcp: bool,
    /// Destination.
    pub(super) port: u16,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives.
    Accepted,
    /// It depends on what is not looked into here: the source address, a limit, a match that is not understood.
    Depends(String),
    /// It does not arrive.
    Dropped(String),
}

impl Fate {
    pub(super) const fn severity(&self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Depends(_) => 1,
            Self::Dropped(_) => 2,
        }
    }
}

struct Chain {
    family: String,
    table: String,
    name: String,
    /// Of a base chain: its hook, priority and policy.
    hook: Option<(String, i64, bool)>,
    /// Of an ingress hook.
    device: Option<String>,
    rules: Vec<Vec<Value>>,
}

/// All tables.
#[derive(Default)]
pub(super) struct Ruleset {
    chains: Vec<Chain>,
    sets: HashMap<String, Value>,
}

/// What a rule, or the rest of a chain, says.
enum Said {
    Accept,
    Drop(String),
    /// Back to the chain that jumped here.
    Return,
}

/// Whether a match holds; `None`: it depends.
type Holds = Option<bool>;

impl Ruleset {
    /// Reads what `nft -j` prints.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let all: Value = serde_json::from_slice(json).ok()?;
        let mut set = Self::default();
        for object in all.get("nftables")?.as_array()? {
            if let Some(chain) = object.get("chain") {
                set.chains.push(read_chain(chain)?);
            } else if let Some(rule) = object.get("rule") {
                let key = [text(rule, "family")?, text(rule, "table")?, text(rule, "chain")?];
                let chain = set
                    .chains
                    .iter_mut()
                    .find(|chain| [&chain.family, &chain.table, &chain.name] == [&key[0], &key[1], &key[2]])?;
                chain.rules.push(rule.get("expr")?.as_array()?.clone());
            } else if let Some(one) = object.get("set") {
                let elements = one.get("elem").cloned().unwrap_or(Value::Array(Vec::new()));
                set.sets.insert(format!("@{}", text(one, "name")?), elements);
            }
        }
        Some(set)
    }

    /// Whether nothing can drop: no base chain on the way in with a rule or a policy.
    pub(super) fn is_empty(&self) -> bool {
        self.base_chains()
            .all(|chain| chain.rules.is_empty() && chain.hook.as_ref().is_some_and(|(_, _, accepts)| *accepts))
    }

    /// Where a rule for what comes in belongs: `inet filter input`.
    pub(super) fn input_chain(&self) -> Option<String> {
        let chain = self
            .base_chains()
            .find(|chain| chain.hook.as_ref().is_some_and(|(hook, _, _)| hook == "input"))?;
        Some(format!("{} {} {}", chain.family, chain.table, chain.name))
    }

    fn base_chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter().filter(|chain| {
            let family = matches!(chain.family.as_str(), "ip" | "ip6" | "inet" | "netdev");
            let hook = chain
                .hook
                .as_ref()
                .is_some_and(|(hook, _, _)| matches!(hook.as_str(), "ingress" | "prerouting" | "input"));
            family && hook
        })
    }

    /// What becomes of a packet: every base chain on its way must let it through.
    pub(super) fn fate(&self, packet: &Packet<'_>) -> Fate {
        let mut fate = Fate::Accepted;
        let mut chains: Vec<&Chain> = self.base_chains().filter(|chain| sees(chain, packet)).collect();
        chains.sort_by_key(|chain| chain.hook.as_ref().map(|(hook, priority, _)| (hook == "input", *priority)));
        for chain in chains {
            let mut doubts = Vec::new();
            let accepts = chain.hook.as_ref().is_none_or(|(_, _, accepts)| *accepts);
            let verdict = match self.walk(chain, packet, &mut doubts, 0) {
                Said::Return if accepts => Said::Accept,
                Said::Return => Said::Drop(format!("the policy of the chain {}", label(chain))),
                said => said,
            };
            let next = match (verdict, doubts.into_iter().next()) {
                (Said::Drop(by), None) => Fate::Dropped(by),
                (Said::Drop(by), Some((true, rule))) => Fate::Depends(format!("{rule}, since otherwise {by} drops it")),
                (_, Some((false, rule))) => Fate::Depends(rule),
                _ => Fate::Accepted,
            };
            if next.severity() > fate.severity() {
                fate = next;
            }
        }
        fate
    }

    /// Rule by rule. A rule that may match, and would end the walk otherwise than the rest does, is a doubt: (accepts, rule).
    fn walk(&self, chain: &Chain, packet: &Packet<'_>, doubts: &mut Vec<(bool, String)>, depth: usize) -> Said {
        for rule in &chain.rules {
            let mut holds = Some(true);
            for expression in rule {
                let Some((kind, body)) = expression.as_object().and_then(|object| object.iter().next()) else {
                    continue;
                };
                let said = match kind.as_str() {
                    "match" => {
                        holds = and(holds, self.holds(body, packet));
                        None
                    }
                    // Another kind of match, of iptables, or a limit.
                    "xt" | "limit" | "quota" | "connlimit" | "ct count" => {
                        holds = and(holds, None);
                        None
                    }
                    "accept" => Some(Said::Accept),
                    "drop" | "reject" => Some(Said::Drop(format!("a rule of the chain {}", label(chain)))),
                    "return" => Some(Said::Return),
                    "jump" | "goto" => self.jump(kind == "goto", body, chain, packet, doubts, depth),
                    "vmap" => {
                        doubts.push((true, format!("a verdict map of the chain {}", label(chain))));
                        None
                    }
                    // Counters, logs, marks.
                    _ => None,
                };
                if holds == Some(false) {
                    break;
                }
                match (said, holds) {
                    (Some(said), Some(true)) => return said,
                    (Some(Said::Accept), _) => doubts.push((true, format!("a rule of the chain {}", label(chain)))),
                    (Some(Said::Drop(by)), _) => doubts.push((false, by)),
                    _ => {}
                }
            }
        }
        Said::Return
    }

    /// `None`: the walk goes on behind it.
    fn jump(
        &self,
        ends: bool,
        body: &Value,
        from: &Chain,
        packet: &Packet<'_>,
        doubts: &mut Vec<(bool, String)>,
        depth: usize,
    ) -> Option<Said> {
        let target = body.get("target").and_then(Value::as_str)?;
        let chain = self
            .chains
            .iter()
            .find(|chain| chain.name == target && chain.table == from.table && chain.family == from.family)?;
        if depth == DEPTH {
            doubts.push((true, format!("the chain {}", label(chain))));
            return None;
        }
        match self.walk(chain, packet, doubts, depth + 1) {
            Said::Return if !ends => None,
            said => Some(said),
        }
    }

    fn holds(&self, body: &Value, packet: &Packet<'_>) -> Holds {
        let (left, right) = (body.get("left")?, body.get("right")?);
        let equal = match body.get("op").and_then(Value::as_str)? {
            "==" | "in" => true,
            "!=" => false,
            _ => return None,
        };
        let has = |value: &Value| self.has(right, value);
        let found = if let Some(key) = left.get("meta").and_then(|meta| meta.get("key")).and_then(Value::as_str) {
            match key {
                "iifname" | "iif" => has_name(right, packet.interface).or_else(|| has(&packet.interface.into())),
                "l4proto" => has(&if packet.tcp { "tcp" } else { "udp" }.into())
                    .map(|found| found || has(&if packet.tcp { 6 } else { 17 }.into()) == Some(true)),
                "nfproto" => has(&if packet.ipv6 { "ipv6" } else { "ipv4" }.into()),
                "protocol" => has(&if packet.ipv6 { "ip6" } else { "ip" }.into()),
                _ => None,
            }
        } else if let Some(payload) = left.get("payload") {
            match (
                payload.get("protocol").and_then(Value::as_str),
                payload.get("field").and_then(Value::as_str),
            ) {
                // A match in a header that the packet does not have.
                (Some("tcp"), _) if !packet.tcp => return Some(false),
                (Some("udp"), _) if packet.tcp => return Some(false),
                (Some("sctp" | "dccp" | "icmp" | "icmpv6"), _) => return Some(false),
                (Some("ip"), _) if packet.ipv6 => return Some(false),
                (Some("ip6"), _) if !packet.ipv6 => return Some(false),
                (Some("tcp" | "udp" | "th"), Some("dport")) => has(&packet.port.into()),
                (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => has(&if packet.tcp { "tcp" } else { "udp" }.into()),
                _ => None,
            }
        } else if left.get("ct").and_then(|ct| ct.get("key")).and_then(Value::as_str) == Some("state") {
            has(&"new".into())
        } else {
            None
        };
        found.map(|found| found == equal)
    }

    /// Whether a right side has the value; `None` where it cannot be told.
    fn has(&self, right: &Value, value: &Value) -> Holds {
        match right {
            Value::String(name) if name.starts_with('@') => self.has(self.sets.get(name)?, value),
            Value::Array(all) => any(all, |one| self.has(one, value)),
            Value::Object(object) => {
                if let Some(all) = object.get("set") {
                    return match all {
                        Value::Array(all) => any(all, |one| self.has(one, value)),
                        one => self.has(one, value),
                    };
                }
                if let Some([first, last]) = object.get("range").and_then(Value::as_array).map(Vec::as_slice) {
                    let (first, last, value) = (first.as_u64()?, last.as_u64()?, value.as_u64()?);
                    return Some((first..=last).contains(&value));
                }
                // An element with a counter or a time.
                self.has(object.get("elem")?.get("val")?, value)
            }
            one if one.is_number() == value.is_number() => Some(one == value),
            // The name of a service, or a number for a name.
            Value::Number(_) | Value::String(_) if value.is_string() => Some(false),
            _ => None,
        }
    }
}

fn any(all: &[Value], holds: impl Fn(&Value) -> Holds) -> Holds {
    let mut found = Some(false);
    for one in all {
        match holds(one) {
            Some(true) => return Some(true),
            None => found = None,
            Some(false) => {}
        }
    }
    found
}

const fn and(a: Holds, b: Holds) -> Holds {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// `eth*` is written with its star.
fn has_name(right: &Value, interface: &str) -> Holds {
    let prefix = right.as_str()?.strip_suffix('*')?;
    Some(interface.starts_with(prefix))
}

fn sees(chain: &Chain, packet: &Packet<'_>) -> bool {
    match chain.family.as_str() {
        "ip" => !packet.ipv6,
        "ip6" => packet.ipv6,
        "netdev" => chain.device.as_deref() == Some(packet.interface),
        _ => true,
    }
}

fn label(chain: &Chain) -> String {
    format!("{} {} {}", chain.family, chain.table, chain.name)
}

fn read_chain(chain: &Value) -> Option<Chain> {
    let hook = match text(chain, "hook") {
        Some(hook) => {
            let priority = chain.get("prio").and_then(Value::as_i64).unwrap_or(0);
            Some((hook, priority, text(chain, "policy").as_deref() != Some("drop")))
        }
        None => None,
    };
    Some(Chain {
        family: text(chain, "family")?,
        table: text(chain, "table")?,
        name: text(chain, "name")?,
        hook,
        device: text(chain, "dev"),
        rules: Vec::new(),
    })
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}
