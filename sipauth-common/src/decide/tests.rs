//! What the test-run table does not show: the life of a TCP connection. (All else is compared with a model, packet by packet.)

use super::*;

const SOURCE: Address = Address([1, 2, 3, 4]);

/// One source in one mode, with a live flow of one protocol.
struct Maps {
    /// 0: nobody's address, and strangers are challenged.
    modes: u8,
    flow_of: u8,
    peer: bool,
}

impl Lookup for Maps {
    fn config(&self) -> Option<Config> {
        Some(Config {
            layout: 1,
            generation: 0,
            heartbeat_ns: 1,
            heartbeat_limit_ns: 1_000,
            peer_ttl_ns: 1_000,
            flow_idle_ns: 1_000,
            default_policy: DefaultPolicy::Challenge as u32,
            flags: 0,
            source_rate: [0; crate::config::LANES],
            lane_rate: [0; crate::config::LANES],
            own_mark: *b"0badcafe",
            event_rate: 0,
            reserved: 0,
        })
    }
    fn port_role(&self, port: u16) -> PortRole {
        PortRole {
            flags: if port == 5060 { crate::config::port::PROTECTED } else { 0 },
            ..PortRole::default()
        }
    }
    fn possible(&self, _: &Address) -> Possible {
        Possible::ALL
    }
    fn host(&self, _: &Address) -> Option<Policy> {
        (self.modes != 0).then_some(Policy {
            gateway: 7,
            modes: self.modes,
            ..Policy::default()
        })
    }
    fn net(&self, _: &Address) -> Option<Policy> {
        None
    }
    fn port(&self, _: &PortKey) -> Option<u32> {
        None
    }
    fn flow(&self, key: &FlowKey) -> Option<Flow> {
        (key.protocol == self.flow_of).then_some(Flow {
            expires: u64::MAX,
            seen: 1,
            gateway: 0,
            registering: 0,
        })
    }
    fn peer(&self, _: &Address) -> Option<u64> {
        self.peer.then_some(1)
    }
    fn ban(&self, _: &Address) -> Option<Ban> {
        None
    }
    fn now(&self) -> u64 {
        2
    }
}

fn segment(modes: u8, flow_of: u8, peer: bool, opens: bool) -> (Reason, Lane) {
    let packet = PacketView {
        source: SOURCE,
        source_port: 5060,
        destination_port: 5060,
        content: Content::Tcp { opens },
    };
    let decision = decide(&packet, &Maps { modes, flow_of, peer });
    (decision.reason, decision.lane)
}

#[test]
fn every_segment_of_a_punted_connection_has_one_lane_whatever_the_source_earns_over_udp() {
    for (modes, reason, lane) in [
        (modes::PASSWORD, Reason::Challenge, Lane::Known),
        (modes::PEER, Reason::PeerRequest, Lane::Known),
        (0, Reason::Challenge, Lane::Untrusted),
    ] {
        for (flow_of, peer, opens) in [0, UDP]
            .into_iter()
            .flat_map(|flow| [(false, true), (false, false), (true, true), (true, false)].map(|(peer, opens)| (flow, peer, opens)))
        {
            assert_eq!(segment(modes, flow_of, peer, opens), (reason, lane));
        }
        // What the softswitch opened is not the agent's.
        assert_eq!(segment(modes, TCP, false, false).0, Reason::Flow);
    }
}
