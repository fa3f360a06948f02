//! Network namespaces and sockets for the tests of this module.

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use socket2::{Domain, Socket, Type};

/// Longer than anything here takes.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Runs `body` in a fresh namespace where the softswitch's addresses are local and `rp_filter` is strict. The documentation networks
/// are local too, so that a test can be a gateway, but have no other route.
pub(super) fn in_namespace(test: &str, body: impl FnOnce() + Send + 'static) {
    if !geteuid().is_root() {
        assert!(
            std::env::var_os("SIPAUTH_REQUIRE_PRIVILEGES").is_none_or(|value| value != "1"),
            "{test} needs root"
        );
        println!("SKIP {test}: needs root");
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        for command in [
            "link set lo up",
            "address add 203.0.113.1/32 dev lo",
            "address add 2001:db8::1/128 dev lo nodad",
        ] {
            ip(command);
        }
        for interface in ["all", "default", "lo"] {
            fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "1").expect("a sysctl");
        }
        body();
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A child of this thread is in its namespace.
pub(super) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("the command ip");
    assert!(status.success(), "ip {arguments}");
}

pub(super) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Bound to an address that need not be on an interface.
pub(super) fn bound(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).expect("a socket");
    if address.is_ipv6() {
        socket.set_freebind_v6(true).expect("an option");
    } else {
        socket.set_freebind_v4(true).expect("an option");
    }
    // A child that another test is starting has, until it is a program of its own, all sockets of this process: also one that was just closed.
    let begin = Instant::now();
    while let Err(error) = socket.bind(&address.into()) {
        assert!(error.kind() == ErrorKind::AddrInUse && begin.elapsed() < WAIT, "{address}: {error}");
        thread::sleep(Duration::from_millis(5));
    }
    socket.set_read_timeout(Some(WAIT)).expect("an option");
    socket.into()
}
