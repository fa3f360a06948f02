use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    sync::Arc,
};

use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::gateway::{GatewayError, Mode, RawGateway, Secret};

struct Agent;

impl Handler for Agent {
    async fn handle(&self, request: Request, caller: Caller) -> Reply {
        assert_eq!(caller.uid, nix::unistd::geteuid().as_raw());
        match request {
            Request::GatewayAdd { gateway } => {
                assert_eq!(gateway.password.as_ref().map(Secret::expose), Some("secret"));
                Response::no(&"taken\nby another").into()
            }
            Request::GatewayShow { name } => Response::from(GatewayError::Unknown { gateway: name }).into(),
            Request::Events { .. } => {
                let (sender, receiver) = mpsc::channel(4);
                for n in 0..3 {
                    sender
                        .send(Response::Detached {
                            removed: vec![n.to_string()],
                        })
                        .await
                        .expect("room");
                }
                Reply::Stream(receiver)
            }
            Request::BanAdd { bans } => Response::Banned { count: bans.len() }.into(),
            _ => Response::Gateways { gateways: Vec::new() }.into(),
        }
    }
}

/// Runs a client's part against a served socket.
async fn with_agent<T: Send + 'static>(part: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run").join("sipauth.sock");
    let listener = bind(&path, None).expect("a socket");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Arc::new(Agent), shutdown.clone()));
    let result = spawn_blocking(move || part(&path)).await.expect("the client's part");
    shutdown.cancel();
    server.await.expect("the server ends");
    result
}

fn password_gateway() -> RawGateway {
    let password = Some(Secret::new("secret".to_owned()));
    let username = Some("user".to_owned());
    RawGateway {
        name: "a".to_owned(),
        mode: Mode::Password,
        addresses: vec![],
        ports: vec![],
        username,
        realm: None,
        password,
        allow_weak_password: true,
        credentials: None,
        digest: crate::config::RawDigest::default(),
        priority: 0,
    }
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other() {
    with_agent(|path| {
        assert_eq!(std::fs::metadata(path).expect("a socket").permissions().mode() & 0o777, 0o600);
        let mut client = Client::connect(path).expect("a connection");
        let add = Request::GatewayAdd {
            gateway: password_gateway(),
        };
        assert!(!format!("{add:?}").contains("secret"));
        assert_eq!(client.call(&add).expect("an answer"), Response::no(&"taken; by another"));
        assert_eq!(
            client.call(&Request::GatewayList).expect("an answer"),
            Response::Gateways { gateways: Vec::new() }
        );
        let unknown = client.call(&Request::GatewayShow { name: "x".to_owned() }).expect("an answer");
        assert!(matches!(unknown, Response::Error { refusal: Refusal::No, .. }));
    })
    .await;
}

#[tokio::test]
async fn a_request_may_be_a_long_list() {
    with_agent(|path| {
        let ban = |n: u32| BanRule {
            address: std::net::IpAddr::from(n.to_be_bytes()),
            port: None,
            seconds: None,
            reason: "import".to_owned(),
        };
        let bans = (0..50_000).map(ban).collect();
        let mut client = Client::connect(path).expect("a connection");
        assert_eq!(
            client.call(&Request::BanAdd { bans }).expect("an answer"),
            Response::Banned { count: 50_000 }
        );
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_when_the_agent_has_no_more() {
    let count = with_agent(|path| {
        let mut client = Client::connect(path).expect("a connection");
        client.subscribe(&Request::Events { follow: false }).expect("a subscription");
        std::iter::from_fn(|| client.receive().expect("an answer")).count()
    })
    .await;
    assert_eq!(count, 3);
}

#[tokio::test]
async fn nonsense_and_endless_lines_get_one_answer_that_quotes_nothing() {
    with_agent(|path| {
        let hostile = [
            "{\"gateway-add\":{\"gateway\":{\"password\":\"hunter2\",\"mode\":\"hunter2\"}}}\n".to_owned(),
            "hunter2".repeat(20_000),
        ];
        for line in hostile {
            let mut stream = UnixStream::connect(path).expect("a connection");
            let _ = stream.write_all(line.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            // The agent closes with unread input, which may reach us as a reset before its answer does.
            if BufReader::new(&stream).read_line(&mut answer).is_ok() {
                assert!(answer.contains("failed") && !answer.contains("hunter2"), "{answer}");
            }
        }
        assert!(Client::connect(path).expect("still there").call(&Request::Status).is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sipauth.sock");
    let first = bind(&path, None).expect("a socket");
    assert!(matches!(bind(&path, None), Err(ControlError::AlreadyRuns { .. })));
    drop(first);
    assert!(matches!(Client::connect(&path), Err(ClientError::NotRunning { .. })));
    let _second = bind(&path, None).expect("the stale one is replaced");
    let file = directory.path().join("file");
    std::fs::write(&file, "x").expect("written");
    assert!(matches!(bind(&file, None), Err(ControlError::NotASocket { .. })));
    assert!(matches!(bind(&path, Some("no-such-group-here")), Err(ControlError::NoGroup { .. })));
}

#[test]
fn nobody_there_is_said_with_the_remedy() {
    let text = Client::connect(Path::new("/nonexistent/sipauth.sock"))
        .expect_err("nobody")
        .to_string();
    assert_eq!(text, "no agent answers: is `sipauth run` running? socket /nonexistent/sipauth.sock");
}
