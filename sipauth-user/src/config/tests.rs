use super::*;
use crate::auth::{Algorithm, Qop, UriMatch};

fn minimal() -> RawSettings {
    RawSettings {
        interface: Some(vec!["eth0".to_owned()]),
        ..RawSettings::default()
    }
}

fn refusal(raw: RawSettings) -> String {
    raw.validate().expect_err("a refusal").to_string()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = minimal().validate().expect("settings");
    assert_eq!(settings.ports, [5060]);
    assert_eq!(
        settings.punt_ports().collect::<Vec<_>>(),
        [(5060, [61_060, 61_061, 61_062, 61_063])]
    );
    assert_eq!(settings.socket.to_str(), Some(DEFAULT_SOCKET));
    assert_eq!(
        (settings.peer_ttl, settings.flow_idle),
        (Duration::from_secs(43_200), Duration::from_secs(43_200))
    );
    assert_eq!(*settings.digest, DigestRules::default());
    assert_eq!((settings.ban_limit, settings.ban_time), (6, Duration::from_secs(180)));
    assert!(!settings.monitor && !settings.fail_open && !settings.reply_unauthorized && !settings.tcp_reset);
    assert_eq!(settings.policy_in_force(false), DefaultPolicy::Deny);
    assert_eq!(settings.policy_in_force(true), DefaultPolicy::Challenge);
}

#[test]
fn what_would_cut_the_operator_off_or_clash_is_refused_by_key_and_remedy() {
    let ports = |ports: &[u16]| RawSettings {
        port: Some(ports.to_vec()),
        ..minimal()
    };
    assert!(refusal(ports(&[5060, 22])).starts_with("port: 22 is SSH"));
    assert!(refusal(ports(&[0])).starts_with("port: 0"));
    assert!(refusal(ports(&[5060, 61_062])).contains("protected port 61062"));
    assert!(
        ports(&[5060, 61_068]).validate().is_ok(),
        "two protected ports need eight punt ports"
    );
    assert!(
        refusal(RawSettings {
            punt_port: Some(65_533),
            ..minimal()
        })
        .starts_with("punt-port: 65533")
    );
    assert!(
        RawSettings {
            punt_port: Some(65_532),
            ..minimal()
        }
        .validate()
        .is_ok()
    );
    assert!(refusal(RawSettings::default()).starts_with("interface:"));
    assert!(
        refusal(RawSettings {
            interface: Some(vec!["a/b".to_owned()]),
            ..minimal()
        })
        .starts_with("interface: \"a/b\"")
    );
    assert!(
        refusal(RawSettings {
            peer_ttl: Some("0s".to_owned()),
            ..minimal()
        })
        .starts_with("peer-ttl: \"0s\"")
    );
    assert!(
        refusal(RawSettings {
            state_dir: Some("lib".into()),
            ..minimal()
        })
        .starts_with("state-dir:")
    );
    assert!(
        refusal(RawSettings {
            realm: Some("a\"b".to_owned()),
            ..minimal()
        })
        .starts_with("realm:")
    );
}

#[test]
fn a_file_has_the_keys_of_the_flags_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sipauth.toml");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    write(
        "interface = [\"eth0\", \"eth1\"]\nport = [5060, 5080]\nstate-dir = \"/s\"\nlog-dir = \"/l\"\nrecords = \"journald\"\nrecords-files = 3\nbpffs = \"/b\"\nsocket = \"/c\"\nsocket-group = \"g\"\n\
         xdp-mode = \"generic\"\ndefault-policy = \"challenge\"\nmonitor = true\nfail-open = true\nreply-unauthorized = true\ntcp-reset = true\nrealm = \"r\"\n\
         metrics = \"127.0.0.1:9100\"\npunt-port = 40000\npeer-ttl = \"1h\"\nflow-idle = \"2h\"\nban-limit = 3\nban-time = \"5m\"\n\
         [digest]\nalgorithms = [\"SHA-256\", \"md5\"]\nqop = \"auth-int\"\nchallenge = 407\nnonce-lifetime = \"60s\"\none-time-nonces = true\n\
         accept-without-qop = true\nuri-match = \"loose\"\n[source-rate]\ntrusted = 1\nknown = 6\n[lane-rates]\nuntrusted = 2\ndenied = 3\n",
    );
    let settings = load(&path).expect("a file").validate().expect("settings");
    assert_eq!(settings.interfaces, ["eth0", "eth1"]);
    assert_eq!(
        (settings.source_rate, settings.lane_rates),
        ([1, 6, 200, 5], [50_000, 20_000, 2, 3])
    );
    assert_eq!(settings.metrics.map(|address| address.port()), Some(9100));
    let digest = DigestRules {
        algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        qop: Qop::AuthInt,
        accept_without_qop: true,
        proxy: true,
        nonce_lifetime: Duration::from_secs(60),
        one_time_nonces: true,
        uri_match: UriMatch::Loose,
    };
    assert_eq!(*settings.digest, digest);
    let flags = RawSettings {
        realm: Some("flag".to_owned()),
        ..RawSettings::default()
    };
    assert_eq!(flags.over(load(&path).expect("a file")).validate().expect("settings").realm, "flag");

    write("interface = [\"eth0\"]\nrealmm = \"x\"\n");
    let error = load(&path).expect_err("unknown key").to_string();
    assert!(
        error.contains("sipauth.toml:2:") && error.contains("realmm") && !error.contains('\n'),
        "{error}"
    );
    write("[digest]\nchallenge = 403\n");
    assert!(refusal(load(&path).expect("a file").over(minimal())).starts_with("digest.challenge: 403"));
    write("[lane-rates]\nbad = 1\n");
    assert!(load(&path).expect_err("unknown lane").to_string().contains("bad"));
    std::fs::write(&path, format!("{DEFAULT_TEXT}interface = [\"eth0\"]\n")).expect("written");
    let error = load(&path).expect_err("behind the tables").to_string();
    assert!(error.contains("`interface` stands in a table here; it belongs above"), "{error}");
    write("[lane-rates]\ndenied = 0\n");
    assert!(refusal(load(&path).expect("a file").over(minimal())).starts_with("lane-rates: the rate of lane denied is 0"));
}

#[test]
fn the_default_file_shows_every_key_with_its_default() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sipauth.toml");
    std::fs::write(&path, DEFAULT_TEXT).expect("written");
    let defaults = minimal().validate().expect("settings");
    assert_eq!(load(&path).expect("as it is").validate().expect("settings"), defaults);

    // With each default put into force nothing changes, but for what has no default.
    let uncommented: String = DEFAULT_TEXT
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&path, &uncommented).expect("written");
    let written = load(&path).expect("every default");
    let settings = Settings {
        metrics: None,
        console: None,
        console_token_file: None,
        socket_group: None,
        ..written.clone().validate().expect("settings")
    };
    assert_eq!(settings, defaults);
    for (table, unknown) in [
        ("", "zzz = 1"),
        ("digest", "[digest]\nzzz = 1"),
        ("lane-rates", "[lane-rates]\nzzz = 1"),
    ] {
        std::fs::write(&path, unknown).expect("written");
        let error = load(&path).expect_err("no such key").to_string();
        let keys: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(keys.len() >= 3, "{error}");
        let missing: Vec<&&str> = keys
            .iter()
            .filter(|key| !uncommented.contains(&format!("\n{key} = ")) && !uncommented.contains(&format!("\n[{key}]")))
            .collect();
        assert!(missing.is_empty(), "{table}: {missing:?}");
    }
}

#[test]
fn times_are_read_as_people_write_them() {
    let seconds = |text| parse_duration(text).map(|time| time.as_secs());
    assert_eq!(
        [seconds("300"), seconds("300s"), seconds("5 m"), seconds("12h"), seconds("7d")],
        [300, 300, 300, 43_200, 604_800].map(Some)
    );
    for text in ["", "h", "-1s", "1.5h", "1y", "99999999999999999999s", "18446744073709551615d"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}
