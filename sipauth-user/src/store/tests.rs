use std::{os::unix::fs::PermissionsExt as _, time::Instant};

use super::*;
use crate::{
    auth::{Algorithm, Timestamp},
    config::RawDigest,
    gateway::{HostName, Mode, Names, Secret},
};

fn gateway(name: &str, mode: Mode) -> Gateway {
    let password = mode == Mode::Password;
    Gateway {
        name: name.to_owned(),
        mode,
        addresses: vec![
            "198.51.100.0/24".parse().expect("a network"),
            "2001:db8::1/128".parse().expect("a network"),
        ],
        names: Names::default(),
        ports: if mode == Mode::IpPort { vec![5060, 5070] } else { Vec::new() },
        username: password.then(|| format!("user-{name}")),
        realm: password.then(|| "realm".to_owned()),
        credentials: password.then(|| Secret::new("0123".to_owned())),
        digest: RawDigest {
            algorithms: password.then(|| vec![Algorithm::Sha256, Algorithm::Md5Sess]),
            challenge: password.then_some(407),
            ..RawDigest::default()
        },
        priority: -3,
    }
}

#[tokio::test]
async fn gateways_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let all: Vec<Gateway> = Mode::ALL.into_iter().map(|mode| gateway(mode.label(), mode)).collect();
    let store = Store::open(directory.path()).await.expect("a store");
    let mut change = store.begin().await.expect("a change");
    assert_eq!(change.add_many(&all).await.expect("ids"), [1, 2, 3, 4]);
    change.commit().await.expect("a commit");
    let keys = store.nonce_keys(Timestamp(1_800_000_000_000)).await.expect("keys");
    store.close().await;

    let store = Store::open(directory.path()).await.expect("a store");
    let loaded = store.load_all().await.expect("gateways");
    assert_eq!(loaded.into_iter().map(|(_, gateway)| gateway).collect::<Vec<_>>(), all);
    let again = store.nonce_keys(Timestamp(1_800_000_000_001)).await.expect("keys");
    assert_eq!((again.current, again.previous), (keys.current, None));
    let mode = fs::metadata(store.path()).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn what_host_names_stood_for_survives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let net = |text: &str| text.parse::<ipnet::IpNet>().expect("a network");
    let host = |name: &str, addresses: &[&str]| HostName {
        name: name.to_owned(),
        addresses: addresses.iter().map(|text| net(text)).collect(),
    };
    let mut named = gateway("named", Mode::Password);
    named.names = Names::new(
        vec![
            host("b.example", &["203.0.113.1/32", "2001:db8::1/128"]),
            host("a.example", &["203.0.113.2/32"]),
        ],
        &[net("198.51.100.0/24")],
    );
    named.settle();
    assert_eq!(named.addresses.len(), 4);
    let store = Store::open(directory.path()).await.expect("a store");
    let mut change = store.begin().await.expect("a change");
    let id = change.add(&named).await.expect("an id");
    change.commit().await.expect("a commit");
    store.close().await;
    let store = Store::open(directory.path()).await.expect("a store");
    assert_eq!(store.load_all().await.expect("gateways"), [(id, named.clone())]);
    // A new answer takes the place of the old one.
    named.resolve(|_| Ok(vec![net("203.0.113.9/32")])).expect("answers");
    let mut change = store.begin().await.expect("a change");
    change.replace(id, &named).await.expect("replaced");
    change.commit().await.expect("a commit");
    assert_eq!(store.load_all().await.expect("gateways"), [(id, named)]);
}

#[tokio::test]
async fn nonce_keys_are_renewed_once_a_day_and_the_one_before_stays_good() {
    const DAY: u64 = 86_400_000;
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).await.expect("a store");
    let at = async |ms| store.nonce_keys(Timestamp(ms)).await.expect("keys");
    let first = at(100 * DAY).await;
    assert_eq!(first.previous, None);
    assert_eq!(at(101 * DAY - 1).await.current, first.current, "not yet");
    let second = at(101 * DAY).await;
    assert_ne!(second.current, first.current);
    assert_eq!(second.previous, Some(first.current));
    // A clock that was set back by more than a day must not keep a key for ever.
    let third = at(50 * DAY).await;
    assert_eq!(third.previous, Some(second.current));
    assert_eq!(at(50 * DAY + 1).await.current, third.current);
}

#[tokio::test]
async fn a_dropped_change_changes_nothing_and_a_free_id_is_used_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).await.expect("a store");
    let mut change = store.begin().await.expect("a change");
    change
        .add_many(&["a", "b", "c"].map(|name| gateway(name, Mode::Ip)))
        .await
        .expect("ids");
    change.commit().await.expect("a commit");
    let mut change = store.begin().await.expect("a change");
    assert_eq!(change.remove("b").await.expect("an id"), 2);
    drop(change);
    assert_eq!(store.load_all().await.expect("gateways").len(), 3);
    let mut change = store.begin().await.expect("a change");
    change.remove("b").await.expect("an id");
    assert_eq!(change.add(&gateway("d", Mode::IpPort)).await.expect("an id"), 2);
    change.commit().await.expect("a commit");
    let loaded = store.load_all().await.expect("gateways");
    assert!(
        loaded.contains(&(2, gateway("d", Mode::IpPort))),
        "nothing of the gateway that had the id before is left: {loaded:?}"
    );
}

#[tokio::test]
async fn names_and_usernames_are_unique() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).await.expect("a store");
    let mut change = store.begin().await.expect("a change");
    change.add(&gateway("a", Mode::Password)).await.expect("an id");
    assert!(matches!(change.add(&gateway("a", Mode::Ip)).await, Err(StoreError::Taken { .. })));
    let same_user = Gateway {
        name: "b".to_owned(),
        ..gateway("a", Mode::Password)
    };
    assert!(matches!(change.add(&same_user).await, Err(StoreError::Taken { .. })));
    assert!(matches!(change.remove("z").await, Err(StoreError::Unknown { .. })));
}

#[tokio::test]
async fn bans_survive_a_restart_and_a_store_of_version_1_gets_what_it_lacks() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).await.expect("a store");
    sqlx::raw_sql("DROP TABLE bans; DROP TABLE names; ALTER TABLE gateways DROP COLUMN digest; PRAGMA user_version = 1")
        .execute(&store.pool)
        .await
        .expect("version 1");
    store.close().await;
    let ban = |last, expires| StoredBan {
        address: std::net::IpAddr::from([203, 0, 113, last]),
        port: Some(5060),
        expires,
        reason: "why".to_owned(),
    };
    let store = Store::open(directory.path()).await.expect("a store");
    let copy = directory.path().join("sipauth.db.v1.bak");
    let mode = fs::metadata(&copy).expect("a copy of before").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut change = store.begin().await.expect("a change");
    change.add(&gateway("new", Mode::Password)).await.expect("an id");
    change.commit().await.expect("a commit");
    store.add_bans(&[ban(1, Some(100)), ban(2, None)], 50).await.expect("added");
    store.close().await;
    let store = Store::open(directory.path()).await.expect("a store");
    assert_eq!(store.bans().await.expect("bans"), [ban(1, Some(100)), ban(2, None)]);
    store.add_bans(&[ban(2, Some(300))], 100).await.expect("added");
    assert_eq!(store.bans().await.expect("bans"), [ban(2, Some(300))]);
    assert!(store.remove_ban(ban(2, None).address).await.expect("removed"));
    assert!(!store.remove_ban(ban(2, None).address).await.expect("not there"));
}

#[tokio::test]
async fn a_newer_or_damaged_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(FILE);
    let store = Store::open(directory.path()).await.expect("a store");
    sqlx::raw_sql("PRAGMA user_version = 7")
        .execute(&store.pool)
        .await
        .expect("a version");
    store.close().await;
    let error = Store::open(directory.path()).await.expect_err("newer").to_string();
    assert!(error.contains("version 7") && error.contains("knows 4"), "{error}");

    fs::write(&path, [0x5a; 8192]).expect("written");
    let error = Store::open(directory.path()).await.expect_err("damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert_eq!(fs::read(&path).expect("read"), [0x5a; 8192]);
}

#[tokio::test]
async fn whatever_damages_the_file_is_called_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = directory.path().join("whole");
    let store = Store::open(directory.path()).await.expect("a store");
    let mut change = store.begin().await.expect("a change");
    let many: Vec<Gateway> = (0..500).map(|n| gateway(&format!("g{n}"), Mode::IpPort)).collect();
    change.add_many(&many).await.expect("ids");
    change.commit().await.expect("a commit");
    store.close().await;
    let path = directory.path().join(FILE);
    fs::copy(&path, &whole).expect("copied");
    let bytes = fs::read(&whole).expect("read");
    let sql = async |text: &'static str| {
        let options = SqliteConnectOptions::new().filename(&path).foreign_keys(false);
        let pool = SqlitePoolOptions::new().connect_with(options).await.expect("a database");
        sqlx::raw_sql(text).execute(&pool).await.expect("a statement");
        pool.close().await;
    };
    for what in [
        "nothing",
        "truncated",
        "no database",
        "a page",
        "its index",
        "a lost table",
        "a mode",
        "an address",
        "another type",
    ] {
        fs::write(&path, &bytes).expect("written");
        let mut damaged = bytes.clone();
        match what {
            "truncated" => damaged.truncate(bytes.len() / 2),
            "no database" => damaged[..4096].fill(0x5a),
            "a page" => damaged[8192..12288].fill(0x5a),
            _ => {}
        }
        fs::write(&path, &damaged).expect("written");
        match what {
            "its index" => sql("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'bans') WHERE name LIKE 'sqlite_autoindex_gateways_1'").await,
            "a lost table" => sql("DROP TABLE ports").await,
            "a mode" => sql("UPDATE gateways SET mode = 'none' WHERE id = 7").await,
            "an address" => sql("INSERT INTO addresses VALUES (7, 'x')").await,
            "another type" => sql("UPDATE gateways SET priority = 99999999999 WHERE id = 7").await,
            _ => {}
        }
        let result = match Store::open(directory.path()).await {
            Ok(store) => {
                let all = store.load_all().await;
                store.close().await;
                all.map(|all| all.len())
            }
            Err(error) => Err(error),
        };
        match (what, result) {
            ("nothing", result) => assert_eq!(result.expect("whole"), 500),
            (_, Err(StoreError::Corrupt { .. })) => {}
            (_, other) => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_newest_copy_that_is_whole_takes_the_place_of_a_damaged_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(FILE);
    let error = restore(directory.path(), None).await.expect_err("no copy").to_string();
    assert!(error.contains("no copy"), "{error}");
    let store = Store::open(directory.path()).await.expect("a store");
    store.back_up().await.expect("a copy");
    let copied = || fs::read(path.with_extension("db.bak")).expect("a copy");
    let empty = copied();
    store.back_up().await.expect("nothing to do");
    let mut change = store.begin().await.expect("a change");
    change.add(&gateway("a", Mode::Ip)).await.expect("an id");
    change.commit().await.expect("a commit");
    assert_eq!(copied(), empty, "not at every change");
    store.back_up().await.expect("a copy");
    assert_ne!(copied(), empty, "the change is in it");
    store.close().await;
    fs::write(&path, [0x5a; 8192]).expect("damaged");
    fs::write(path.with_extension("db-wal"), "of the damaged one").expect("written");
    fs::write(path.with_extension("db.v2.bak"), "a newer copy, damaged too").expect("written");
    let said = Store::open(directory.path()).await.expect_err("damaged").to_string();
    assert!(said.contains("sipauth restore --state-dir"), "{said}");

    let restored = restore(directory.path(), None).await.expect("restored");
    assert_eq!((restored.from, restored.gateways), (path.with_extension("db.bak"), 1));
    let kept = restored.kept.expect("the damaged database");
    assert_eq!(fs::read(kept).expect("read"), [0x5a; 8192]);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let store = Store::open(directory.path()).await.expect("a store");
    assert_eq!(store.load_all().await.expect("gateways").len(), 1);
    let missing = restore(directory.path(), Some(Path::new("/nowhere")))
        .await
        .expect_err("no such file");
    assert!(missing.to_string().contains("/nowhere"), "{missing}");
}

#[tokio::test]
async fn ten_thousand_gateways_load_in_a_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).await.expect("a store");
    let all: Vec<Gateway> = (0..10_000)
        .map(|n| gateway(&format!("g{n}"), if n % 2 == 0 { Mode::Ip } else { Mode::Password }))
        .collect();
    let mut change = store.begin().await.expect("a change");
    change.add_many(&all).await.expect("ids");
    change.commit().await.expect("a commit");
    let start = Instant::now();
    assert_eq!(store.load_all().await.expect("gateways").len(), 10_000);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
