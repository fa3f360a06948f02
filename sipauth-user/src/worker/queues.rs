//! How much waits at the sockets, and what was lost there: asked of the kernel when someone wants to know.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd as _},
    sync::Weak,
};

use sipauth_common::config::Lane;

/// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_RCVBUF`, `SK_MEMINFO_DROPS` and `SK_MEMINFO_VARS` of linux/sock_diag.h.
const ALLOCATED: usize = 0;
const ROOM: usize = 1;
const DROPS: usize = 8;
const VARS: usize = 9;

/// What waits at the sockets of a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// The lane.
    pub lane: Lane,
    /// At all of its sockets, with the kernel's overhead.
    pub bytes: u64,
    /// How full the fullest is, 0 to 1 and a little more.
    pub fullest: f64,
    /// Datagrams that were lost since the start; the kernel counts the first 2^32 of each socket.
    pub drops: u64,
}

/// A socket of a worker. It does not keep it open.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) lane: Lane,
    pub(super) socket: Weak<UdpSocket>,
}

/// The sums of all lanes. A socket that is gone has nothing.
pub(super) fn queues(sockets: &[Waiting]) -> Vec<Queue> {
    let mut lanes = Lane::ALL.map(|lane| Queue {
        lane,
        bytes: 0,
        fullest: 0.0,
        drops: 0,
    });
    for waiting in sockets {
        let Some(memory) = waiting.socket.upgrade().and_then(|socket| memory(&*socket).ok()) else {
            continue;
        };
        if let Some(queue) = lanes.get_mut(waiting.lane as usize) {
            queue.bytes += u64::from(memory[ALLOCATED]);
            queue.fullest = queue.fullest.max(f64::from(memory[ALLOCATED]) / f64::from(memory[ROOM].max(1)));
            queue.drops += u64::from(memory[DROPS]);
        }
    }
    lanes.into()
}

/// `SO_MEMINFO` (kernel 4.12).
fn memory(socket: &impl AsFd) -> io::Result<[u32; VARS]> {
    let mut values = [0u32; VARS];
    #[expect(clippy::cast_possible_truncation, reason = "36 bytes")]
    let mut length = size_of_val(&values) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes to `values`, which has as many.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut length) };
    if result == 0 { Ok(values) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_waits_is_seen_and_what_found_no_room_is_counted() {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"));
        let waiting = [Waiting {
            lane: Lane::Known,
            socket: Arc::downgrade(&socket),
        }];
        let known = || queues(&waiting)[Lane::Known as usize];
        assert_eq!((known().bytes, known().drops), (0, 0));
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = socket.local_addr().expect("an address");
        // Far more than any default buffer.
        for _ in 0..5_000 {
            let _ = sender.send_to(&[0; 1_400], to);
        }
        let full = known();
        assert!(full.bytes > 100_000 && full.drops > 1_000 && full.fullest > 0.9, "{full:?}");
        for other in queues(&waiting).iter().filter(|queue| queue.lane != Lane::Known) {
            assert_eq!((other.bytes, other.drops), (0, 0), "{other:?}");
        }
        drop(socket);
        assert_eq!(known().bytes, 0);
    }
}
