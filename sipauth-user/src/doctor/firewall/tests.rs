use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::{config::XdpMode, doctor::State};

fn site() -> Site {
    Site {
        interfaces: vec!["eth0".to_owned()],
        ports: vec![5060],
        punt: vec![61_060, 61_061, 61_062, 61_063],
        xdp_mode: XdpMode::Native,
        state_dir: PathBuf::new(),
        bpffs: PathBuf::new(),
        agent: None,
    }
}

fn dport(protocol: &str, right: &Value) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": right}})
}

fn accept(matches: &[Value]) -> Value {
    let mut all = matches.to_vec();
    all.push(json!({"accept": null}));
    Value::Array(all)
}

/// One input chain with this policy and these rules.
fn rules(policy: &str, rules: &[Value]) -> Ruleset {
    let mut all = vec![
        json!({"metainfo": {"json_schema_version": 1}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "services"}}),
        json!({"set": {"family": "inet", "table": "filter", "name": "carriers", "elem": ["203.0.113.5"]}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": policy}}),
    ];
    for rule in rules {
        all.push(json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": rule}}));
    }
    let json = json!({ "nftables": all });
    Ruleset::parse(json.to_string().as_bytes()).expect("rules")
}

fn lo() -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}})
}

fn state(which: &Value) -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": which}})
}

#[test]
fn a_policy_of_drop_needs_a_rule_for_the_agents_ports() {
    let usual = [
        accept(&[state(&json!(["established", "related"]))]),
        accept(&[lo()]),
        accept(&[dport("udp", &json!(5060))]),
        accept(&[dport("tcp", &json!({"set": [22, 5060]}))]),
    ];
    let found = judge(&rules("drop", &usual), &site());
    assert_eq!(found.state, State::Problem, "{found:?}");
    assert!(
        found.text.contains("the policy of the chain inet filter input") && found.text.contains("UDP and TCP to 61060-61063"),
        "{found:?}"
    );
    let remedy = found.remedy.expect("a remedy");
    assert!(
        remedy.starts_with("nft insert rule inet filter input meta l4proto { tcp, udp } th dport 61060-61063 accept"),
        "{remedy}"
    );

    assert_eq!(judge(&rules("accept", &usual), &site()).state, State::Ok);
    let with = |port: Value| {
        let mut all = usual.to_vec();
        all.extend(["udp", "tcp"].map(|protocol| accept(&[dport(protocol, &port)])));
        judge(&rules("drop", &all), &site())
    };
    assert_eq!(with(json!({"range": [61_060, 61_063]})).state, State::Ok);
    assert_eq!(with(json!({"set": [{"range": [61_000, 61_999]}, 5060]})).state, State::Ok);
    // The fourth is missing.
    assert_eq!(with(json!({"range": [61_060, 61_062]})).state, State::Problem);
}

#[test]
fn what_is_admitted_by_password_must_get_through_on_lo() {
    let closed = [
        accept(&[
            json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@carriers"}}),
            dport("th", &json!(5060)),
        ]),
        accept(&[dport("th", &json!({"range": [61_060, 61_063]}))]),
    ];
    // IPv6 has no rule at all, so there it is certain.
    let found = judge(&rules("drop", &closed), &site());
    assert_eq!(found.state, State::Problem, "{found:?}");
    let open = [
        accept(&[dport("th", &json!({"range": [61_060, 61_063]}))]),
        accept(&[lo()]),
        accept(&[dport("th", &json!(5060))]),
    ];
    assert_eq!(judge(&rules("drop", &open), &site()).state, State::Ok);
}

#[test]
fn what_is_not_understood_depends() {
    let limited = json!([dport("th", &json!({"range": [61_060, 61_063]})), {"limit": {"rate": 5, "per": "second"}}, {"accept": null}]);
    let all = [limited, accept(&[lo()]), accept(&[dport("th", &json!(5060))])];
    let found = judge(&rules("drop", &all), &site());
    assert_eq!(found.state, State::Unknown, "{found:?}");
    let iptables = json!([{"xt": {"type": "match", "name": "udp"}}, {"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]);
    assert_eq!(judge(&rules("accept", &[iptables]), &site()).state, State::Unknown);
}

#[test]
fn a_rule_that_drops_is_found_also_behind_a_jump() {
    let drop = json!([dport("udp", &json!(61_061)), {"drop": null}]);
    assert_eq!(judge(&rules("accept", std::slice::from_ref(&drop)), &site()).state, State::Problem);
    let mut set = rules("accept", &[json!([{"jump": {"target": "services"}}])]);
    assert_eq!(judge(&set, &site()).state, State::Ok);
    set = Ruleset::parse(
        json!({"nftables": [
            {"chain": {"family": "inet", "table": "filter", "name": "services"}},
            {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "prio": 0, "policy": "accept"}},
            {"rule": {"family": "inet", "table": "filter", "chain": "services", "expr": drop}},
            {"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"jump": {"target": "services"}}]}},
        ]})
        .to_string()
        .as_bytes(),
    )
    .expect("rules");
    let found = judge(&set, &site());
    assert!(
        found.state == State::Problem && found.text.contains("inet filter services"),
        "{found:?}"
    );
    assert_eq!(judge(&Ruleset::default(), &site()).state, State::Ok);
}

#[test]
fn iptables_of_old_is_read_as_far_as_ports_go() {
    let judged = |saved: &str| read_legacy(saved, &site(), "r".to_owned()).state;
    assert_eq!(judged("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"), State::Ok);
    assert_eq!(
        judged(":INPUT DROP [0:0]\n-A INPUT -p udp -m udp --dport 5060 -j ACCEPT\n"),
        State::Problem
    );
    assert_eq!(
        judged(":INPUT DROP [0:0]\n-A INPUT -p udp -m multiport --dports 5060,61060:61063 -j ACCEPT\n"),
        State::Ok
    );
    assert_eq!(judged(":INPUT ACCEPT [0:0]\n-A INPUT -j ufw-before-input\n"), State::Unknown);
}
