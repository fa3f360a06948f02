use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_consistent() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn every_documented_invocation_is_understood() {
    for line in [
        "sipauth run --interface eth0",
        "sipauth run --interface eth0 --interface eth1 --config /etc/s.toml --state-dir /s --log-dir /l --records syslog --records-files 3 --bpffs /b --socket /c --port 5060 --port 5080 \
         --xdp-mode native --default-policy deny --monitor --realm r --metrics 127.0.0.1:9100",
        "sipauth run --config f --xdp-mode generic --default-policy challenge --fail-open --reply-unauthorized --tcp-reset --punt-port 40000 --socket-group g",
        "sipauth run --interface eth0 --console 127.0.0.1:9161 --console-token-file /etc/t",
        "sipauth run --interface eth0 --default-policy allow --peer-ttl 1h --flow-idle 1h --nonce-lifetime 60s --ban-limit 0 --ban-time 10m",
        "sipauth gateway add a --mode ip --address 203.0.113.5 --address 198.51.100.0/24",
        "sipauth gateway add a --mode ip-port --address 203.0.113.6 --port 5060 --port 5070 --priority -5",
        "sipauth gateway add a --mode password --username gw1 --password-stdin",
        "sipauth gateway add a --mode password --username gw1 --password-file f --address 10.0.0.0/8 --realm r --json",
        "sipauth gateway add a --mode password --username g --password-file f --algorithm SHA-256 --algorithm md5 --qop both \
         --accept-without-qop --challenge 407 --nonce-lifetime 60s --one-time-nonces --uri-match loose",
        "sipauth run --interface eth0 --algorithm SHA-512-256 --qop auth-int --one-time-nonces=false --accept-without-qop=true",
        "sipauth gateway add a --mode password --username g --generate-password",
        "sipauth gateway set a --password-file f --allow-weak-password",
        "sipauth gateway add a --mode peer --address 203.0.113.9 --priority 3",
        "sipauth gateway list --json",
        "sipauth gateway show a --json",
        "sipauth gateway remove a",
        "sipauth ban add 203.0.113.5 --port 5060 --for 1h --reason scans",
        "sipauth ban add 2001:db8::1",
        "sipauth ban remove 203.0.113.5",
        "sipauth ban list --json",
        "sipauth flow list --json",
        "sipauth apply -f gateways.toml --prune --dry-run --json",
        "sipauth apply --file -",
        "sipauth import g.csv --mode ip --skip-bad --prune --dry-run --json",
        "sipauth check --config f",
        "sipauth reload --json",
        "sipauth config default",
        "sipauth export --without-credentials",
        "sipauth gateway set a --address 203.0.113.5 --address 10.0.0.0/8 --port 5060 --priority -1 --json",
        "sipauth gateway set a --anywhere --username u --password-stdin --qop none --mode password",
        "sipauth ban import list.txt --for 7d",
        "sipauth explain 203.0.113.5",
        "sipauth explain 203.0.113.5:5060 --dst-port 5060 --transport tcp --method response --json",
        "sipauth explain [2001:db8::1]:5060 --method REGISTER",
        "sipauth stats --json --socket /x",
        "sipauth --socket /x status --json",
        "sipauth top --json",
        "sipauth detach --bpffs /b --json",
        "sipauth events --follow --json",
        "sipauth records --last 5 --gateway a --log-dir /l --json",
        "sipauth trace carrier-a --pcap f.pcap --for 30s --count 10 --json",
        "sipauth trace 2001:db8::1",
        "sipauth doctor --interface eth0 --port 5060 --json",
        "sipauth doctor",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("an error"));
    }
}

#[test]
fn wrong_arguments_are_answered_in_one_line() {
    for (line, names) in [
        ("sipauth gateway add a --address 203.0.113.5", "--mode"),
        ("sipauth gateway add a --mode ipp", "'ipp'"),
        (
            "sipauth gateway add a --mode password --password-stdin --password-file f",
            "--password-file",
        ),
        (
            "sipauth gateway add a --mode password --username g --generate-password --password-stdin",
            "--password-stdin",
        ),
        ("sipauth gateway add a --mode password --algorithm SHA1", "SHA1"),
        ("sipauth ban add nowhere", "'nowhere'"),
        ("sipauth ban add 1.2.3.4 --for 1y", "'1y'"),
        ("sipauth explain nowhere", "'nowhere'"),
        ("sipauth explain 1.2.3.4 --method a/b", "'a/b'"),
        ("sipauth run --port 70000", "'70000'"),
        ("sipauth run --metrics 9100", "'9100'"),
        ("sipauth trace a --for never", "'never'"),
        ("sipauth frobnicate", "'frobnicate'"),
    ] {
        let error = usage_line(&parse(line).expect_err("an error"));
        assert!(
            error.contains(names) && !error.contains('\n') && !error.starts_with("error"),
            "{line}: {error}"
        );
    }
}

#[test]
fn a_source_is_an_address_with_or_without_a_port() {
    let read = |text: &str| {
        text.parse::<explain::Source>()
            .map(|source| (source.address.to_string(), source.port))
    };
    assert_eq!(read("203.0.113.5"), Ok(("203.0.113.5".to_owned(), None)));
    assert_eq!(read("203.0.113.5:40000"), Ok(("203.0.113.5".to_owned(), Some(40_000))));
    assert_eq!(read("2001:db8::1"), Ok(("2001:db8::1".to_owned(), None)));
    assert_eq!(read("[2001:db8::1]:1"), Ok(("2001:db8::1".to_owned(), Some(1))));
    assert!(read("203.0.113.5:99999").is_err());
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "interface = [\"eth9\"]\nport = [5070]\nmonitor = true\n").expect("written");
    let line = format!("sipauth run --config {} --port 5080", path.display());
    let Command::Run(args) = parse(&line).expect("arguments").command else {
        panic!("not run")
    };
    let settings = args.origin(Some("/x.sock".into())).read().expect("settings").settings;
    assert_eq!(
        (settings.interfaces, settings.ports, settings.monitor),
        (vec!["eth9".to_owned()], vec![5080], true)
    );
    assert_eq!(settings.socket, PathBuf::from("/x.sock"));
}

#[test]
fn a_refusal_of_the_agent_keeps_its_exit_code() {
    assert!(understand(Response::no(&"no")).expect_err("no").is::<No>());
    assert!(!understand(Response::failed(&"no")).expect_err("failed").is::<No>());
}

#[test]
fn a_cause_is_said_once() {
    let missing = crate::config::load(std::path::Path::new("/nonexistent")).expect_err("no file");
    assert_eq!(chain(&missing.into()).matches("os error 2").count(), 1);
    assert_eq!(chain(&anyhow::anyhow!("cause").context("what")), "what: cause");
}
