//! `sipauth doctor` in front of one thing broken at a time: the finding appears, what it says is true, and it goes with its cause.

use anyhow::Context as _;
use serde_json::Value;
use sipauth_tests::agent::{Agent, binary};
use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::support::{add, digest, lab};

/// What doctor found.
struct Findings {
    code: i32,
    all: Vec<Value>,
}

impl Findings {
    fn read(code: i32, stdout: &str) -> anyhow::Result<Self> {
        let all = serde_json::from_str(stdout).with_context(|| format!("exit {code}: {stdout}"))?;
        Ok(Self { code, all })
    }

    /// Beside a running agent, from another network namespace than its own.
    fn beside(agent: &Agent<'_>) -> anyhow::Result<Self> {
        let answer = agent.cli(&["doctor", "--json"])?;
        Self::read(answer.code, &answer.stdout)
    }

    /// Without an agent, in the softswitch's namespace.
    fn before(lab: &Lab, options: &[&str]) -> anyhow::Result<Self> {
        let mut command = lab.command(Host::Softswitch, binary()?);
        command.args(["doctor", "--json", "--socket", "/nonexistent/sipauth.sock", "--bpffs"]);
        let out = command.arg(lab.bpffs()).args(options).output()?;
        Self::read(out.status.code().unwrap_or(-1), &String::from_utf8_lossy(&out.stdout))
    }

    fn problems(&self) -> Vec<&Value> {
        self.all.iter().filter(|finding| finding["state"] == "problem").collect()
    }

    /// Exactly one problem, of this check; its text and remedy.
    #[track_caller]
    fn only(&self, check: &str) -> (String, String) {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{:#?}", self.all);
        assert_eq!((problems[0]["check"].as_str(), self.code), (Some(check), 1), "{:#?}", problems);
        let text = |key: &str| problems[0][key].as_str().unwrap_or_default().to_owned();
        (text("text"), text("remedy"))
    }

    #[track_caller]
    fn assert_none(&self) {
        assert_eq!(self.problems(), Vec::<&Value>::new());
        assert_eq!(self.code, 0);
    }
}

#[test]
fn doctor_finds_no_problem_before_the_first_run_nor_beside_the_agent() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let options = ["--interface", "eth0", "--port", "5060"];
    let before = Findings::before(&lab, &options)?;
    before.assert_none();
    for check in [
        "kernel",
        "programs",
        "privileges",
        "bpffs",
        "driver",
        "softswitch",
        "firewall",
        "conntrack",
        "clock",
        "state-dir",
    ] {
        assert!(
            before.all.iter().any(|finding| finding["check"] == check),
            "{check}: {:#?}",
            before.all
        );
    }
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    let beside = Findings::beside(&agent)?;
    beside.assert_none();
    let ours = beside
        .all
        .iter()
        .find(|finding| finding["check"] == "xdp")
        .context("no look at XDP")?;
    assert!(ours["text"].as_str().is_some_and(|text| text.contains("our program")), "{ours}");
    // To an agent with pins of its own, this one's program is foreign, and its ports are taken.
    let other = Findings::before(&lab, &options)?;
    let checks: Vec<&str> = other.problems().iter().filter_map(|finding| finding["check"].as_str()).collect();
    assert_eq!(checks, ["xdp", "agent-ports"], "{:#?}", other.all);
    Ok(())
}

#[test]
fn doctor_misses_the_softswitch_when_nobody_listens() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    let (text, _) = Findings::beside(&agent)?.only("softswitch");
    assert!(text.contains("nobody listens on port 5060"), "{text}");
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    Findings::beside(&agent)?.assert_none();
    Ok(())
}

#[test]
fn doctor_names_the_firewall_that_drops_the_agents_ports_and_the_command_that_mends_it() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let nft = |rules: &str| lab.run(Host::Softswitch, &["nft", rules]);
    nft(
        "add table inet site; add chain inet site in { type filter hook input priority 0; policy drop; }; \
         add rule inet site in ct state established,related accept; add rule inet site in iifname lo accept; \
         add rule inet site in meta l4proto icmpv6 accept; add rule inet site in udp dport 5060 accept; \
         add rule inet site in tcp dport { 22, 5060 } accept",
    )?;
    let checked = (|| {
        let (text, remedy) = Findings::beside(&agent)?.only("firewall");
        assert!(text.contains("61060-61063") && text.contains("inet site in"), "{text}");
        let refused = digest(Host::PbxPassword).run(&lab)?;
        assert!(refused.all_refused(), "the finding is true: {refused:?}");
        let command = remedy
            .split(", and put it")
            .next()
            .and_then(|text| text.strip_prefix("nft "))
            .context("no command")?;
        nft(command)?;
        Findings::beside(&agent)?.assert_none();
        let admitted = digest(Host::PbxPassword).run(&lab)?;
        assert!(admitted.all_answered(), "and so is its remedy: {admitted:?}");
        anyhow::Ok(())
    })();
    nft("delete table inet site")?;
    checked
}

#[test]
fn doctor_tells_a_strict_rp_filter_only_where_it_drops_a_gateway() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::CarrierIp)?;
    let shell = |script: &str| lab.run(Host::Softswitch, &["sh", "-ec", script]);
    shell(
        "ip link add elsewhere type veth peer name beyond; ip link set elsewhere up; ip link set beyond up; echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter",
    )?;
    let checked = (|| {
        Findings::beside(&agent)?.assert_none();
        assert!(Call::from(Host::CarrierIp).run(&lab)?.all_answered(), "strict, and it hurts nobody");
        let route = format!("ip route {{}} {}/32 dev elsewhere", Host::CarrierIp.v4());
        shell(&route.replace("{}", "add"))?;
        let (text, remedy) = Findings::beside(&agent)?.only("rp_filter");
        assert!(
            text.contains(&Host::CarrierIp.v4().to_string()) && remedy.contains("rp_filter=2"),
            "{text}"
        );
        assert!(Call::from(Host::CarrierIp).run(&lab)?.all_refused(), "the finding is true");
        shell(&route.replace("{}", "del"))?;
        Findings::beside(&agent)?.assert_none();
        anyhow::Ok(())
    })();
    shell("ip link del elsewhere; echo 0 > /proc/sys/net/ipv4/conf/eth0/rp_filter")?;
    checked
}

#[test]
fn doctor_knows_which_interface_cannot_carry_the_program() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let ip = |args: &str| {
        let mut all = vec!["ip"];
        all.extend(args.split(' '));
        lab.run(Host::Softswitch, &all)
    };
    let checks = |options: &[&str]| -> anyhow::Result<Vec<String>> {
        let found = Findings::before(&lab, options)?;
        Ok(found
            .problems()
            .iter()
            .map(|finding| finding["check"].as_str().unwrap_or_default().to_owned())
            .collect())
    };
    ip("link add big0 type veth peer name big1")?;
    let checked = (|| {
        ip("link set big1 up")?;
        ip("link set big0 up")?;
        ip("link add dull0 type bridge")?;
        ip("link set big0 master dull0")?;
        let bridge = ["--interface", "dull0"];
        assert_eq!(checks(&bridge)?, ["interface", "driver"], "switched off, and no XDP in its driver");
        ip("link set big0 mtu 9000")?;
        ip("link set dull0 up mtu 9000")?;
        assert_eq!(checks(&bridge)?, ["driver", "mtu"]);
        assert_eq!(checks(&["--interface", "dull0", "--xdp-mode", "generic"])?, [""; 0]);
        assert_eq!(checks(&["--interface", "nothere0"])?, ["interface"]);
        assert_eq!(checks(&["--interface", "big0"])?, [""; 0], "it has frames of several buffers");
        anyhow::Ok(())
    })();
    ip("link del big0")?;
    ip("link del dull0")?;
    checked
}
