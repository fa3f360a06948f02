//! Peers that the egress program learns get through the prefilter, whatever the agent does to it meanwhile.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::programs::{TestRun, TestRunOptions};
use sipauth_common::{decide::Lookup as _, policy::Policy};
use sipauth_tests::{
    frame::{Frame, INVITE},
    require_root,
};
use sipauth_user::datapath::Maps;

use super::support::{self, SIP};

/// Peers that are learned.
const PEERS: u32 = 20_000;

fn peer(n: u32) -> IpAddr {
    if n.is_multiple_of(2) {
        Ipv4Addr::from(0xc633_0000 + n).into()
    } else {
        Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000 + u128::from(n)).into()
    }
}

fn request(to: IpAddr) -> Vec<u8> {
    let base = if to.is_ipv4() { Frame::invite() } else { Frame::invite_v6() };
    Frame {
        source: base.destination,
        destination: to,
        source_port: SIP,
        destination_port: SIP,
        payload: INVITE.to_vec(),
        ..base
    }
    .bytes()
}

/// Adds and removes gateways, and fills the prefilter anew each time, until `end`; answers how often.
fn renew(maps: &Maps, end: &AtomicBool) -> u32 {
    let mut times = 0;
    while !end.load(Ordering::SeqCst) {
        let gateway = IpAddr::from(Ipv4Addr::from(0xcb00_7100 + times % 8)).into();
        maps.put_host(&gateway, &Policy::default()).expect("HOSTS");
        maps.renew_prefilter().expect("PREFILTER");
        assert!(maps.possible(&gateway).single);
        maps.delete_host(&gateway).expect("HOSTS");
        times += 1;
    }
    times
}

#[test]
fn a_peer_that_is_learned_while_the_prefilter_is_filled_anew_is_not_missed() {
    require_root!();
    let _turn = support::turn();
    let mut programs = support::load(None);
    let maps = Arc::clone(&programs.maps);
    let end = AtomicBool::new(false);
    let renewed = std::thread::scope(|scope| {
        let renewing = scope.spawn(|| renew(&maps, &end));
        for n in 0..PEERS {
            let at = peer(n).into();
            let frame = request(peer(n));
            let options = TestRunOptions {
                data_in: Some(&frame),
                ..TestRunOptions::default()
            };
            programs.egress().expect("the program").test_run(options).expect("a test run");
            assert!(maps.peer(&at).is_some(), "{} was not learned", peer(n));
            assert!(maps.possible(&at).single, "{} at once", peer(n));
        }
        end.store(true, Ordering::SeqCst);
        renewing.join().expect("renewed")
    });
    assert!(renewed > 3, "only {renewed} times");
    for n in 0..PEERS {
        let at = peer(n).into();
        assert!(maps.possible(&at).single || maps.peer(&at).is_none(), "{} in the end", peer(n));
    }
    // What nobody learned is ruled out, so the prefilter was in force.
    let strangers = (PEERS..PEERS + 200).filter(|n| maps.possible(&peer(*n).into()).single).count();
    assert!(strangers < 60, "{strangers} of 200");
}
