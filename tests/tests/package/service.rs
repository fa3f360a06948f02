//! The service under systemd.

use std::time::{Duration, Instant};

use sipauth_tests::lab::{Host, Lab};
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;
use sipauth_tests::system::System;

use crate::support::{PASSWORD, digest, lab};
use crate::{configure, install};

/// A property of the service.
fn property(system: &System, name: &str) -> anyhow::Result<String> {
    Ok(system
        .must(&["systemctl", "show", "--property", name, "--value", "sipauth"])?
        .trim()
        .to_owned())
}

fn wait_for_restarts(system: &System, wanted: &str) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    while property(system, "NRestarts")? != wanted || property(system, "ActiveState")? != "active" {
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(40), "not started {wanted} times again");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(begin.elapsed())
}

/// Gateways of three modes, added by the command line of the package.
pub(crate) fn add_gateways(system: &System) -> anyhow::Result<()> {
    let (ip, port, password) = (Host::CarrierIp.v4(), Host::CarrierPort.v4(), Host::PbxPassword.name());
    system.shell(&format!("sipauth gateway add carrier-ip --mode ip --address {ip}"))?;
    system.shell(&format!(
        "sipauth gateway add carrier-port --mode ip-port --address {port} --port 5060"
    ))?;
    system.shell(&format!(
        "printf '%s\\n' '{PASSWORD}' | sipauth gateway add {password} --mode password --username {password} --password-stdin"
    ))?;
    Ok(())
}

fn every_mode_works(lab: &Lab, port: u16) -> anyhow::Result<()> {
    assert!(Call::from(Host::CarrierIp).run(lab)?.all_answered(), "mode ip");
    assert!(Call::from(Host::CarrierPort).run(lab)?.all_answered(), "mode ip-port");
    assert!(digest(Host::PbxPassword).port(port).run(lab)?.all_answered(), "mode password");
    assert!(Call::from(Host::Stranger).run(lab)?.all_refused(), "strangers");
    Ok(())
}

#[test]
fn it_runs_as_its_own_user_and_comes_back_when_it_dies_or_hangs() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let system = System::boot(&lab)?;
    install(&system, "/root/now.deb")?;
    let unconfigured = system.run(&["systemctl", "start", "sipauth"])?;
    assert_ne!(unconfigured.code, 0, "no interface is named yet");
    system.must(&["systemctl", "stop", "sipauth"])?;
    configure(&system)?;
    system.shell("mkdir -p /etc/systemd/system/sipauth.service.d; printf '[Service]\\nWatchdogSec=4\\n' > /etc/systemd/system/sipauth.service.d/watchdog.conf")?;
    system.must(&["systemctl", "daemon-reload"])?;
    // It returns when the agent says that it is ready.
    system.must(&["systemctl", "enable", "--now", "sipauth"])?;
    assert!(property(&system, "StatusText")?.contains("enforcing on eth0"));
    add_gateways(&system)?;
    every_mode_works(&lab, 5070)?;

    let main = property(&system, "MainPID")?;
    let rights = system.shell(&format!(
        "cat /proc/{main}/task/*/status | grep -E '^(Uid|Cap(Eff|Prm|Amb)|NoNewPrivs)' | sort -u"
    ))?;
    let user = system.must(&["id", "-u", "sipauth"])?;
    let user = user.trim();
    let none = "0000000000000000";
    assert_eq!(
        rights,
        format!("CapAmb:\t{none}\nCapEff:\t{none}\nCapPrm:\t{none}\nNoNewPrivs:\t1\nUid:\t{user}\t{user}\t{user}\t{user}\n")
    );

    let outsider = system.run(&["setpriv", "--reuid=65534", "--clear-groups", "--regid=65534", "sipauth", "status"])?;
    assert!(outsider.code == 2 && outsider.stderr.contains("not allowed"), "{outsider:?}");
    let member = system.run(&["setpriv", "--reuid=65534", "--clear-groups", "--regid=sipauth", "sipauth", "status"])?;
    assert_eq!(member.code, 0, "a member of the group: {member:?}");

    // Longer than the watchdog's patience: it is fed.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(property(&system, "NRestarts")?, "0");
    system.must(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "sipauth"])?;
    assert!(Call::from(Host::CarrierIp).run(&lab)?.all_answered(), "mode ip, without the agent");
    println!("after kill -9: active again after {:?}", wait_for_restarts(&system, "1")?);
    every_mode_works(&lab, 5071)?;

    system.must(&["systemctl", "kill", "--kill-whom=main", "--signal=STOP", "sipauth"])?;
    println!("after it hung: active again after {:?}", wait_for_restarts(&system, "2")?);
    every_mode_works(&lab, 5072)?;
    Ok(())
}
