use super::*;

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
    assert_eq!(settings.nonce_lifetime, Duration::from_secs(300));
    assert_eq!((settings.ban_limit, settings.ban_time), (6, Duration::from_secs(180)));
    assert!(!settings.monitor && !settings.fail_open && !settings.reply_unauthorized);
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
        "interface = [\"eth0\", \"eth1\"]\nport = [5060, 5080]\nstate-dir = \"/s\"\nbpffs = \"/b\"\nsocket = \"/c\"\nsocket-group = \"g\"\n\
         xdp-mode = \"generic\"\ndefault-policy = \"challenge\"\nmonitor = true\nfail-open = true\nreply-unauthorized = true\nrealm = \"r\"\n\
         metrics = \"127.0.0.1:9100\"\npunt-port = 40000\npeer-ttl = \"1h\"\nflow-idle = \"2h\"\nnonce-lifetime = \"60s\"\nban-limit = 3\nban-time = \"5m\"\n\
         [source-rate]\ntrusted = 1\nknown = 6\n[lane-rates]\nuntrusted = 2\ndenied = 3\n",
    );
    let settings = load(&path).expect("a file").validate().expect("settings");
    assert_eq!(settings.interfaces, ["eth0", "eth1"]);
    assert_eq!(
        (settings.source_rate, settings.lane_rates),
        ([1, 6, 200, 5], [50_000, 20_000, 2, 3])
    );
    assert_eq!(settings.metrics.map(|address| address.port()), Some(9100));
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
    write("[lane-rates]\nbad = 1\n");
    assert!(load(&path).expect_err("unknown lane").to_string().contains("bad"));
    write("[lane-rates]\ndenied = 0\n");
    assert!(refusal(load(&path).expect("a file").over(minimal())).starts_with("lane-rates: the rate of lane denied is 0"));
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
