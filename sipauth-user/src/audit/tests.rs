#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::{
    config::RawDigest,
    control::{ApplyReport, BanRule, ChangedGateway, ReloadReport},
    gateway::{Mode, Secret},
};

const SECRET: &str = "hunter2 of the test";

fn root() -> Author {
    Author::of(Caller {
        uid: 0,
        gid: 0,
        pid: Some(i32::try_from(std::process::id()).unwrap()),
    })
}

fn raw(name: &str) -> RawGateway {
    RawGateway {
        name: name.to_owned(),
        mode: Mode::Password,
        addresses: vec!["203.0.113.5".to_owned()],
        ports: Vec::new(),
        username: Some("u".to_owned()),
        realm: None,
        password: Some(Secret::new(SECRET.to_owned())),
        allow_weak_password: false,
        credentials: Some(Secret::new(format!("MD5:{SECRET}"))),
        digest: RawDigest::default(),
        priority: 0,
    }
}

/// The line that is written for a request and its answer, if one is.
fn line(request: &Request, response: &Response) -> Option<Value> {
    let directory = tempfile::tempdir().unwrap();
    let audit = Audit::new(directory.path().to_owned());
    if let Some(attempt) = Attempt::of(request) {
        audit.record(&root(), attempt, response);
    }
    let text = fs::read_to_string(directory.path().join("audit.jsonl")).ok()?;
    assert_eq!(text.lines().count(), 1);
    assert!(!text.contains(SECRET), "{text}");
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn a_line_says_who_did_what_when_and_what_came_of_it() {
    let line = line(&Request::GatewayAdd { gateway: raw("office") }, &Response::Unbanned).unwrap();
    assert_eq!((&line["action"], &line["result"]), (&json!("gateway-add"), &json!("done")));
    assert_eq!((&line["uid"], &line["user"]), (&json!(0), &json!("root")));
    assert_eq!(line["pid"], std::process::id());
    assert!(line["command"].as_str().unwrap().starts_with("sipauth"), "{line}");
    assert_eq!(
        line["what"],
        json!({ "gateway": "office", "mode": "password", "fields": ["addresses", "username", "password"] })
    );
    assert!(humantime::parse_rfc3339(line["time"].as_str().unwrap()).is_ok());
}

#[test]
fn every_change_has_a_line_and_nothing_else_has() {
    let info = |password: &str, priority| {
        let raw = RawGateway {
            credentials: None,
            ..raw("a")
        };
        let gateway = raw.validate("r", None, |_, _, _| Secret::new(password.to_owned())).unwrap();
        GatewayInfo {
            priority,
            ..GatewayInfo::new(1, &gateway)
        }
    };
    let applied = Response::Applied(ApplyReport {
        added: vec![info("x", 0)],
        changed: vec![ChangedGateway {
            before: info("x", 0),
            after: info("y", 3),
            password: true,
        }],
        ..ApplyReport::default()
    });
    let reloaded = Response::Reloaded(ReloadReport {
        applied: vec!["monitor".to_owned()],
        ..ReloadReport::default()
    });
    let apply = |dry_run| Request::Apply {
        gateways: vec![raw("a")],
        prune: true,
        dry_run,
    };
    let set = Request::GatewaySet {
        name: "a".to_owned(),
        fields: Box::new(SetGateway {
            password: Some(Secret::new(SECRET.to_owned())),
            priority: Some(1),
            ..SetGateway::default()
        }),
    };
    let ban = BanRule {
        address: "192.0.2.1".parse().unwrap(),
        port: None,
        seconds: Some(60),
        reason: "scans".to_owned(),
    };
    let remove = Request::GatewayRemove { name: "a".to_owned() };
    let no = Response::no(&"there is no gateway a");
    for (request, response, action, what) in [
        (
            set,
            Response::Unbanned,
            "gateway-set",
            json!({ "gateway": "a", "fields": ["password", "priority"] }),
        ),
        (remove, no, "gateway-remove", json!({ "gateway": "a" })),
        (
            apply(false),
            applied,
            "apply",
            json!({ "gateways": 1, "prune": true, "added": ["a"], "changed": [{ "gateway": "a", "fields": ["password", "priority"] }], "removed": [] }),
        ),
        (
            Request::BanAdd { bans: vec![ban] },
            Response::Banned { count: 1 },
            "ban-add",
            json!({ "bans": [{ "address": "192.0.2.1", "port": null, "seconds": 60, "reason": "scans" }] }),
        ),
        (
            Request::BanRemove {
                address: "192.0.2.1".parse().unwrap(),
            },
            Response::Unbanned,
            "ban-remove",
            json!({ "address": "192.0.2.1" }),
        ),
        (
            Request::Reload,
            reloaded,
            "reload",
            json!({ "applied": ["monitor"], "restart": [] }),
        ),
        (
            Request::Detach,
            Response::Detached {
                removed: vec!["all".to_owned()],
            },
            "detach",
            json!({ "removed": ["all"] }),
        ),
    ] {
        let line = line(&request, &response).unwrap();
        assert_eq!((&line["action"], &line["what"]), (&json!(action), &what));
        let refused = action == "gateway-remove";
        assert_eq!(line["result"], if refused { "refused" } else { "done" });
        assert_eq!(line["error"].is_string(), refused, "{line}");
    }
    for silent in [apply(true), Request::Export, Request::Status, Request::GatewayList] {
        assert!(line(&silent, &Response::Unbanned).is_none());
    }
}

#[test]
fn what_a_caller_writes_cannot_begin_another_line() {
    let request = Request::GatewayRemove {
        name: format!("a\n{{\"action\":\"forged\"}}{}", "x".repeat(1_000)),
    };
    let line = line(&request, &Response::Unbanned).unwrap();
    assert_eq!(line["what"]["gateway"].as_str().unwrap().chars().count(), 64);
}
