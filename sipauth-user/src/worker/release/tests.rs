//! Releases over `lo` of a fresh namespace, where the sources have no route at all and `rp_filter` is strict.

use std::{fs, net::UdpSocket, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::worker::namespace::{at, bound, in_namespace, ip};

const SOURCES: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

fn payload(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

fn release(releaser: &Releaser, payload: &[u8], source: SocketAddr, destination: SocketAddr) -> io::Result<()> {
    let one = [Release::new(payload, 0, source, destination)?];
    assert_eq!(releaser.send(&one, |_| payload)?, 1);
    Ok(())
}

fn arrives(releaser: &Releaser, listening: &UdpSocket, source: &str, size: usize) {
    let (source, payload) = (at(source, 5062), payload(size));
    release(releaser, &payload, source, listening.local_addr().expect("an address")).expect("released");
    let mut buffer = vec![0; 70_000];
    let (length, from) = listening
        .recv_from(&mut buffer)
        .unwrap_or_else(|error| panic!("{size} bytes from {source}: {error}"));
    assert_eq!(from, source);
    assert!(buffer[..length] == payload, "{size} bytes from {source} changed");
}

#[test]
fn datagrams_of_every_size_keep_their_source() {
    in_namespace("datagrams_of_every_size_keep_their_source", || {
        let releaser = Releaser::new().expect("raw sockets");
        for (source, destination, longest) in [(SOURCES[0], "203.0.113.1", 65_507), (SOURCES[1], "2001:db8::1", 65_488)] {
            let listening = bound(at(destination, 5060));
            for size in [0, 1, 2, 3, 1_400, 1_401, 4_096, 60_000, longest] {
                arrives(&releaser, &listening, source, size);
            }
            let error = release(&releaser, &payload(longest + 1), at(source, 5062), at(destination, 5060)).expect_err("too long");
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            assert!(!is_busy(&error));
        }
        // The check of source addresses did not even run.
        let netstat = fs::read_to_string("/proc/thread-self/net/netstat").expect("statistics");
        assert_eq!(statistic(&netstat, "IPReversePathFilter"), 0);
    });
}

#[test]
fn any_local_address_can_be_the_softswitch() {
    in_namespace("any_local_address_can_be_the_softswitch", || {
        ip("link add inside type veth peer name outside");
        ip("address add 192.0.2.1/24 dev inside");
        ip("address add 2001:db8:2::1/64 dev inside nodad");
        ip("link set inside up");
        ip("link set outside up");
        let releaser = Releaser::new().expect("raw sockets");
        for (source, destination) in [
            (SOURCES[0], "127.0.0.9"),
            (SOURCES[0], "192.0.2.1"),
            ("192.0.2.77", "192.0.2.1"),
            (SOURCES[1], "2001:db8:2::1"),
            (SOURCES[1], "::1"),
        ] {
            arrives(&releaser, &bound(at(destination, 5060)), source, 1_400);
        }
    });
}

#[test]
fn a_wrong_checksum_would_be_noticed() {
    in_namespace("a_wrong_checksum_would_be_noticed", || {
        let releaser = Releaser::new().expect("raw sockets");
        let listening = bound(at("203.0.113.1", 5060));
        listening.set_read_timeout(Some(Duration::from_millis(200))).expect("an option");
        let mut wrong = Release::new(b"SIP!", 0, at(SOURCES[0], 5062), at("203.0.113.1", 5060)).expect("headers");
        wrong.headers[IPV4_HEADER + 7] ^= 1;
        releaser.send(&[wrong], |_| b"SIP!").expect("sent");
        assert!(listening.recv_from(&mut [0; 64]).is_err());
    });
}

#[test]
fn families_do_not_mix() {
    in_namespace("families_do_not_mix", || {
        let releaser = Releaser::new().expect("raw sockets");
        assert!(release(&releaser, b"x", at(SOURCES[0], 5062), at("2001:db8::1", 5060)).is_err());
    });
}

#[test]
fn a_batch_of_both_families_goes_whole_and_in_order() {
    in_namespace("a_batch_of_both_families_goes_whole_and_in_order", || {
        let releaser = Releaser::new().expect("raw sockets");
        let listening = ["203.0.113.1", "2001:db8::1"].map(|address| bound(at(address, 5060)));
        let payloads: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 100 * (usize::from(n) + 1)]).collect();
        let families = [0, 0, 1, 1, 0];
        let batch: Vec<Release> = families
            .into_iter()
            .zip(&payloads)
            .enumerate()
            .map(|(place, (family, payload))| {
                let to = listening[family].local_addr().expect("an address");
                Release::new(payload, place, at(SOURCES[family], 6000), to).expect("headers")
            })
            .collect();
        let mut rest = batch.as_slice();
        let mut calls = Vec::new();
        while !rest.is_empty() {
            let sent = releaser.send(rest, |place| &payloads[place]).expect("sent");
            calls.push(sent);
            rest = &rest[sent..];
        }
        assert_eq!(calls, [2, 2, 1]);
        for (family, expected) in [(0, vec![0, 1, 4]), (1, vec![2, 3])] {
            for n in expected {
                let mut buffer = [0; 1_000];
                let (length, from) = listening[family].recv_from(&mut buffer).expect("a datagram");
                assert_eq!((&buffer[..length], from), (payloads[n].as_slice(), at(SOURCES[family], 6000)));
            }
        }
    });
}

fn statistic(netstat: &str, name: &str) -> u64 {
    let mut lines = netstat
        .lines()
        .filter(|line| line.starts_with("TcpExt:") || line.starts_with("IpExt:"));
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        if let Some((_, value)) = names.split(' ').zip(values.split(' ')).find(|(one, _)| *one == name) {
            return value.parse().expect("a number");
        }
    }
    panic!("no {name}");
}

/// RFC 1071 as it is written: 16-bit words, network order.
fn by_the_book(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

proptest! {
    #[test]
    fn the_checksum_makes_the_whole_sum_ones(addresses: [u8; 32], from: u16, to: u16, payload in prop::collection::vec(any::<u8>(), 0..3000)) {
        let length = u16::try_from(UDP_HEADER + payload.len()).expect("short");
        let header = udp_header(sum(&addresses), length, from, to, &payload);
        let mut all = addresses.to_vec();
        all.extend([0, UDP]);
        all.extend(length.to_be_bytes());
        all.extend(header);
        all.extend(payload);
        prop_assert_eq!(by_the_book(&all), 0xffff);
        prop_assert_ne!(&header[6..8], &[0, 0]);
    }
}

#[test]
fn a_checksum_of_zero_is_sent_as_ones() {
    // All words zero but the protocol, the length twice, and one that makes the sum all ones.
    let rest = u16::MAX - u16::from(UDP) - 2 * 10;
    let header = udp_header(0, 10, 0, 0, &rest.to_be_bytes());
    assert_eq!(header[6..8], [0xff, 0xff]);
}
