//! Screens as text: what is there, at which size, and what keys do to it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Modifier},
};

use super::{
    answer::Question,
    feed::News,
    keys::{self, Wish},
    sources::Recent,
    state::{Focus, State},
    theme::Theme,
    view,
};
use crate::{
    config::RawDigest,
    control::{EventRecord, GatewayInfo, Transport},
    gateway::Mode,
    rates::tests::sample,
};

const NARROW: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (160, 45);

fn buffer(state: &State, theme: Theme, (width, height): (u16, u16), now: Instant) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, state, theme, now)).unwrap();
    terminal.backend().buffer().clone()
}

fn screen(state: &State, size: (u16, u16)) -> String {
    screen_at(state, size, Instant::now())
}

fn screen_at(state: &State, size: (u16, u16), now: Instant) -> String {
    let buffer = buffer(state, Theme::new(true), size, now);
    let line = |row: &[ratatui::buffer::Cell]| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
    buffer.content.chunks(usize::from(size.0)).map(|row| line(row) + "\n").collect()
}

fn line_with<'a>(screen: &'a str, text: &str) -> &'a str {
    screen
        .lines()
        .find(|line| line.contains(text))
        .unwrap_or_else(|| panic!("no {text:?} in\n{screen}"))
}

fn gateway(name: &str, mode: Mode, addresses: &[&str]) -> GatewayInfo {
    GatewayInfo {
        name: name.to_owned(),
        id: 1,
        mode,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ports: if mode == Mode::IpPort { vec![5060] } else { Vec::new() },
        names: Vec::new(),
        username: None,
        realm: None,
        digest: RawDigest::default(),
        priority: 0,
    }
}

fn event(source: &str, reason: &str, head: &str) -> News {
    News::Event(Box::new(EventRecord {
        time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64(),
        source: source.parse().unwrap(),
        destination: "203.0.113.10:5060".parse().unwrap(),
        transport: Transport::Udp,
        verdict: "drop".to_owned(),
        reason: reason.to_owned(),
        gateway: None,
        monitored: false,
        frame_len: 400,
        detail: None,
        head: head.to_owned(),
    }))
}

/// Two seconds of calls: carrier-a 100/s, office 10/s, a new gateway of which nothing is known yet.
fn busy() -> State {
    let mut state = State::new();
    let now = Instant::now();
    let reasons = |pass: u64, drop: u64| {
        [
            ("pass", "ip_match", pass),
            ("drop", "unknown_source", drop),
            ("punt", "challenge", pass / 10),
        ]
    };
    for (second, pass, drop) in [(1.0, 1_000, 5), (2.0, 1_100, 8), (3.0, 1_210, 13)] {
        let gateways = [("carrier-a", pass), ("office", pass / 10)];
        state.take(News::Sample(Box::new(sample(second, &reasons(pass, drop), &gateways))), now);
    }
    state.take(
        News::Gateways(vec![
            gateway("carrier-a", Mode::Ip, &["203.0.113.5", "198.51.100.0/24"]),
            gateway("office", Mode::Password, &[]),
            gateway("newcomer", Mode::IpPort, &["2001:db8::7"]),
        ]),
        now,
    );
    for _ in 0..3 {
        state.take(
            event("192.0.2.66:5060", "unknown_source", "INVITE sip:100@203.0.113.10 SIP/2.0"),
            now,
        );
    }
    state.take(event("[2001:db8::66]:5080", "no_flow", "SIP/2.0 200 OK"), now);
    state
}

fn press(state: &mut State, code: KeyCode) -> Wish {
    keys::press(state, KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_text(state: &mut State, text: &str) {
    for letter in text.chars() {
        assert_eq!(press(state, KeyCode::Char(letter)), Wish::Nothing);
    }
}

#[test]
fn rates_gateways_and_sources_are_on_the_screen_narrow_and_wide() {
    let state = busy();
    for size in [NARROW, WIDE] {
        let screen = screen(&state, size);
        for (row, parts) in [
            ("  pass ", vec!["110 /s", "88.0 kbit/s"]),
            ("  drop ", vec!["5.0 /s"]),
            ("  punt ", vec!["11.0 /s"]),
            (
                "  lanes ",
                vec!["too many 0/s; trusted 10.0 ", "untrusted 10.0 (25%)", "denied 10.0"],
            ),
            ("  agent ", vec!["up 1 h 6 min", "2 workers", "4 flows", "3 bans"]),
            ("carrier-a", vec!["ip ", "203.0.113.5 +1", "110"]),
            ("office", vec!["password", "anywhere", "11.0"]),
            ("newcomer", vec!["ip-port", "2001:db8::7 :5060", " - "]),
            ("refused sources (2)", vec!["sampled"]),
            ("192.0.2.66", vec![" 3 ", "unknown_source", "INVITE sip:100"]),
            ("2001:db8::66", vec![" 1 ", "no_flow", "SIP/2.0 200"]),
            ("q quit", vec!["Enter explain", "Tab switch", "/ filter"]),
        ] {
            let line = line_with(&screen, row);
            for part in parts {
                assert!(line.contains(part), "{part:?} is not in {line:?}\n{screen}");
            }
        }
        assert!(line_with(&screen, "sipauth 0.1.0").contains("eth0 (native)  enforcing"));
    }
    // Where there is room, a gateway has its trend.
    assert!(line_with(&screen(&state, WIDE), "carrier-a").contains('█'));
}

#[test]
fn every_size_can_be_drawn_in_every_state() {
    let mut asked = busy();
    press(&mut asked, KeyCode::Enter);
    asked.take(
        News::Answer(vec![
            "a long word: ".to_owned() + &"x".repeat(300),
            String::new(),
            "  indented".to_owned(),
        ]),
        Instant::now(),
    );
    let mut help = busy();
    press(&mut help, KeyCode::Char('h'));
    for state in [State::new(), busy(), asked, help] {
        for width in [1, 2, 59, 60, 61, 80, 110, 200] {
            for height in [1, 2, 17, 18, 19, 24, 60] {
                let _ = screen(&state, (width, height));
            }
        }
    }
    assert!(screen(&busy(), (59, 24)).contains("too small"));
}

#[test]
fn an_agent_that_goes_away_is_said_and_one_that_comes_back_goes_on() {
    let mut state = busy();
    let start = Instant::now();
    state.take(News::Away("no agent answers: is `sipauth run` running?".to_owned()), start);
    let later = start + Duration::from_secs(7);
    state.take(News::Away("no agent answers: is `sipauth run` running?".to_owned()), later);
    let away = screen_at(&state, NARROW, later);
    assert!(line_with(&away, "sipauth").contains("AGENT AWAY 7 s"), "{away}");
    assert!(line_with(&away, "  pass ").contains("- /s"), "an old rate is no rate: {away}");
    assert!(away.contains("carrier-a"), "what is known stays");
    assert!(line_with(&away, "  agent ").contains("no agent answers"));

    state.take(News::Sample(Box::new(sample(100.0, &[("pass", "ip_match", 900_000)], &[]))), later);
    assert!(
        line_with(&screen(&state, NARROW), "  pass ").contains("- /s"),
        "nothing is known of the time between"
    );
    state.take(News::Sample(Box::new(sample(101.0, &[("pass", "ip_match", 900_007)], &[]))), later);
    let back = screen(&state, NARROW);
    assert!(
        line_with(&back, "sipauth").contains("live") && line_with(&back, "  pass ").contains("7.0 /s"),
        "{back}"
    );
}

#[test]
fn without_an_agent_the_reason_is_there() {
    let mut state = State::new();
    assert!(screen(&state, NARROW).contains("connecting"));
    state.take(News::Away("no agent answers: is `sipauth run` running?".to_owned()), Instant::now());
    let screen = screen(&state, NARROW);
    assert!(
        screen.contains("no agent answers") && screen.contains("no agent has answered"),
        "{screen}"
    );
}

#[test]
fn keys_sort_reverse_and_narrow_the_tables() {
    let mut state = busy();
    let order = |state: &State| state.rows().iter().map(|row| row.gateway.name.clone()).collect::<Vec<_>>();
    assert_eq!(order(&state), ["carrier-a", "office", "newcomer"], "most packets first");
    press(&mut state, KeyCode::Char('r'));
    assert_eq!(order(&state), ["newcomer", "office", "carrier-a"]);
    press(&mut state, KeyCode::Char('r'));
    for _ in 0..3 {
        press(&mut state, KeyCode::Char('s'));
    }
    assert_eq!(order(&state), ["carrier-a", "newcomer", "office"], "by name");

    press(&mut state, KeyCode::Char('/'));
    // A letter that is a key otherwise is a letter here.
    type_text(&mut state, "q");
    press(&mut state, KeyCode::Backspace);
    type_text(&mut state, "198.51.100.77");
    assert_eq!(order(&state), ["carrier-a"], "an address finds its network");
    assert!(state.sources().is_empty());
    assert!(screen(&state, NARROW).contains("none that the filter finds"));
    press(&mut state, KeyCode::Esc);
    assert_eq!(order(&state).len(), 3);
    press(&mut state, KeyCode::Char('/'));
    type_text(&mut state, "db8::66");
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.sources().len(), 1);

    assert_eq!(press(&mut state, KeyCode::Char('q')), Wish::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(keys::press(&mut state, interrupt), Wish::Quit);
}

#[test]
fn a_row_is_explained_as_it_was_seen() {
    let mut state = busy();
    press(&mut state, KeyCode::Down);
    assert_eq!(press(&mut state, KeyCode::Enter), Wish::Ask(Question::Gateway("office".to_owned())));
    assert!(screen(&state, NARROW).contains("asking the agent"));
    press(&mut state, KeyCode::Esc);

    press(&mut state, KeyCode::Tab);
    assert_eq!(state.focus, Focus::Sources);
    let Wish::Ask(Question::Source(question)) = press(&mut state, KeyCode::Enter) else {
        panic!("not asked");
    };
    assert_eq!(
        (question.source.to_string(), question.source_port),
        ("192.0.2.66".to_owned(), Some(5060))
    );
    assert_eq!((question.message.as_str(), question.destination_port), ("INVITE", Some(5060)));
    state.take(
        News::Answer(vec!["drop: no gateway has this source address".to_owned()]),
        Instant::now(),
    );
    let answered = screen(&state, NARROW);
    assert!(
        answered.contains("INVITE from 192.0.2.66:5060") && answered.contains("drop: no gateway"),
        "{answered}"
    );
    press(&mut state, KeyCode::Esc);
    assert!(!screen(&state, NARROW).contains("drop: no gateway"));

    // The chosen row stays chosen when others overtake it.
    press(&mut state, KeyCode::Down);
    for _ in 0..9 {
        state.take(event("192.0.2.1:5060", "unknown_source", ""), Instant::now());
    }
    let Wish::Ask(Question::Source(question)) = press(&mut state, KeyCode::Enter) else {
        panic!("not asked");
    };
    assert_eq!(
        (question.source.to_string().as_str(), question.message.as_str()),
        ("2001:db8::66", "response")
    );
}

#[test]
fn a_pause_keeps_the_numbers_and_counts_nothing_of_its_time() {
    let mut state = busy();
    press(&mut state, KeyCode::Char('p'));
    let next = |at: f64, packets| News::Sample(Box::new(sample(at, &[("pass", "ip_match", packets)], &[])));
    state.take(next(4.0, 9_000), Instant::now());
    let paused = screen(&state, NARROW);
    assert!(
        line_with(&paused, "sipauth").contains("PAUSED") && line_with(&paused, "  pass ").contains("110 /s"),
        "{paused}"
    );
    press(&mut state, KeyCode::Char('p'));
    state.take(next(30.0, 90_000), Instant::now());
    state.take(next(31.0, 90_003), Instant::now());
    assert!(line_with(&screen(&state, NARROW), "  pass ").contains("3.0 /s"));
}

#[test]
fn without_colours_nothing_is_coloured_and_the_chosen_row_still_stands_out() {
    let state = busy();
    let coloured = |theme| {
        let buffer = buffer(&state, theme, NARROW, Instant::now());
        buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(Theme::new(true)), "the control");
    assert!(!coloured(Theme::new(false)));
    let plain = buffer(&state, Theme::new(false), NARROW, Instant::now());
    let reversed = |y: u16| plain[(4, y)].modifier.contains(Modifier::REVERSED);
    assert!(reversed(10) && !reversed(11), "the first gateway, and not the second");
}

#[test]
fn events_are_forgotten_after_a_minute_and_told_twice_count_once() {
    let mut recent = Recent::default();
    let mut state = busy();
    let now = Instant::now();
    let News::Event(record) = event("192.0.2.9:5060", "unknown_source", "") else {
        unreachable!()
    };
    recent.push((*record).clone(), now);
    recent.push(
        EventRecord {
            time: record.time - 120.0,
            ..(*record).clone()
        },
        now,
    );
    assert_eq!(recent.len(), 1, "too old");
    recent.trim(now + Duration::from_secs(61));
    assert_eq!(recent.len(), 0);
    for _ in 0..20_000 {
        recent.push((*record).clone(), now);
    }
    assert_eq!(recent.len(), 10_000, "bounded");

    // A connection that begins anew is told what the agent has kept.
    state.take(News::Events, now);
    state.take(News::Event(record), now);
    assert_eq!(state.sources().len(), 1);
}
