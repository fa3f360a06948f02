//! Scrapes over loopback.

use std::collections::{BTreeMap, BTreeSet};

use sipauth_common::{
    abi,
    reason::{Reason, Verdict},
    stats::{Count, EventStats, LaneStats},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    auth::Outcome,
    config::XdpMode,
    datapath::{Fill, Footprint, Occupancy},
    gateway::Mode,
    worker::{Fault, Histogram, LatencyOf, Queue, Work},
};
use sipauth_common::config::Lane;

struct Fixed {
    ready: bool,
}

impl Source for Fixed {
    fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        let count = |reason: &Reason| match reason {
            Reason::IpMatch => Count { packets: 7, bytes: 700 },
            _ => Count::default(),
        };
        let mut verdict = [Count::default(); Verdict::ALL.len()];
        verdict[Verdict::Pass as usize] = Count { packets: 3, bytes: 300 };
        verdict[Verdict::Punt as usize] = Count { packets: 1, bytes: 90 };
        Ok(Snapshot {
            reasons: Reason::ALL.iter().map(|reason| (*reason, count(reason))).collect(),
            gateways: vec![GatewayCount {
                name: "carrier \"a\"\n\\".to_owned(),
                mode: Mode::IpPort,
                verdict,
            }],
            lanes: [LaneStats {
                admitted: 11,
                source_rate: 0,
                lane_rate: 4,
            }; 4],
            events: EventStats {
                sent: 5,
                over_budget: 6,
                lost: 0,
            },
            work: Work {
                outcomes: Outcome::ALL
                    .iter()
                    .map(|outcome| (*outcome, u64::from(*outcome == Outcome::Authenticated) * 5))
                    .collect(),
                faults: Fault::ALL.map(|fault| (fault, 0)).into(),
                latency: LatencyOf::ALL
                    .map(|action| Histogram {
                        lane: Lane::Known,
                        action,
                        buckets: vec![(0.000_025, 2), (1.0, 3), (f64::INFINITY, 1)],
                        seconds: 2.5,
                    })
                    .into(),
                queues: Lane::ALL
                    .map(|lane| Queue {
                        lane,
                        bytes: 768,
                        fullest: 0.25,
                        drops: 0,
                    })
                    .into(),
                connections: 1,
                connections_limit: 4_096,
            },
            logs: vec![("records", "written", 8), ("records", "lost", 0)],
            census: Census {
                occupancy: vec![Occupancy {
                    map: abi::MAP_FLOWS,
                    entries: 9,
                    capacity: 262_144,
                }],
                footprints: vec![Footprint {
                    map: abi::MAP_FLOWS,
                    room: 32_768,
                    bytes: 3_670_912,
                }],
                prefilter: Fill {
                    bits: 0.25,
                    address: 0.0625,
                    prefix: 0.125,
                },
                flows: vec![("udp", 8), ("tcp", 0)],
                peers: 2,
                bans: vec![("manual", 2), ("failures", 0)],
            },
            flows_evicted: 6,
            host_names: (3, 1),
            heartbeat_age: 0.5,
            monitor: true,
            fail_open: false,
            interfaces: vec![
                Interface {
                    name: "eth0".to_owned(),
                    mode: Some(XdpMode::Native),
                },
                Interface {
                    name: "eth1".to_owned(),
                    mode: None,
                },
            ],
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.ready {
            Ok(())
        } else {
            Err("eth1 has no XDP program".to_owned())
        }
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
    ask(address, path, "").await
}

async fn ask(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: sipauth\r\n{headers}\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

const SERIES: &[&str] = &[
    "sipauth_packets_total{verdict=\"pass\",reason=\"ip_match\"} 7",
    "sipauth_bytes_total{verdict=\"pass\",reason=\"ip_match\"} 700",
    "sipauth_packets_total{verdict=\"drop\",reason=\"unknown_source\"} 0",
    "sipauth_gateway_packets_total{gateway=\"carrier \\\"a\\\"\\n\\\\\",verdict=\"pass\"} 3",
    "sipauth_gateway_packets_total{gateway=\"carrier \\\"a\\\"\\n\\\\\",verdict=\"drop\"} 0",
    "sipauth_gateway_bytes_total{gateway=\"carrier \\\"a\\\"\\n\\\\\",verdict=\"punt\"} 90",
    "sipauth_lane_packets_total{lane=\"known\",result=\"admitted\"} 11",
    "sipauth_lane_packets_total{lane=\"denied\",result=\"source_rate\"} 0",
    "sipauth_lane_packets_total{lane=\"untrusted\",result=\"lane_rate\"} 4",
    "sipauth_events_total{result=\"sent\"} 5",
    "sipauth_events_total{result=\"over_budget\"} 6",
    "sipauth_events_total{result=\"lost\"} 0",
    "sipauth_authentication_total{outcome=\"authenticated\"} 5",
    "sipauth_worker_faults_total{fault=\"grant\"} 0",
    "sipauth_agent_latency_seconds_bucket{le=\"0.000025\",lane=\"known\",action=\"answer\"} 2",
    "sipauth_agent_latency_seconds_bucket{le=\"1.0\",lane=\"known\",action=\"answer\"} 5",
    "sipauth_agent_latency_seconds_bucket{le=\"+Inf\",lane=\"known\",action=\"release\"} 6",
    "sipauth_agent_latency_seconds_sum{lane=\"known\",action=\"answer\"} 2.5",
    "sipauth_agent_latency_seconds_count{lane=\"known\",action=\"answer\"} 6",
    "sipauth_receive_queue_bytes{lane=\"trusted\"} 768",
    "sipauth_receive_queue_fullest_ratio{lane=\"trusted\"} 0.25",
    "sipauth_receive_queue_drops_total{lane=\"denied\"} 0",
    "sipauth_tcp_connections 1",
    "sipauth_tcp_connections_limit 4096",
    "sipauth_gateways{mode=\"ip-port\"} 1",
    "sipauth_gateways{mode=\"peer\"} 0",
    "sipauth_bans{cause=\"manual\"} 2",
    "sipauth_bans{cause=\"failures\"} 0",
    "sipauth_host_names{state=\"resolved\"} 2",
    "sipauth_host_names{state=\"failing\"} 1",
    "sipauth_flows{transport=\"udp\"} 8",
    "sipauth_flows{transport=\"tcp\"} 0",
    "sipauth_flows_evicted_total 6",
    "sipauth_peers 2",
    "sipauth_map_entries{map=\"flows\"} 9",
    "sipauth_map_capacity{map=\"flows\"} 262144",
    "sipauth_map_entries{map=\"gateway_stats\"} 1",
    "sipauth_map_memory_bytes{map=\"flows\"} 3670912",
    "sipauth_prefilter_fill_ratio 0.25",
    "sipauth_prefilter_strangers_ratio{lookup=\"address\"} 0.0625",
    "sipauth_prefilter_strangers_ratio{lookup=\"prefix\"} 0.125",
    "sipauth_heartbeat_age_seconds 0.5",
    "sipauth_monitor_mode 1",
    "sipauth_fail_open 0",
    "sipauth_xdp_mode{interface=\"eth0\",mode=\"native\"} 1",
    "sipauth_xdp_mode{interface=\"eth0\",mode=\"none\"} 0",
    "sipauth_xdp_mode{interface=\"eth1\",mode=\"generic\"} 0",
    "sipauth_xdp_mode{interface=\"eth1\",mode=\"none\"} 1",
    concat!("sipauth_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
];

#[tokio::test]
async fn a_scrape_shows_every_series_in_both_formats() {
    let (address, shutdown, running) = start(true).await;
    let open = ask(
        address,
        "/metrics",
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n",
    )
    .await;
    assert!(open.starts_with("HTTP/1.1 200 OK\r\n"), "{open}");
    for line in [
        "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8",
        "# TYPE sipauth_packets counter",
        "# TYPE sipauth_build info",
    ] {
        assert!(open.lines().any(|got| got == line), "no {line} in\n{open}");
    }
    assert!(open.ends_with("# EOF\n"), "{open}");
    let plain = scrape(address, "/metrics").await;
    for line in [
        "content-type: text/plain; version=0.0.4; charset=utf-8",
        "# TYPE sipauth_packets_total counter",
        "# TYPE sipauth_agent_latency_seconds histogram",
        "# TYPE sipauth_build_info gauge",
    ] {
        assert!(plain.lines().any(|got| got == line), "no {line} in\n{plain}");
    }
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"), "{plain}");
    for answer in [&open, &plain] {
        for series in SERIES {
            assert!(answer.lines().any(|got| got == *series), "no {series} in\n{answer}");
        }
        let of = |prefix: &str| answer.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(of("sipauth_packets_total{"), Reason::COUNT);
        assert_eq!(of("sipauth_authentication_total{"), Outcome::ALL.len());
        assert_eq!(of("sipauth_worker_faults_total{"), Fault::ALL.len());
        assert_eq!(of("process_"), 4);
    }
    shutdown.cancel();
    running.await.expect("no panic").expect("no error");
}

#[test]
fn every_family_is_declared_once_and_every_series_stands_below_its_own() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let snapshot = Fixed { ready: true }.snapshot().expect("fixed");
        let text = exposition::text(snapshot, format).expect("written");
        let (mut families, mut series, mut family) = (BTreeMap::new(), BTreeSet::new(), "");
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').expect("a type");
                assert!(families.insert(name, kind).is_none(), "{name} twice");
                family = name;
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                assert!(name.starts_with(family), "{name} below {family}");
                let (labels, _) = line.rsplit_once(' ').expect("a value");
                assert!(series.insert(labels), "{labels} twice");
            }
        }
        assert!(families.len() > 25, "{families:?}");
    }
}

#[tokio::test]
async fn readiness_follows_the_agent_and_health_does_not() {
    for (ready, status) in [(true, "200 OK"), (false, "503 Service Unavailable")] {
        let (address, shutdown, running) = start(ready).await;
        let answer = scrape(address, "/readyz").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert_eq!(answer.contains("eth1 has no XDP program"), !ready, "{answer}");
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
