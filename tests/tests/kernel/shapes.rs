//! Every header shape of the tables, and every prefix of each, in the kernel.

use sipauth_common::reason::Reason;
use sipauth_tests::{frame::Frame, require_root};

use crate::{
    bench::{Bench, ENTRIES, address, populate, whole_checksum},
    tables::{all, v4, v6},
};

#[test]
fn every_header_shape_has_its_reason() {
    require_root!();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for (name, frame, reason) in all() {
            let bytes = frame.bytes();
            let name = format!("{entry}, {}: {name}", frame.source);
            let expected = bench.check(&name, &bytes);
            assert_eq!(expected.reason, reason, "{name}: the model");
            // Fragments and cut datagrams have no checksum that could be counted.
            let whole =
                frame.keep.is_none() && frame.udp_length.is_none() && !frame.no_checksum && frame.extensions.iter().all(|e| e.0 != 43);
            if let (Some((at, _)), true) = (expected.rewritten, whole) {
                let after = bench.run(&bytes).frame;
                assert!(whole_checksum(&frame, &after, at), "{name}: checksum over the whole packet");
            }
        }
    }
}

#[test]
fn every_prefix_of_every_frame_moves_exactly_one_counter() {
    require_root!();
    for entry in ENTRIES {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for (name, frame, _) in all() {
            let bytes = frame.bytes();
            // The kernel takes nothing shorter than an Ethernet header; of a long packet the headers matter.
            for len in 14..bytes.len().min(150) {
                bench.check(&format!("{entry}: the first {len} bytes of {name}"), &bytes[..len]);
            }
        }
    }
}

#[test]
fn a_jumbo_frame_is_read_like_any_other() {
    require_root!();
    // A driver gives the plain entry point one buffer only; a test run of more would give it the first of several.
    for (entry, size) in [(ENTRIES[0], 3_000), (ENTRIES[1], 8_900)] {
        let mut bench = Bench::new(entry);
        populate(&mut bench);
        for base in [v4(), v6()] {
            let mut payload = base.payload.clone();
            payload.resize(size, b'x');
            let frame = Frame { payload, ..base };
            let bytes = frame.bytes();
            let expected = bench.check(&format!("{entry}: {} bytes", bytes.len()), &bytes);
            assert_eq!(expected.reason, Reason::Challenge);
            let after = bench.run(&bytes).frame;
            let (at, _) = expected.rewritten.expect("a punt");
            assert!(whole_checksum(&frame, &after, at), "{entry}");
        }
    }
}

#[test]
fn a_checksum_that_comes_to_zero_is_written_as_all_ones() {
    require_root!();
    let mut bench = Bench::new(ENTRIES[0]);
    populate(&mut bench);
    assert!(bench.tables.hosts.contains_key(&address("203.0.113.3")));
    let mut seen = false;
    // One of all values of two bytes makes the punted datagram's checksum zero.
    for value in 0..=u16::MAX {
        let mut frame = v4();
        frame.payload[40..42].copy_from_slice(&value.to_be_bytes());
        frame.destination_port = 16_060;
        let bytes = frame.bytes();
        if bytes[40..42] == [0xff, 0xff] {
            frame.destination_port = 5060;
            let bytes = frame.bytes();
            bench.check("checksum zero", &bytes);
            let after = bench.run(&bytes).frame;
            assert_eq!(after[40..42], [0xff, 0xff]);
            seen = true;
        }
    }
    assert!(seen);
}
