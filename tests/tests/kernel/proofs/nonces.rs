//! A nonce is used once, by whomever.

use std::{
    net::IpAddr,
    sync::{Arc, Barrier, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunOptions};
use sipauth_common::{
    address::Address,
    challenge::Nonce,
    proof::{STRANGERS, USES},
    reason::Reason,
};
use sipauth_tests::{frame::Frame, require_root};
use sipauth_user::auth::{Action, Outcome, Uses};

use super::client::{Answer, BOOT, FROM, ONE, STARTED, URI, agent, bench, caller, challenged, frame, invite, keys, passes};
use crate::bench::{ENTRIES, stay_on, stay_on_one_cpu};

#[test]
fn a_right_answer_passes_once_and_its_retransmission_is_known_to_the_agent() {
    require_root!();
    stay_on_one_cpu();
    for entry in ENTRIES {
        let mut bench = bench(entry);
        let seen = bench.programs.maps.nonces();
        let made = |n: usize| (*seen).as_ref()[n].load(SeqCst);
        assert_eq!(made(0), 0, "{entry}");
        let nonce = challenged(&mut bench, "one");
        let right = frame(&invite(URI, "one", 2, &Answer::default().header(&nonce)));
        assert_eq!(made(0), 1, "{entry}");
        assert!(passes(&mut bench, entry, &right));
        let nonces = bench.programs.maps.nonces();
        let uses = || Uses::new(Arc::clone(&nonces));
        assert_eq!(agent(uses(), &right.payload).outcome(), Outcome::Retransmission, "{entry}");
        // Another request with them: of another call, or but for a byte the same.
        for other in [
            invite(URI, "other", 2, &Answer::default().header(&nonce)),
            String::from_utf8(right.payload.clone()).expect("text").replace("v=0", "v=1"),
        ] {
            assert_eq!(agent(uses(), other.as_bytes()).outcome(), Outcome::Replayed, "{entry}");
            assert!(!passes(&mut bench, entry, &frame(&other)), "{entry}");
        }
        assert!(!passes(&mut bench, entry, &right), "{entry}: the agent lets it through");
        // And the other way round: what the agent took the program does not take.
        let nonce = challenged(&mut bench, "two");
        let right = frame(&invite(URI, "two", 2, &Answer::default().header(&nonce)));
        let action = agent(Uses::new(bench.programs.maps.nonces()), &right.payload);
        assert_eq!(action.outcome(), Outcome::Authenticated, "{entry}");
        assert!(!passes(&mut bench, entry, &right), "{entry}");
        // What it says of the caller is what the program has of him.
        let Action::Release { flow: Some(grant), .. } = action else {
            panic!("{entry}: no flow")
        };
        let wanted = caller(&bench);
        let said = grant.caller.expect("a caller");
        assert!(said.username == wanted.username && said.ha1 == wanted.ha1 && said.gateway == wanted.gateway);
    }
}

#[test]
fn a_nonce_is_good_for_its_time_and_in_its_run_and_as_long_as_its_use_is_remembered() {
    require_root!();
    stay_on_one_cpu();
    let text = |nonce: &Nonce, key: [u64; 2]| {
        let source = Address::from(FROM.parse::<IpAddr>().expect("an address"));
        format!("k{:016x}{:016x}{:016x}", nonce.serial, nonce.run, nonce.mac(key, &source))
    };
    let run = u32::try_from(STARTED.0 & 0xffff_ffff).expect("32 bits");
    let now = sipauth_user::datapath::monotonic_ns;
    for entry in ONE {
        let mut bench = bench(entry);
        let nonces = bench.programs.maps.nonces();
        (*nonces).as_ref()[0].store(200_000, SeqCst);
        let key = keys().of_kernel();
        let mut attempt = |what: &str, number: u32, age: u64, run: u32, key: [u64; 2]| {
            let nonce = Nonce::new(now() - age.min(now()), number, BOOT, run);
            let sent = frame(&invite(URI, "made", number & 0xffff, &Answer::default().header(&text(&nonce, key))));
            passes(&mut bench, &format!("{entry}: {what}"), &sent)
        };
        assert!(attempt("made here", 200_000, 0, run, key));
        assert!(!attempt("used", 200_000, 0, run, key));
        assert!(attempt("an earlier one", 199_000, 1_000_000_000, run, key));
        assert!(!attempt("with another key", 199_001, 0, run, [key[0], key[1] ^ 1]));
        assert!(!attempt("of an earlier run", 199_001, 0, run - 1, key));
        assert!(!attempt("not made yet", 200_001, 0, run, key));
        assert!(attempt("the oldest that is remembered", 200_000 - USES + 1, 0, run, key));
        assert!(!attempt("one before", 200_000 - USES, 0, run, key));
        assert!(!attempt("one of strangers that was not made", 200_000 | STRANGERS, 0, run, key));
        (*nonces).as_ref()[2].store(200_000, SeqCst);
        assert!(attempt("one that was made for a stranger", 200_000 | STRANGERS, 0, run, key));
        assert!(!attempt("used", 200_000 | STRANGERS, 0, run, key));
        if now() > 301_000_000_000 {
            assert!(attempt("old", 199_002, 299_000_000_000, run, key));
            assert!(!attempt("too old", 199_003, 301_000_000_000, run, key));
        }
        let ahead = Nonce::new(now() + 10_000_000_000, 199_004, BOOT, run);
        let sent = frame(&invite(URI, "ahead", 2, &Answer::default().header(&text(&ahead, key))));
        assert!(!passes(&mut bench, entry, &sent), "{entry}: of a time to come");
    }
}

/// The same request at two CPUs at once, and at a worker of the agent.
#[test]
fn of_all_who_use_a_nonce_at_the_same_time_one_has_it() {
    require_root!();
    stay_on_one_cpu();
    let mut bench = bench(ENTRIES[0]);
    let requests: Vec<Frame> = (0..300)
        .map(|n| {
            let call = format!("r{n}");
            let nonce = challenged(&mut bench, &call);
            frame(&invite(URI, &call, 2, &Answer::default().header(&nonce)))
        })
        .collect();
    let before = bench.stats()[Reason::Authenticated as usize].packets;
    let uses = Uses::new(bench.programs.maps.nonces());
    let program = &*bench.programs.ingress().expect("the program");
    let barrier = Barrier::new(3);
    let by_agent = std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (requests, barrier) = (&requests, &barrier);
            scope.spawn(move || {
                // Where there is one only, they take turns.
                let _ = stay_on(cpu);
                for (n, request) in (0..).zip(requests) {
                    let (bytes, mut out) = (request.bytes(), vec![0; 4_096]);
                    barrier.wait();
                    // Sometimes the agent, which takes longer to begin, is first.
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_micros(n % 50 * 20) {}
                    let options = TestRunOptions {
                        data_in: Some(&bytes),
                        data_out: Some(&mut out),
                        ..TestRunOptions::default()
                    };
                    program.test_run(options).expect("a test run");
                }
            });
        }
        let mut by_agent = 0;
        for request in &requests {
            barrier.wait();
            by_agent += u64::from(agent(uses.clone(), &request.payload).outcome() == Outcome::Authenticated);
        }
        by_agent
    });
    let by_kernel = bench.stats()[Reason::Authenticated as usize].packets - before;
    println!("{by_kernel} by the kernel program, {by_agent} by the agent");
    assert_eq!(by_kernel + by_agent, 300);
}
