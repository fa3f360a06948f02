//! Upgrade, removal and purge.

use std::time::Duration;

use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;
use sipauth_tests::system::System;

use crate::service::add_gateways;
use crate::support::{digest, lab};
use crate::{configure, install};

/// All files but those of dpkg, apt and man-db, of the journal, and of file systems that are not disks; users besides.
fn everything(system: &System) -> anyhow::Result<Vec<String>> {
    let files = "find / -xdev ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*' ! -path '/var/cache/*' ! -path '/var/log/*' ! -path '/etc/*-' \
                 ! -path '/tmp/*' ! -path '/root/*' ! -path '/var/lib/systemd/*'; find /sys/fs/bpf /run/systemd/system /var/log/sipauth 2>/dev/null; cut -d: -f1 /etc/passwd /etc/group";
    let mut lines: Vec<String> = system.shell(files)?.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}

fn has_program(system: &System) -> anyhow::Result<bool> {
    Ok(system.must(&["ip", "-d", "link", "show", "dev", "eth0"])?.contains("prog/xdp"))
}

#[test]
fn an_upgrade_goes_on_enforcing_a_removal_detaches_and_a_purge_leaves_nothing() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let system = System::boot(&lab)?;
    let clean = everything(&system)?;
    install(&system, "/root/now.deb")?;
    assert_ne!(everything(&system)?, clean, "the look sees an installation");
    configure(&system)?;
    system.must(&["systemctl", "enable", "--now", "sipauth"])?;
    add_gateways(&system)?;
    assert!(digest(Host::PbxPassword).port(5070).run(&lab)?.all_answered(), "mode password");

    let before = system.must(&["systemctl", "show", "--property", "MainPID", "--value", "sipauth"])?;
    let load = Call::from(Host::CarrierIp)
        .times(240, 20)
        .hold(Duration::from_millis(200))
        .start(&lab)?;
    let strangers = Call::from(Host::Stranger).times(60, 5).start(&lab)?;
    let said = install(&system, "/root/next.deb")?;
    assert!(!said.contains("nothing is enforced yet"), "that is for the first time: {said}");
    let after = system.must(&["systemctl", "show", "--property", "MainPID", "--value", "sipauth"])?;
    assert_ne!(before, after, "the new agent runs");
    assert_eq!(system.must(&["systemctl", "is-active", "sipauth"])?, "active\n");
    let (load, strangers) = (load.finish()?, strangers.finish()?);
    assert!(
        load.all_answered() && load.retransmissions == 0,
        "not one packet of mode ip is lost: {load:?}"
    );
    assert!(strangers.all_refused(), "and no stranger let in: {strangers:?}");
    assert!(
        digest(Host::PbxPassword).port(5071).run(&lab)?.all_answered(),
        "mode password, after the upgrade"
    );
    assert!(
        system
            .shell("grep -q '^interface' /etc/sipauth/sipauth.toml && sipauth gateway list")?
            .contains("carrier-port")
    );

    assert!(has_program(&system)?);
    system.must(&["apt-get", "remove", "-y", "sipauth"])?;
    assert!(!has_program(&system)?, "the programs are off");
    assert!(Call::from(Host::Stranger).run(&lab)?.all_answered(), "nothing is enforced any more");
    let kept: Vec<String> = everything(&system)?.into_iter().filter(|line| !clean.contains(line)).collect();
    let expected = |line: &String| {
        ["/etc/sipauth", "/var/lib/sipauth", "/var/log/sipauth", "sipauth"]
            .iter()
            .any(|part| line.starts_with(part))
    };
    assert!(kept.iter().all(expected), "configuration, state and user only: {kept:?}");
    assert!(
        kept.contains(&"/etc/sipauth/sipauth.toml".to_owned()) && kept.contains(&"/var/lib/sipauth/sipauth.db".to_owned()),
        "{kept:?}"
    );

    system.must(&["apt-get", "purge", "-y", "sipauth"])?;
    let left: Vec<String> = everything(&system)?.into_iter().filter(|line| !clean.contains(line)).collect();
    assert_eq!(left, Vec::<String>::new());
    Ok(())
}
