use crate::auth::{
    Action, Arrival, Outcome, Settings,
    testing::{Bench, Client, URI, arrival, reply, request},
};

const PASSWORD: &str = "192.0.2.200:5060";
const PEER: &str = "198.51.100.1:5060";
const STRANGER: &str = "203.0.113.1:5060";

/// The status line's code, or what else was done.
fn short(action: &Action) -> String {
    match action {
        Action::Reply { .. } => reply(action)[8..11].to_owned(),
        Action::Release { flow: None, .. } => "release".into(),
        Action::Release { .. } => "release with flow".into(),
        Action::Absorb { .. } => "absorb".into(),
    }
}

#[test]
fn who_may_send_what_without_a_password() {
    for (method, to_tag, source, trusted, denied, done, outcome) in [
        ("INVITE", "", PASSWORD, false, false, "401", Outcome::Challenged),
        ("INVITE", "", PASSWORD, true, false, "401", Outcome::Challenged),
        ("INVITE", ";tag=x", PASSWORD, true, false, "release", Outcome::InDialog),
        ("INVITE", ";tag=x", PASSWORD, false, false, "401", Outcome::Challenged),
        ("INVITE", ";tag=", PASSWORD, true, false, "401", Outcome::Challenged),
        ("BYE", ";tag=x", PASSWORD, false, false, "401", Outcome::Challenged),
        ("BYE", ";tag=x", PASSWORD, true, false, "release", Outcome::InDialog),
        ("FOO", "", PASSWORD, false, false, "401", Outcome::Challenged),
        ("OPTIONS", "", PASSWORD, false, false, "401", Outcome::Challenged),
        ("ACK", ";tag=x", PASSWORD, false, false, "absorb", Outcome::AckNoFlow),
        ("ACK", ";tag=x", PASSWORD, true, false, "release", Outcome::InDialog),
        ("CANCEL", "", PASSWORD, false, false, "481", Outcome::CancelNoFlow),
        ("CANCEL", "", PASSWORD, true, false, "release", Outcome::InDialog),
        ("INVITE", "", PEER, false, false, "403", Outcome::PeerInitial),
        ("REGISTER", "", PEER, false, false, "403", Outcome::PeerInitial),
        ("INVITE", ";tag=x", PEER, false, false, "release", Outcome::InDialog),
        ("OPTIONS", "", PEER, false, false, "release", Outcome::PeerOptions),
        ("INVITE", "", STRANGER, false, true, "403", Outcome::Denied),
        ("REGISTER", "", STRANGER, false, true, "403", Outcome::Denied),
        ("OPTIONS", "", STRANGER, false, true, "absorb", Outcome::Denied),
        ("INVITE", ";tag=x", STRANGER, false, true, "403", Outcome::Denied),
        ("INVITE", "", STRANGER, false, false, "absorb", Outcome::UnknownSource),
        ("INVITE", "", STRANGER, true, false, "absorb", Outcome::UnknownSource),
    ] {
        let mut bench = Bench::new(Settings::default());
        let arrival = Arrival {
            trusted,
            denied,
            ..arrival(source)
        };
        let action = bench.send_as(&request(method, to_tag, 1, ""), &arrival);
        assert_eq!(
            (short(&action).as_str(), action.outcome()),
            (done, outcome),
            "{method} {to_tag} {source} {trusted} {denied}"
        );
    }
}

#[test]
fn the_ack_to_our_own_response_is_absorbed_also_on_the_trusted_lane() {
    let mut bench = Bench::new(Settings::default());
    let text = reply(&bench.send(&request("INVITE", "", 1, ""), PASSWORD));
    let to = text.lines().find(|line| line.starts_with("To: ")).unwrap();
    let tag = &to[to.find(";tag=").unwrap()..];
    let trusted = Arrival {
        trusted: true,
        ..arrival(PASSWORD)
    };
    let ack = request("ACK", tag, 1, "");
    assert_eq!(bench.send_as(&ack, &trusted).outcome(), Outcome::AckAbsorbed);
    let of_another = String::from_utf8(ack).unwrap().replace(";tag=sa-", ";tag=sb-");
    assert_eq!(bench.send_as(of_another.as_bytes(), &trusted).outcome(), Outcome::InDialog);
}

#[test]
fn what_is_no_request_is_absorbed() {
    let mut bench = Bench::new(Settings::default());
    let response = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n";
    for (datagram, expected) in [
        (&b""[..], Outcome::KeepAlive),
        (b"\r\n\r\n", Outcome::KeepAlive),
        (b"\r\n\r\n\r\n\r\n", Outcome::KeepAlive),
        (response, Outcome::Response),
        (b"INVITE sip:a SIP/2.0\r\n\r\n", Outcome::Unparseable),
        (b"\xff\xfe", Outcome::Unparseable),
    ] {
        assert_eq!(bench.send(datagram, PASSWORD), Action::Absorb { outcome: expected });
    }
    // From a connection that has authenticated, it belongs to the softswitch.
    let trusted = Arrival {
        trusted: true,
        ..arrival(PASSWORD)
    };
    assert_eq!(bench.send_as(response, &trusted).outcome(), Outcome::InDialog);
}

#[test]
fn a_tag_of_another_address_than_the_first_begins_no_way_past_the_password() {
    for (to, from_peer, from_flow) in [
        ("<sip:b@h>;tag=t", "release", "release"),
        ("<sip:b@h>, <sip:c@h>;tag=t", "403", "401"),
        ("<sip:b@h>;x, <sip:c@h>;tag=t", "403", "401"),
        ("b\"<sip:b@h>;x\";tag=t", "403", "401"),
    ] {
        let mut bench = Bench::new(Settings::default());
        let datagram = String::from_utf8(request("INVITE", "", 1, ""))
            .unwrap()
            .replace(&format!("<{URI}>"), to);
        assert_eq!(short(&bench.send(datagram.as_bytes(), PEER)), from_peer, "{to}");
        let flow = Arrival {
            trusted: true,
            ..arrival(PASSWORD)
        };
        assert_eq!(short(&bench.send_as(datagram.as_bytes(), &flow)), from_flow, "{to}");
    }
}

#[test]
fn a_faulty_request_is_answered_400_where_that_is_possible() {
    let change = |from: &str, to: &str| {
        String::from_utf8(request("INVITE", "", 1, ""))
            .unwrap()
            .replace(from, to)
            .into_bytes()
    };
    let mut bench = Bench::new(Settings::default());
    for (what, datagram, done) in [
        ("a body that is cut off", change("Content-Length: 0", "Content-Length: 1"), "400"),
        ("an endless body", change("Content-Length: 0", "l: 99999999999999999999999"), "400"),
        ("another version", change("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), "400"),
        ("CSeq of another method", change("1 INVITE", "1 BYE"), "400"),
        ("a line without colon", change("Max-Forwards: 70", "Max-Forwards 70"), "400"),
        ("an indented first line", change("\r\nVia", "\r\n t: <sip:x@y>\r\nVia"), "400"),
        (
            "a To that some would see",
            change("Max-Forwards", "To\x0b: <sip:x@y>\r\nMax-Forwards"),
            "400",
        ),
        ("no Call-ID", change("Call-ID", "Call-XY"), "absorb"),
        ("two From", change("Max-Forwards: 70", "f: <sip:x@y>;tag=2"), "400"),
        ("a bare CR to copy", change("tag=f1", "tag=f1\rX: y"), "absorb"),
    ] {
        assert_eq!(short(&bench.send(&datagram, PASSWORD)), done, "{what}");
        assert_eq!(short(&bench.send(&datagram, PEER)), done, "{what}, from a routing gateway");
        assert_eq!(short(&bench.send(&datagram, STRANGER)), "absorb", "{what}, from a stranger");
    }
    let ack = String::from_utf8(request("ACK", "", 1, "")).unwrap().replace("1 ACK", "1 BYE");
    assert_eq!(short(&bench.send(ack.as_bytes(), PASSWORD)), "absorb");
}

#[test]
fn leading_line_ends_and_a_mapped_address_change_nothing() {
    let mut bench = Bench::new(Settings::default());
    let nonce = bench.nonce(PASSWORD);
    let mut invite = b"\r\n\r\n".to_vec();
    invite.extend(Client::default().invite(&nonce, 2));
    assert_eq!(bench.send(&invite, "[::ffff:192.0.2.200]:5060").outcome(), Outcome::Authenticated);
}

#[test]
fn labels_are_unique_and_few_outcomes_release() {
    let labels: std::collections::HashSet<_> = Outcome::ALL.iter().map(|o| o.label()).collect();
    assert_eq!(labels.len(), Outcome::ALL.len());
    assert_eq!(Outcome::ALL.iter().filter(|o| o.releases()).count(), 4);
}
