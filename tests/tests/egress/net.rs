//! Two network namespaces and a pair of virtual interfaces between them: `near`, where the programs are, and `far`.

use std::{fs::File, io, os::fd::AsRawFd, process::Command, thread};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, setns, unshare};

/// The interface with the programs.
pub(crate) const NEAR: &str = "near";
/// Its addresses.
pub(crate) const NEAR_ADDRESSES: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// The other end's.
pub(crate) const FAR_ADDRESSES: [&str; 2] = ["10.77.0.2", "fd77::2"];
const FAR: &str = "far";

/// The namespace at the other end.
pub(crate) struct Far(File);

impl Far {
    /// Runs `what` there, in a thread of its own.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the far namespace");
                what()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Runs `test` in a thread whose namespace has [`NEAR`] up, with addresses. Both namespaces go when it ends.
pub(crate) fn with_pair(test: impl FnOnce(&Far) + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let far = Far(new_namespace());
            new_namespace();
            ip(&format!("link add {NEAR} type veth peer name {FAR} netns {}", path(&far.0)));
            up(NEAR, NEAR_ADDRESSES);
            far.run(|| up(FAR, FAR_ADDRESSES));
            test(&far);
        });
        // The panic's message keeps its place in this test's output.
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Moves this thread into a namespace that is new.
fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    File::open("/proc/thread-self/ns/net").expect("its file")
}

fn path(namespace: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

fn up(interface: &str, addresses: [&str; 2]) {
    ip("link set lo up");
    ip(&format!("addr add {}/24 dev {interface}", addresses[0]));
    ip(&format!("addr add {}/64 dev {interface} nodad", addresses[1]));
    ip(&format!("link set {interface} up"));
}

/// Runs `ip` in this thread's namespace; what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    let out = Command::new("ip").args(arguments.split(' ')).output().expect("ip");
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Whether an XDP program is on an interface of this namespace, by what the kernel says to `ip`.
pub(crate) fn has_xdp(interface: &str) -> bool {
    ip(&format!("link show dev {interface}")).contains("prog/xdp")
}

/// Lets the sender count checksums itself, as before a wire, so that the receiver's stack looks at them.
/// With the offload the receiver takes the checksum for good without a look.
pub(crate) fn count_checksums(interface: &str) -> io::Result<()> {
    /// `struct ethtool_value`, linux/ethtool.h.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    /// `ETHTOOL_STXCSUM`.
    const SET_TX_CHECKSUM: u32 = 0x17;
    let mut value = Value {
        command: SET_TX_CHECKSUM,
        data: 0,
    };
    // SAFETY: zeros are valid for this structure of integers and a pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the name ends with a zero, and `ifru_data` points at the structure that the command takes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// [`count_checksums`] at both ends.
pub(crate) fn without_offload(far: &Far) {
    count_checksums(NEAR).expect("ethtool");
    far.run(|| count_checksums(FAR)).expect("ethtool");
}

/// Filters of the clsact qdisc on the way out of an interface.
pub(crate) fn filters(interface: &str) -> usize {
    let index = nix::net::if_::if_nametoindex(interface).expect("the interface");
    let mut message = TcMessage::with_index(i32::try_from(index).expect("an index"));
    message.header.parent = TcHandle {
        major: u16::MAX,
        minor: TcHandle::MIN_EGRESS,
    };
    let mut request = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::GetTrafficFilter(message)),
    );
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE).expect("netlink");
    socket.bind_auto().expect("netlink");
    socket.connect(&SocketAddr::new(0, 0)).expect("netlink");
    socket.send(&bytes, 0).expect("netlink");
    let mut found = 0;
    loop {
        let (answer, _) = socket.recv_from_full().expect("netlink");
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).expect("an answer");
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(filter)) => found += usize::from(is_bpf(&filter)),
                NetlinkPayload::Done(_) => return found,
                other => panic!("{other:?}"),
            }
            rest = &rest[(message.header.length as usize).next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// A dump also has an entry for the chain itself, which has no handle.
fn is_bpf(filter: &TcMessage) -> bool {
    let kind = |attribute: &TcAttribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "bpf");
    u32::from(filter.header.handle) != 0 && filter.attributes.iter().any(kind)
}
