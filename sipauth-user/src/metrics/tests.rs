//! Scrapes over loopback.

use sipauth_common::reason::Reason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

struct Fixed {
    ready: bool,
}

impl Source for Fixed {
    fn snapshot(&self) -> Snapshot {
        let count = |reason: &Reason| match reason {
            Reason::IpMatch => Count { packets: 7, bytes: 700 },
            _ => Count::default(),
        };
        Snapshot {
            reasons: Reason::ALL.iter().map(|reason| (*reason, count(reason))).collect(),
            gateways: vec![GatewayCount {
                name: "carrier \"a\"\n".to_owned(),
                verdict: [
                    Count { packets: 3, bytes: 300 },
                    Count::default(),
                    Count { packets: 1, bytes: 90 },
                    Count::default(),
                ],
            }],
            authentication: vec![("authenticated", 5)],
            faults: vec![("grant", 0)],
            bans: vec![("manual", 2), ("failures", 0)],
            monitor: true,
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                native: true,
            }],
        }
    }

    fn ready(&self) -> bool {
        self.ready
    }
}

async fn start(ready: bool) -> (SocketAddr, CancellationToken, task::JoinHandle<io::Result<()>>) {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let (address, shutdown) = (server.address(), CancellationToken::new());
    let running = tokio::spawn(server.run(Arc::new(Fixed { ready }), shutdown.clone()));
    (address, shutdown, running)
}

/// The whole answer; the server closes the connection after it.
async fn scrape(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: sipauth\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_scrape_shows_every_series() {
    let (address, shutdown, running) = start(true).await;
    let answer = scrape(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    for line in [
        "# TYPE sipauth_packets counter",
        "sipauth_packets_total{verdict=\"pass\",reason=\"ip_match\"} 7",
        "sipauth_bytes_total{verdict=\"pass\",reason=\"ip_match\"} 700",
        "sipauth_packets_total{verdict=\"drop\",reason=\"unknown_source\"} 0",
        "sipauth_gateway_packets_total{gateway=\"carrier \\\"a\\\"\\n\",verdict=\"pass\"} 3",
        "sipauth_gateway_packets_total{gateway=\"carrier \\\"a\\\"\\n\",verdict=\"drop\"} 0",
        "sipauth_gateway_bytes_total{gateway=\"carrier \\\"a\\\"\\n\",verdict=\"punt\"} 90",
        "sipauth_authentication_total{outcome=\"authenticated\"} 5",
        "sipauth_worker_faults_total{fault=\"grant\"} 0",
        "sipauth_gateways 1",
        "sipauth_bans{cause=\"manual\"} 2",
        "sipauth_bans{cause=\"failures\"} 0",
        "sipauth_monitor_mode 1",
        "sipauth_xdp_mode{interface=\"eth0\",mode=\"native\"} 1",
        "sipauth_xdp_mode{interface=\"eth0\",mode=\"generic\"} 0",
        concat!("sipauth_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(answer.lines().any(|got| got == line), "no {line} in\n{answer}");
    }
    assert_eq!(
        answer.lines().filter(|line| line.starts_with("sipauth_packets_total{")).count(),
        Reason::COUNT
    );
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    shutdown.cancel();
    running.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn readiness_follows_the_agent_and_health_does_not() {
    for (ready, status) in [(true, "200 OK"), (false, "503 Service Unavailable")] {
        let (address, shutdown, running) = start(ready).await;
        assert!(scrape(address, "/readyz").await.starts_with(&format!("HTTP/1.1 {status}\r\n")));
        assert!(scrape(address, "/healthz").await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(scrape(address, "/").await.starts_with("HTTP/1.1 404 Not Found\r\n"));
        shutdown.cancel();
        running.await.expect("no panic").expect("no error");
    }
}

#[tokio::test]
async fn silent_clients_are_shown_out_and_then_others_get_in() {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let bounded = listener::Bounded::new(listener, 2, Duration::from_millis(300));
    let running = tokio::spawn(async move { axum::serve(bounded, Router::new().route("/", get(async || "hello"))).await });
    let silent = [
        TcpStream::connect(address).await.expect("connected"),
        TcpStream::connect(address).await.expect("connected"),
    ];
    // Both places are taken. This one waits for the first of them to be thrown out.
    let mut third = TcpStream::connect(address).await.expect("connected");
    third.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
    let early = tokio::time::timeout(Duration::from_millis(100), third.readable()).await;
    assert!(early.is_err(), "served beyond the bound");
    let mut answer = String::new();
    let read = third.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect("in time")
        .expect("an answer");
    assert!(answer.ends_with("hello"), "{answer}");
    drop(silent);
    running.abort();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_remedy() {
    let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = taken.local_addr().expect("an address");
    let error = Server::bind(address).await.expect_err("taken").to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--metrics"), "{error}");
}
