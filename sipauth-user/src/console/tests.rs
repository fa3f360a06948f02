//! The console over HTTP, with a source that needs no kernel.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::broadcast,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Console, Source, TokenError, text, token};
use crate::{
    config::{RawDigest, RawSettings, Settings},
    control::{EventRecord, ExplainRequest, GatewayInfo, Response, Sample, Transport},
    datapath::DatapathError,
    gateway::Mode,
    rates::tests::sample,
};

/// What a stranger may write where an operator reads.
const EVIL: &str = "INVITE sip:<script>alert(1)</script>\"'><img/src=x/onerror=alert(2)>@h SIP/2.0";

struct Fake {
    samples: AtomicU64,
    events: broadcast::Sender<EventRecord>,
}

impl Source for Fake {
    /// A second passes with each, and a hundred packets of carrier-a.
    fn sample(&self) -> Result<Sample, DatapathError> {
        let n = self.samples.fetch_add(1, Ordering::Relaxed);
        let seconds = f64::from(u32::try_from(n).unwrap());
        Ok(sample(
            seconds,
            &[("pass", "ip_match", n * 100), ("drop", "unknown_source", n * 7)],
            &[("carrier-a", n * 100)],
        ))
    }

    fn gateways(&self) -> Vec<GatewayInfo> {
        vec![GatewayInfo {
            name: "carrier-a".to_owned(),
            id: 1,
            mode: Mode::IpPort,
            addresses: vec!["203.0.113.5".to_owned()],
            ports: vec![5060],
            names: Vec::new(),
            username: None,
            realm: None,
            digest: RawDigest::default(),
            priority: 0,
        }]
    }

    fn explain(&self, request: &ExplainRequest) -> Response {
        Response::no(&format!("asked about {} {}", request.source, request.message))
    }

    fn refusals(&self) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        (vec![event("192.0.2.66:5060", EVIL)], self.events.subscribe())
    }
}

fn event(source: &str, head: &str) -> EventRecord {
    EventRecord {
        time: 45_296.5,
        source: source.parse().unwrap(),
        destination: "203.0.113.10:5060".parse().unwrap(),
        transport: Transport::Udp,
        verdict: "drop".to_owned(),
        reason: "unknown_source".to_owned(),
        gateway: None,
        monitored: false,
        frame_len: 400,
        detail: Some("<b>detail</b>\r\nof a peer".to_owned()),
        head: head.to_owned(),
    }
}

struct Served {
    address: SocketAddr,
    token: String,
    events: broadcast::Sender<EventRecord>,
    _stop: DropGuard,
    _state: tempfile::TempDir,
}

fn settings(state: &Path, token_file: Option<&Path>) -> Settings {
    let raw = RawSettings {
        interface: Some(vec!["eth0".to_owned()]),
        state_dir: Some(state.to_owned()),
        console_token_file: token_file.map(Path::to_owned),
        ..RawSettings::default()
    };
    raw.validate().unwrap()
}

async fn serve() -> Served {
    let state = tempfile::tempdir().unwrap();
    let console = Console::bind("127.0.0.1:0".parse().unwrap(), &settings(state.path(), None))
        .await
        .unwrap();
    let (address, shutdown, events) = (console.address(), CancellationToken::new(), broadcast::channel(64).0);
    let source = Arc::new(Fake {
        samples: AtomicU64::new(0),
        events: events.clone(),
    });
    tokio::spawn(console.run(source, shutdown.clone()));
    Served {
        address,
        token: fs::read_to_string(state.path().join("console-token")).unwrap().trim().to_owned(),
        events,
        _stop: shutdown.drop_guard(),
        _state: state,
    }
}

impl Served {
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str, cookie: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: c\r\nCookie: other=1; {cookie}\r\n\r\n"))
            .await
    }

    async fn login(&self, token: &str) -> String {
        let form = format!("token={token}");
        let head = "POST /login HTTP/1.1\r\nHost: c\r\nContent-Type: application/x-www-form-urlencoded";
        self.send(&format!("{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len())).await
    }

    async fn cookie(&self) -> String {
        let welcome = self.login(&self.token).await;
        let line = welcome
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap_or_else(|| panic!("{welcome}"));
        line.split(';').next().unwrap().to_owned()
    }

    async fn open(&self, path: &str, cookie: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: c\r\nCookie: {cookie}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        stream
    }
}

async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = String::new();
    let read = async {
        let mut buffer = [0; 4_096];
        while !all.contains(text) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "ended: {all}");
            all.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    let waited = timeout(Duration::from_secs(10), read).await;
    assert!(waited.is_ok(), "no {text:?} in {all}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_is_shown() {
    let console = serve().await;
    for cookie in [
        "",
        "sipauth_console=",
        "sipauth_console=0123456789abcdef",
        &format!("sipauth_console={}", console.token),
    ] {
        for path in ["/", "/gateways", "/refusals", "/explain?source=192.0.2.1", "/no/such/page"] {
            let answer = console.get(path, cookie).await;
            assert!(
                answer.starts_with("HTTP/1.1 303") && answer.contains("location: /login\r\n"),
                "{path}: {answer}"
            );
            assert!(!answer.contains("carrier-a") && !answer.contains("192.0.2.66"), "{answer}");
        }
        assert!(console.get("/live?view=gateways", cookie).await.starts_with("HTTP/1.1 401"));
    }
    let login = console.get("/login", "").await;
    assert!(login.starts_with("HTTP/1.1 200") && !login.contains("Gateways") && !login.contains(&console.token));
    // The control.
    assert!(console.get("/gateways", &console.cookie().await).await.contains("carrier-a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_gives_a_careful_cookie_and_logging_out_ends_it() {
    let console = serve().await;
    let wrong = console.login("0000000000000000000000").await;
    assert!(
        wrong.starts_with("HTTP/1.1 403") && wrong.contains("That is not the token") && !wrong.contains("set-cookie"),
        "{wrong}"
    );
    let welcome = console.login(&console.token).await;
    let cookie = welcome.lines().find(|line| line.starts_with("set-cookie: ")).unwrap();
    assert!(
        cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(&console.token),
        "{cookie}"
    );

    let cookie = console.cookie().await;
    assert!(console.get("/", &cookie).await.starts_with("HTTP/1.1 200"));
    let out = console
        .send(&format!(
            "POST /logout HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\nCookie: {cookie}\r\n\r\n"
        ))
        .await;
    assert!(out.contains("Max-Age=0"), "{out}");
    assert!(console.get("/", &cookie).await.starts_with("HTTP/1.1 303"));

    for _ in 0..5 {
        console.login("wrong").await;
    }
    assert!(console.login(&console.token).await.starts_with("HTTP/1.1 429"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_rates_gateways_and_answers() {
    let console = serve().await;
    let cookie = console.cookie().await;
    let overview = console.get("/", &cookie).await;
    // The first look has rates: of two samples a second apart.
    assert!(overview.contains("<p class=\"number\">100<small> /s</small></p>"), "{overview}");
    assert!(
        overview.contains("<td class=\"right\" data-label=\"Now, /s\">7.0</td>"),
        "{overview}"
    );
    assert!(overview.contains("no gateway has this source address"));
    let gateways = console.get("/gateways?q=203.0.113.5&sort=name", &cookie).await;
    assert!(
        gateways.contains("203.0.113.5, port 5060") && gateways.contains("data-label=\"Pass /s\" class=\"right pass\">100</td>"),
        "{gateways}"
    );
    assert!(
        gateways.contains("data-live=\"/live?view=gateways&amp;q=203.0.113.5&amp;sort=name\""),
        "{gateways}"
    );
    assert!(console.get("/gateways?q=nobody", &cookie).await.contains("None of 1 gateways fits"));
    assert!(
        console
            .get("/explain?source=192.0.2.1:5060&method=ACK", &cookie)
            .await
            .contains("asked about 192.0.2.1 ACK")
    );
    assert!(console.get("/explain?source=nonsense", &cookie).await.contains("write it like"));
    assert!(
        console
            .get("/explain?source=192.0.2.1&port=70000", &cookie)
            .await
            .contains("destination port")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_peers_and_visitors_write_is_text_and_never_markup() {
    let console = serve().await;
    let cookie = console.cookie().await;
    let refusals = console.get("/refusals?q=%3Cscript%3E%22", &cookie).await;
    assert!(refusals.contains("value=\"&lt;script&gt;&quot;\""), "{refusals}");
    let refusals = console.get("/refusals", &cookie).await;
    assert!(
        refusals.contains("&lt;script&gt;alert(1)") && refusals.contains("12:34:56") && refusals.contains("&lt;b&gt;detail"),
        "{refusals}"
    );
    let explain = console
        .get("/explain?source=%22%3E%3Cscript%3Ealert(3)%3C/script%3E&method=%3Cb%3E", &cookie)
        .await;
    let mut live = console.open("/live?view=refusals", &cookie).await;
    let first = read_until(&mut live, "\n\n").await;
    console.events.send(event("192.0.2.99:5060", EVIL)).unwrap();
    let next = read_until(&mut live, "192.0.2.99").await;
    for page in [refusals, explain, first, next] {
        let (_, body) = page.split_once("\r\n\r\n").unwrap_or(("", &page));
        for markup in ["<script>alert", "<img", "<b>"] {
            assert!(!body.contains(markup), "{markup} in {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_is_told_to_run_nothing_but_our_script() {
    let console = serve().await;
    let page = console.get("/", &console.cookie().await).await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let policy = head
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "))
        .unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    for line in [
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-frame-options: DENY",
    ] {
        assert!(head.contains(line), "{head}");
    }
    // What is hashed is what stands in the page, and there is nothing that the policy would not let work.
    assert!(body.contains(&format!("<style>{}</style>", text::STYLE)) && body.contains(&format!("<script>{}</script>", text::SCRIPT)));
    assert!(!body.contains(" style=") && !body.contains(" onclick=") && body.matches("<script").count() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_streams_are_bounded() {
    let console = serve().await;
    let cookie = console.cookie().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = console.open("/live?view=overview", &cookie).await;
        read_until(&mut stream, "event: part").await;
        streams.push(stream);
    }
    assert!(console.get("/live?view=overview", &cookie).await.starts_with("HTTP/1.1 503"));
    drop(streams);
    let begin = Instant::now();
    loop {
        let mut stream = console.open("/live?view=overview", &cookie).await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        if start == *b"HTTP/1.1 200" {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "a place is never free again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let long = format!("GET / HTTP/1.1\r\nHost: c\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(!console.send(&long).await.contains("200 OK"));
    let form = format!(
        "POST /login HTTP/1.1\r\nHost: c\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9000\r\n\r\n{}",
        "x".repeat(9_000)
    );
    assert!(!console.send(&form).await.contains("200 OK"));
    // Who does not finish its head is cut off.
    let begin = Instant::now();
    let answer = console.send("GET / HTTP/1.1\r\nHost: c\r\n").await;
    assert!(!answer.contains("200 OK") && begin.elapsed() < Duration::from_secs(10), "{answer}");
}

#[test]
fn a_token_is_made_once_for_its_owner_alone_and_weak_ones_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let (made, path) = token::read_or_make(state.path()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        (text.trim().len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777),
        (64, 0o600)
    );
    assert!(made.is(text.trim()) && !made.is("") && !made.is(&text));
    let (again, _) = token::read_or_make(state.path()).unwrap();
    assert!(again.is(text.trim()), "the same at the next start");
    assert!(!format!("{again:?}").contains(text.trim()));

    let own = state.path().join("own");
    let read = |text: &str, mode| {
        fs::write(&own, text).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
        token::read(&own)
    };
    assert!(
        read("a token of sixteen", 0o600).is_err_and(|error| error.to_string().contains("openssl rand")),
        "spaces"
    );
    assert!(read("0123456789abcdef\n", 0o640).unwrap().is("0123456789abcdef"));
    assert!(matches!(read("0123456789abcdef", 0o644), Err(TokenError::Open { .. })));
    assert!(matches!(read("too-short", 0o600), Err(TokenError::Form { .. })));
    assert!(matches!(token::read(&state.path().join("none")), Err(TokenError::File { .. })));
}
