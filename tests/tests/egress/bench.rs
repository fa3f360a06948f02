//! The program alone, and packets to run through it.

use std::sync::MutexGuard;

use aya::programs::{TestRun, TestRunOptions};
use sipauth_common::{
    address::Address,
    decide::Lookup,
    flow::{Flow, FlowKey},
};
use sipauth_tests::frame::Frame;
use sipauth_user::datapath::Programs;

use crate::support::{SIP, load, turn};

/// `TC_ACT_UNSPEC`: on to the next program.
const NEXT: u32 = u32::MAX;

pub(crate) struct Bench {
    pub(crate) programs: Programs,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let turn = turn();
        Self {
            programs: load(None),
            _turn: turn,
        }
    }

    /// The frame as it leaves.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 4_096];
        let result = self
            .programs
            .egress()
            .expect("the program")
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .expect("a test run");
        assert_eq!(result.return_value, NEXT, "every packet goes on");
        out.truncate(result.data_size_out as usize);
        out
    }

    pub(crate) fn peer(&self, at: Address) -> Option<u64> {
        self.programs.maps.peer(&at)
    }

    pub(crate) fn flow(&self, to: Address, port: u16) -> Option<Flow> {
        self.programs.maps.flow(&FlowKey {
            address: to,
            port,
            protocol: 6,
            reserved: 0,
        })
    }
}

/// From the softswitch to `to`: a 200, which teaches nothing.
pub(crate) fn outgoing(to: &str) -> Frame {
    let base = if to.contains(':') {
        Frame {
            source: "2001:db8:1::1".parse().expect("an address"),
            ..Frame::invite_v6()
        }
    } else {
        Frame {
            source: "192.0.2.1".parse().expect("an address"),
            ..Frame::invite()
        }
    };
    Frame {
        destination: to.parse().expect("an address"),
        source_port: SIP,
        destination_port: 5_070,
        payload: b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n".to_vec(),
        ..base
    }
}
