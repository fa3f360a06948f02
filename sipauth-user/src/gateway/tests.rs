use super::*;

fn raw(mode: Mode, addresses: &[&str]) -> RawGateway {
    RawGateway {
        name: "gw".to_owned(),
        mode,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ports: if mode == Mode::IpPort { vec![5060] } else { Vec::new() },
        username: (mode == Mode::Password).then(|| "user".to_owned()),
        realm: None,
        password: (mode == Mode::Password).then(|| Secret::new("pass".to_owned())),
        allow_weak_password: true,
        credentials: None,
        digest: RawDigest::default(),
        priority: 0,
    }
}

fn check(raw: RawGateway) -> Result<Gateway, GatewayError> {
    raw.validate("realm", None, |user, realm, password| {
        Secret::new(format!("{user}:{realm}:{}", password.expose()))
    })
}

fn refusal(raw: RawGateway) -> String {
    let text = check(raw).expect_err("a refusal").to_string();
    assert!(!text.contains('\n') && text.contains(';'), "one line with a remedy: {text}");
    text
}

#[test]
fn addresses_are_brought_to_one_form() {
    let gateway = check(raw(
        Mode::Ip,
        &[
            " 203.0.113.5",
            "::ffff:203.0.113.5",
            "203.0.113.5/32",
            "::ffff:198.51.100.0/120",
            "2001:db8::/48",
        ],
    ))
    .expect("a gateway");
    assert_eq!(
        gateway.addresses_text().collect::<Vec<_>>(),
        ["198.51.100.0/24", "203.0.113.5", "2001:db8::/48"]
    );
    assert!(gateway.has_source(IpAddr::from([198, 51, 100, 7])));
    assert!(gateway.has_source("::ffff:198.51.100.7".parse().expect("an address")));
    assert!(!gateway.has_source(IpAddr::from([198, 51, 101, 7])));
}

#[test]
fn host_names_stand_for_addresses_beside_others() {
    let given = raw(Mode::Ip, &["203.0.113.9", "B.example", "a.example.", "b.example"]);
    let mut gateway = check(given).expect("a gateway");
    assert_eq!(
        gateway.addresses_text().collect::<Vec<_>>(),
        ["203.0.113.9", "a.example", "b.example"]
    );
    let net = |text: &str| text.parse::<IpNet>().expect("a network");
    let answer = |name: &str| match name {
        "a.example" => Ok(vec![net("203.0.113.9/32"), net("2001:db8::1/128")]),
        "b.example" => Ok(vec![net("203.0.113.1/32")]),
        _ => Err("no such name".to_owned()),
    };
    gateway.resolve(answer).expect("answers");
    assert_eq!(
        gateway.addresses,
        [net("203.0.113.1/32"), net("203.0.113.9/32"), net("2001:db8::1/128")]
    );
    // Another answer takes the place of the first, and what was given as an address stays.
    gateway.resolve(|_| Ok(vec![net("203.0.113.2/32")])).expect("answers");
    assert_eq!(gateway.addresses, [net("203.0.113.2/32"), net("203.0.113.9/32")]);
    assert_eq!(RawGateway::from(&gateway).addresses, ["203.0.113.9", "a.example", "b.example"]);
    let error = gateway
        .resolve(|_| Err("no such name".to_owned()))
        .expect_err("no answer")
        .to_string();
    assert!(
        error.contains("a.example") && error.contains("no such name") && error.contains("resolv.conf"),
        "{error}"
    );
}

#[test]
fn a_password_gateway_with_a_host_name_is_never_from_anywhere() {
    let mut gateway = check(raw(Mode::Password, &["sip.carrier.example"])).expect("a gateway");
    let stranger = IpAddr::from([198, 51, 100, 66]);
    assert!(
        !gateway.is_anywhere() && !gateway.has_source(stranger),
        "nor before the first answer"
    );
    gateway
        .resolve(|_| Ok(vec!["203.0.113.1/32".parse().expect("a network")]))
        .expect("answers");
    assert!(!gateway.is_anywhere() && !gateway.has_source(stranger) && gateway.has_source(IpAddr::from([203, 0, 113, 1])));
    assert!(check(raw(Mode::Password, &[])).expect("a gateway").is_anywhere());
}

#[test]
fn a_wrong_address_is_named_with_the_right_one() {
    let text = refusal(raw(Mode::Ip, &["203.0.113.5/24"]));
    assert!(
        text.contains("203.0.113.0/24") && text.contains("203.0.113.5 for the one"),
        "{text}"
    );
    for wrong in [
        "",
        "203.0.113",
        "203.0.113.5/33",
        "203.0.113.5:5060",
        "example.org:5060",
        "localhost",
        "2001:db8::/129",
    ] {
        assert!(
            matches!(check(raw(Mode::Ip, &[wrong])), Err(GatewayError::Address { .. })),
            "{wrong}"
        );
    }
    for wrong in ["224.0.0.1", "239.0.0.0/8", "ff02::1", "0.0.0.0", "::", "255.255.255.255"] {
        assert!(
            matches!(check(raw(Mode::Ip, &[wrong])), Err(GatewayError::NotASource { .. })),
            "{wrong}"
        );
    }
}

#[test]
fn each_mode_takes_what_it_looks_at_and_nothing_else() {
    for mode in [Mode::Ip, Mode::IpPort, Mode::Peer] {
        assert!(check(raw(mode, &["203.0.113.5"])).is_ok());
        assert!(refusal(raw(mode, &[])).contains("--address"));
        assert!(
            refusal(RawGateway {
                username: Some("x".to_owned()),
                ..raw(mode, &["203.0.113.5"])
            })
            .contains("username")
        );
    }
    assert!(
        refusal(RawGateway {
            ports: vec![1],
            ..raw(Mode::Ip, &["203.0.113.5"])
        })
        .contains("--port")
    );
    assert!(
        refusal(RawGateway {
            ports: vec![],
            ..raw(Mode::IpPort, &["203.0.113.5"])
        })
        .contains("--port")
    );
    assert!(
        refusal(RawGateway {
            ports: vec![5060, 0],
            ..raw(Mode::IpPort, &["203.0.113.5"])
        })
        .contains("0 is not a port")
    );
    assert!(
        refusal(RawGateway {
            username: None,
            ..raw(Mode::Password, &[])
        })
        .contains("--username")
    );
    assert!(
        refusal(RawGateway {
            password: None,
            ..raw(Mode::Password, &[])
        })
        .contains("--password-stdin")
    );
    assert!(
        refusal(RawGateway {
            password: Some(Secret::default()),
            ..raw(Mode::Password, &[])
        })
        .contains("--password-stdin")
    );
    let digest = |digest| RawGateway {
        digest,
        ..raw(Mode::Password, &[])
    };
    for (wrong, key) in [
        (
            RawDigest {
                algorithms: Some(Vec::new()),
                ..RawDigest::default()
            },
            "algorithms",
        ),
        (
            RawDigest {
                challenge: Some(403),
                ..RawDigest::default()
            },
            "403",
        ),
        (
            RawDigest {
                nonce_lifetime: Some("0s".to_owned()),
                ..RawDigest::default()
            },
            "nonce-lifetime",
        ),
    ] {
        assert!(refusal(digest(wrong.clone())).contains(key));
        let elsewhere = RawGateway {
            digest: wrong,
            ..raw(Mode::Ip, &["203.0.113.5"])
        };
        assert!(refusal(elsewhere).contains("digest settings"), "no other mode has any");
    }
    assert!(
        refusal(RawGateway {
            username: Some("a:b".to_owned()),
            ..raw(Mode::Password, &[])
        })
        .contains("username")
    );
    assert!(
        refusal(RawGateway {
            name: "a b".to_owned(),
            ..raw(Mode::Ip, &["203.0.113.5"])
        })
        .contains("\"a b\"")
    );
    assert!(
        refusal(RawGateway {
            name: "a".repeat(65),
            ..raw(Mode::Ip, &["203.0.113.5"])
        })
        .contains("1 to 64")
    );
}

#[test]
fn a_password_becomes_credentials_and_is_shown_nowhere() {
    let given = raw(Mode::Password, &[]);
    assert!(!format!("{given:?}").contains("pass\""), "{given:?}");
    let gateway = check(given).expect("a gateway");
    assert_eq!(gateway.credentials.as_ref().map(Secret::expose), Some("user:realm:pass"));
    assert!(gateway.is_anywhere() && gateway.has_source(IpAddr::from([1, 2, 3, 4])));
    assert!(!format!("{gateway:?}").contains(":pass"), "{gateway:?}");
}

#[test]
fn a_weak_password_is_refused_by_its_rule_unless_it_is_allowed() {
    let given = |password: &str, allow_weak_password| RawGateway {
        password: Some(Secret::new(password.to_owned())),
        allow_weak_password,
        ..raw(Mode::Password, &[])
    };
    let text = refusal(given("1234", false));
    assert!(
        text.contains("fewer than 10") && text.contains("--generate-password") && !text.contains("1234"),
        "{text}"
    );
    assert!(check(given("1234", true)).is_ok());
    assert!(check(given("a password of its own", false)).is_ok());
    // What is hashed already cannot be judged.
    let hashed = RawGateway {
        password: None,
        credentials: Some(Secret::new(Ha1::derive("user", "realm", "1234").to_text())),
        ..given("", false)
    };
    assert!(check(hashed).is_ok());
}

#[test]
fn credentials_stay_where_username_and_realm_do() {
    let secret = Secret::new(Ha1::derive("user", "realm", "pass").to_text());
    let present = Gateway {
        credentials: Some(secret.clone()),
        ..check(raw(Mode::Password, &[])).expect("a gateway")
    };
    let again = |raw: RawGateway| raw.validate("realm", Some(&present), |_, _, _| Secret::new("derived".to_owned()));
    let silent = RawGateway {
        password: None,
        ..raw(Mode::Password, &["203.0.113.5"])
    };
    assert_eq!(again(silent.clone()).expect("kept").credentials, Some(secret.clone()));
    let renamed = RawGateway {
        username: Some("other".to_owned()),
        ..silent.clone()
    };
    assert!(matches!(again(renamed), Err(GatewayError::NeedsPassword { .. })));
    // What is exported is taken again, by another agent too.
    let exported = RawGateway::from(&present);
    assert_eq!(
        exported.clone().validate("elsewhere", None, |_, _, _| unreachable!()),
        Ok(present.clone())
    );
    let both = RawGateway {
        password: Some(Secret::new("pass".to_owned())),
        ..exported
    };
    assert!(matches!(again(both), Err(GatewayError::TwoSecrets { .. })));
    let damaged = RawGateway {
        credentials: Some(Secret::new("v1:x".to_owned())),
        ..silent
    };
    assert!(matches!(again(damaged), Err(GatewayError::Credentials { .. })));
}

#[test]
fn single_fields_change_and_another_mode_begins_anew() {
    let present = Gateway {
        credentials: Some(Secret::new(Ha1::derive("user", "realm", "pass").to_text())),
        priority: 3,
        ..check(raw(Mode::Password, &["203.0.113.5"])).expect("a gateway")
    };
    let set = |fields: SetGateway| fields.over(&present).validate("realm", Some(&present), |_, _, _| unreachable!());
    assert_eq!(set(SetGateway::default()), Ok(present.clone()));
    let moved = set(SetGateway {
        addresses: Some(vec!["203.0.113.6".to_owned()]),
        ..SetGateway::default()
    });
    assert_eq!(
        moved.map(|gateway| (gateway.addresses.len(), gateway.credentials.is_some(), gateway.priority)),
        Ok((1, true, 3))
    );
    let trusted = set(SetGateway {
        mode: Some(Mode::Ip),
        ..SetGateway::default()
    });
    assert_eq!(
        trusted.map(|gateway| (gateway.username, gateway.credentials, gateway.addresses.len())),
        Ok((None, None, 1))
    );
    let user = set(SetGateway {
        username: Some("other".to_owned()),
        ..SetGateway::default()
    });
    assert!(matches!(user, Err(GatewayError::NeedsPassword { .. })));
}

#[test]
fn a_prefix_of_everything_is_allowed_with_a_warning() {
    assert_eq!(check(raw(Mode::Ip, &["0.0.0.0/0"])).expect("a gateway").warnings().len(), 1);
    assert!(check(raw(Mode::Ip, &["10.0.0.0/8"])).expect("a gateway").warnings().is_empty());
}
