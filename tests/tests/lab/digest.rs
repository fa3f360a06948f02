//! What a telephone can do with challenges: settings of single gateways, and replay.

use std::time::{Duration, Instant};

use sipauth_tests::agent::Agent;
use sipauth_tests::lab::Host;
use sipauth_tests::peers::{Call, Uas, Via};
use sipauth_tests::require_root;

use crate::phone::{Phone, exchange};
use crate::support::{PASSWORD, add, lab};

#[test]
fn a_gateway_is_challenged_by_its_own_settings_and_everybody_else_by_the_agents() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let agent = Agent::start(&lab, &[])?;
    let own = Host::PbxPassword.v4().to_string();
    agent.add_with_input(
        "strong",
        "password",
        &[
            "--username",
            "strong",
            "--password-stdin",
            "--address",
            &own,
            "--algorithm",
            "SHA-256",
            "--algorithm",
            "MD5",
            "--qop",
            "both",
            "--challenge",
            "407",
        ],
        &format!("{PASSWORD}\n"),
    )?;
    add(&agent, Host::NatPassword)?;
    let phone = Phone::new("strong", PASSWORD);
    let (statuses, challenge) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite("own", 1, ""))?;
    assert_eq!(statuses, [407], "{challenge}");
    let strongest = challenge.find("algorithm=SHA-256").zip(challenge.find("algorithm=MD5"));
    assert!(strongest.is_some_and(|(sha, md5)| sha < md5), "{challenge}");
    let (statuses, other) = exchange(&lab, Host::NatPassword, 5070, &Phone::new("x", "y").invite("else", 1, ""))?;
    assert_eq!(statuses, [401]);
    assert!(
        other.contains("algorithm=MD5, qop=\"auth\"\r\n") && !other.contains("SHA"),
        "{other}"
    );
    for (call, algorithm, qop) in [("a", "SHA-256", "auth-int"), ("b", "MD5", "auth")] {
        let phone = Phone {
            algorithm,
            qop,
            ..phone.clone()
        };
        let (_, challenge) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite(call, 1, ""))?;
        let invite = phone.invite(call, 2, &phone.credentials(&challenge)?);
        let (statuses, text) = exchange(&lab, Host::PbxPassword, 5070, &invite)?;
        assert!(statuses.contains(&200), "{algorithm} {qop}: {statuses:?} {text}");
    }
    let shown = agent.cli(&["gateway", "show", "strong"])?.stdout;
    assert!(shown.contains("SHA-256, MD5") && shown.contains("407"), "{shown}");
    Ok(())
}

#[test]
fn one_command_says_why_credentials_are_refused() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    let phone = Phone::new(Host::PbxPassword.name(), "not it");
    let (_, challenge) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite("why", 1, ""))?;
    let credentials = phone.credentials(&challenge)?;
    let others = credentials.replace("realm=\"sipauth\"", "realm=\"asterisk\"");
    for credentials in [&credentials, &others] {
        let (statuses, text) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite("why", 2, credentials))?;
        assert_eq!(statuses, [401], "{text}");
    }
    let shown = agent.cli(&["gateway", "show", Host::PbxPassword.name()])?.stdout;
    for words in [
        "wrong_password",
        "another password",
        "realm_mismatch",
        "\"asterisk\"",
        "INVITE sip:100@",
    ] {
        assert!(shown.contains(words), "{words}:\n{shown}");
    }
    let events = agent.cli(&["events"])?.stdout;
    assert!(
        events.contains("refuse udp 203.0.113.23:5070 > 203.0.113.10:5060 realm_mismatch"),
        "{events}"
    );
    // A namesake that comes later has not failed.
    assert_eq!(agent.cli(&["gateway", "remove", Host::PbxPassword.name()])?.code, 0);
    add(&agent, Host::PbxPassword)?;
    let report = agent.json(&["gateway", "show", Host::PbxPassword.name()])?;
    assert_eq!(report["refusals"].as_array().map(Vec::len), Some(0), "{report}");
    assert_eq!(report["username"], Host::PbxPassword.name());
    Ok(())
}

#[test]
fn a_registration_holds_its_flow_for_as_long_as_the_softswitch_granted() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch_everywhere(&lab)?;
    let agent = Agent::start(&lab, &[])?;
    add(&agent, Host::PbxPassword)?;
    // 60 s are asked for and 40 s granted, with a margin of 30 s.
    let register = Call::from(Host::PbxPassword).register(Host::PbxPassword.name(), PASSWORD);
    for via in [Via::Udp4, Via::Udp6] {
        assert!(register.clone().via(via).run(&lab)?.all_answered(), "{}", via.label());
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let flows = agent.json(&["flow", "list"])?;
        let ends: Vec<u64> = flows
            .as_array()
            .into_iter()
            .flatten()
            .filter(|flow| flow["gateway"] == Host::PbxPassword.name())
            .filter_map(|flow| flow["expires_in"].as_u64())
            .collect();
        assert_eq!(ends.len(), 2, "{flows}");
        if ends.iter().all(|left| (60..=70).contains(left)) {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "not what was granted: {flows}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_recorded_invite_is_challenged_whoever_sends_it_again_and_from_where() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let _softswitch = Uas::softswitch(&lab, Via::Udp4)?;
    let _napi = lab.receives_from_xdp(Host::Softswitch)?;
    for challenger in ["agent", "kernel"] {
        let agent = Agent::start(&lab, &["--nonce-lifetime", "3s", "--challenger", challenger])?;
        agent.add_password("roaming", "roaming", PASSWORD, &[])?;
        let phone = Phone::new("roaming", PASSWORD);
        let (one, other) = (format!("{challenger}-1"), format!("{challenger}-2"));
        // As long as one with a session description: the kernel program's answer needs the room.
        let room = format!("Subject: {}\r\n", "x".repeat(400));
        let (_, challenge) = exchange(&lab, Host::PbxPassword, 5070, &phone.invite(&one, 1, &room))?;
        assert_eq!(challenge.contains("nonce=\"k"), challenger == "kernel", "{challenge}");
        let recorded = phone.invite(&one, 2, &phone.credentials(&challenge)?);
        let (statuses, text) = exchange(&lab, Host::PbxPassword, 5070, &recorded)?;
        assert!(statuses.contains(&200), "the call itself: {statuses:?} {text}");

        let before = agent.stats()?;
        let another_call = recorded.replace(&one, &other);
        for (who, from, port, datagram) in [
            ("the same address, another port", Host::PbxPassword, 5071, &recorded),
            ("the same address and port, as another call", Host::PbxPassword, 5070, &another_call),
            ("another address", Host::Stranger, 5070, &recorded),
            ("another address, as another call", Host::Stranger, 5070, &another_call),
        ] {
            let (statuses, text) = exchange(&lab, from, port, datagram)?;
            assert_eq!(statuses, [401], "{who}: {text}");
        }
        std::thread::sleep(Duration::from_secs(3));
        for (who, datagram) in [("expired", &recorded), ("expired, as another call", &another_call)] {
            let (statuses, text) = exchange(&lab, Host::PbxPassword, 5071, datagram)?;
            assert_eq!(statuses, [401], "{who}");
            assert!(text.contains("stale=true"), "{who}: {text}");
        }
        let after = agent.stats()?;
        let moved = |label| after.authentication(label) - before.authentication(label);
        assert_eq!(moved("authenticated") + moved("retransmission"), 0);
        assert_eq!((moved("replayed"), moved("bad_nonce"), moved("stale_nonce")), (2, 2, 2));
        assert_eq!(
            agent.json(&["ban", "list"])?.as_array().map(Vec::len),
            Some(0),
            "none of this is a failure"
        );
    }
    Ok(())
}

#[test]
fn who_is_challenged_for_another_gateway_and_cannot_answer_is_warned_of() -> anyhow::Result<()> {
    require_root!(Ok(()));
    let lab = lab();
    let agent = Agent::start(&lab, &[])?;
    let secret = agent.state().join("secret");
    std::fs::write(&secret, format!("{PASSWORD}\n"))?;
    let secret = secret.display().to_string();
    let add = |name: &str, options: &[&str]| -> anyhow::Result<String> {
        let common = [
            "gateway",
            "add",
            name,
            "--mode",
            "password",
            "--username",
            name,
            "--password-file",
            &secret,
        ];
        let added = agent.cli(&[&common[..], options].concat())?;
        assert_eq!(added.code, 0, "{added:?}");
        Ok(added.stderr)
    };
    let words = |loser: &str, leader: &str, what: &str| {
        format!("gateway {loser}: who calls from 192.0.2.7/32 is challenged with the {what} of gateway {leader}")
    };
    let at = ["--address", "192.0.2.7"];
    assert_eq!(add("first", &[&at[..], &["--priority", "5"]].concat())?, "");
    assert_eq!(add("alike", &at)?, "", "settings that are the same");
    assert_eq!(add("elsewhere", &["--address", "192.0.2.8", "--algorithm", "SHA-256"])?, "");
    let said = add("other", &[&at[..], &["--algorithm", "SHA-256"]].concat())?;
    assert!(
        said.contains(&words("other", "first", "algorithms")) && !said.contains("alike"),
        "{said}"
    );
    let said = add("auth-int", &[&at[..], &["--qop", "auth-int"]].concat())?;
    assert!(said.contains(&words("auth-int", "first", "qop")), "{said}");
    // Whoever comes first now says how the others are challenged.
    let said = agent.cli(&["gateway", "set", "other", "--priority", "9"])?.stderr;
    for loser in ["first", "alike", "auth-int"] {
        assert!(said.contains(&words(loser, "other", "algorithms")), "{loser}: {said}");
    }
    // Where the address is enough nobody is challenged.
    agent.add("open", "ip", &at)?;
    let said = add("later", &[&at[..], &["--algorithm", "SHA-512-256"]].concat())?;
    assert!(!said.contains("is challenged with"), "{said}");
    assert_eq!(agent.cli(&["gateway", "remove", "open"])?.code, 0);

    // Also of those that come together.
    let file = agent.state().join("together.toml");
    let gateway = |name: &str, realm: &str| {
        format!(
            "[[gateway]]\nname = \"{name}\"\nmode = \"password\"\nusername = \"{name}\"\npassword = \"{PASSWORD}\"\n\
             allow-weak-password = true\nrealm = \"{realm}\"\naddresses = [\"192.0.2.7\"]\n"
        )
    };
    std::fs::write(&file, gateway("east", "east.example") + &gateway("west", "west.example"))?;
    let applied = agent.cli(&["apply", "--prune", "--dry-run", "-f", &file.display().to_string()])?;
    let said = applied.stdout + &applied.stderr;
    assert_eq!(said.matches("is challenged with the realm of gateway").count(), 1, "{said}");
    assert!(said.contains("east") && said.contains("west"), "{said}");
    Ok(())
}
