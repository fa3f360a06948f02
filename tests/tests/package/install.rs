//! What the package puts where.

use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;
use sipauth_tests::system::System;

use crate::support::lab;
use crate::{configure, install};

#[test]
fn everything_is_in_place_works_and_enforces_nothing_yet() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let system = System::boot(&lab)?;
    let missing = system.run(&["sipauth", "--version"])?;
    assert_ne!(missing.code, 0, "before the installation: {missing:?}");
    let said = install(&system, "/root/now.deb")?;
    assert!(
        said.contains("nothing is enforced yet") && said.contains("systemctl enable --now sipauth"),
        "{said}"
    );

    let modes = "stat -c '%a %U:%G %n' /usr/sbin/sipauth /etc/sipauth /etc/sipauth/sipauth.toml /usr/lib/systemd/system/sipauth.service";
    assert_eq!(
        system.shell(modes)?,
        "755 root:root /usr/sbin/sipauth\n755 root:root /etc/sipauth\n644 root:root /etc/sipauth/sipauth.toml\n\
         644 root:root /usr/lib/systemd/system/sipauth.service\n"
    );
    assert!(
        system
            .must(&["dpkg-query", "--show", "--showformat=${Conffiles}", "sipauth"])?
            .contains("/etc/sipauth/sipauth.toml")
    );
    assert_eq!(system.must(&["dpkg", "--verify", "sipauth"])?, "");
    assert!(system.must(&["getent", "passwd", "sipauth"])?.contains("/nologin"));
    assert_eq!(system.run(&["systemctl", "is-enabled", "sipauth"])?.stdout, "disabled\n");
    assert_eq!(system.run(&["systemctl", "is-active", "sipauth"])?.stdout, "inactive\n");
    assert!(system.must(&["sipauth", "--version"])?.starts_with("sipauth "));

    let page = system.shell("MANPAGER=cat man 8 sipauth-gateway-add")?;
    assert!(page.contains("What is verified of its calls"), "{page}");
    let completed = system.shell(
        "source /usr/share/bash-completion/completions/sipauth; complete -p sipauth; \
         COMP_WORDS=(sipauth gateway a); COMP_CWORD=2; _sipauth sipauth a gateway; echo \"${COMPREPLY[@]}\"",
    )?;
    assert!(completed.ends_with("\nadd\n"), "{completed}");

    let check = system.run(&["sipauth", "check"])?;
    assert!(check.code == 1 && check.stderr.contains("interface"), "as installed: {check:?}");
    configure(&system)?;
    let check = system.run(&["sipauth", "check"])?;
    assert_eq!(check.code, 0, "with an interface: {check:?}");

    let verified = system.run(&["systemd-analyze", "verify", "sipauth.service"])?;
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{verified:?}");
    let exposure = system.must(&["systemd-analyze", "security", "--no-pager", "sipauth.service"])?;
    let exposure = exposure.lines().last().unwrap_or_default();
    println!("{exposure}");
    let score: f64 = exposure
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .next()
        .expect("a score");
    assert!(score < 2.5, "{exposure}");

    assert!(Call::from(Host::Stranger).run(&lab)?.all_answered(), "nothing is enforced");
    Ok(())
}
