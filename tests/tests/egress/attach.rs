//! How the programs come onto an interface, how a second agent's take their place, and that nothing stays.

use aya::programs::{SchedClassifier, TcAttachType};
use sipauth_tests::require_root;
use sipauth_user::datapath::{self, Attached, DatapathError, EgressHook, Pins, Programs, XdpMode};

use crate::{
    net::{NEAR, filters, has_xdp, ip, with_pair},
    support::{PinDir, load, turn},
};

/// What this kernel must give; 6.6 is the first with TCX.
fn expected() -> EgressHook {
    let name = nix::sys::utsname::uname().expect("uname");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().expect("a version"), numbers.next().unwrap_or(0));
    println!("kernel {release}");
    if version >= (6, 6) { EgressHook::Tcx } else { EgressHook::Clsact }
}

/// Programs on the way out: the ids of those in links, and how many stand in filters.
fn on_the_way_out() -> (Vec<u32>, usize) {
    // Before 6.6 there is nothing to ask.
    let links = SchedClassifier::query_tcx(NEAR, TcAttachType::Egress).map(|(_, programs)| programs);
    let ids = links.unwrap_or_default().iter().map(aya::programs::ProgramInfo::id).collect();
    (ids, filters(NEAR))
}

fn id(programs: &mut Programs) -> u32 {
    programs.egress().expect("the program").info().expect("its info").id()
}

/// Whether a program is still in the kernel.
fn lives(id: u32) -> bool {
    aya::programs::loaded_programs().flatten().any(|program| program.id() == id)
}

fn attach_egress(programs: &mut Programs, pins: &Pins) -> EgressHook {
    datapath::attach_egress(programs.egress().expect("the program"), NEAR, pins).expect("the way out")
}

fn attach_ingress(programs: &mut Programs, pins: &Pins) -> Result<Attached, DatapathError> {
    datapath::attach_ingress(programs.ingress().expect("the program"), NEAR, XdpMode::Native, pins)
}

/// Exactly the program of `id`, where `hook` has it.
fn assert_alone(hook: EgressHook, id: u32, why: &str) {
    match hook {
        EgressHook::Tcx => assert_eq!(on_the_way_out(), (vec![id], 0), "{why}"),
        EgressHook::Clsact => assert_eq!(on_the_way_out(), (vec![], 1), "{why}"),
    }
    assert!(lives(id), "{why}");
}

/// The kernel frees a program a little after its last user went.
fn assert_goes(id: u32) {
    for _ in 0..500 {
        if !lives(id) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("program {id} is still there");
}

#[test]
fn a_second_agents_programs_take_the_place_of_the_first_ones() {
    require_root!();
    let _turn = turn();
    let dir = PinDir::new();
    with_pair(|_| {
        let pins = dir.open();
        assert_eq!(on_the_way_out(), (vec![], 0), "before");
        assert!(!has_xdp(NEAR), "before");

        let mut first = load(Some(&pins));
        let first_id = id(&mut first);
        assert_eq!(on_the_way_out(), (vec![], 0), "loaded only");
        assert_eq!(attach_egress(&mut first, &pins), expected());
        assert_alone(expected(), first_id, "attached");
        assert_eq!(attach_egress(&mut first, &pins), expected(), "the same agent again");
        assert_alone(expected(), first_id, "attached again");
        assert_eq!(attach_ingress(&mut first, &pins).expect("the way in"), Attached::Anew);
        assert!(has_xdp(NEAR));

        drop(first);
        assert_alone(expected(), first_id, "without its agent");
        assert!(has_xdp(NEAR), "without its agent");

        let mut second = load(Some(&pins));
        let second_id = id(&mut second);
        assert_ne!(first_id, second_id);
        assert_eq!(attach_egress(&mut second, &pins), expected());
        assert_eq!(attach_ingress(&mut second, &pins).expect("the way in"), Attached::Replaced);
        assert_alone(expected(), second_id, "replaced");
        assert_goes(first_id);
        drop(second);
        assert_alone(expected(), second_id, "the second without its agent");

        datapath::detach(&pins, None).expect("detached");
        assert_eq!(on_the_way_out(), (vec![], 0), "detached");
        assert!(!has_xdp(NEAR), "detached");
        assert_goes(second_id);
        assert!(!dir.exists(), "pins");
    });
}

#[test]
fn a_way_out_without_a_way_in_is_taken_off_too() {
    require_root!();
    let _turn = turn();
    let dir = PinDir::new();
    with_pair(|_| {
        let pins = dir.open();
        let mut programs = load(Some(&pins));
        let program = id(&mut programs);
        // As when the agent's start fails between the two.
        attach_egress(&mut programs, &pins);
        drop(programs);
        assert_alone(expected(), program, "attached");
        datapath::detach(&pins, Some("another")).expect("detached");
        assert_alone(expected(), program, "another interface was meant");
        datapath::detach(&pins, Some(NEAR)).expect("detached");
        assert_eq!(on_the_way_out(), (vec![], 0), "detached");
        assert!(dir.exists(), "the maps stay for the other interfaces");
        datapath::detach(&pins, None).expect("detached");
        assert_goes(program);
        assert!(!dir.exists(), "pins");
    });
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    require_root!();
    let _turn = turn();
    let dir = PinDir::new();
    with_pair(|_| {
        let pins = dir.open();
        let mut programs = load(Some(&pins));
        attach_egress(&mut programs, &pins);
        attach_ingress(&mut programs, &pins).expect("the way in");
        ip(&format!("link del {NEAR}"));
        ip(&format!("link add {NEAR} type veth peer name other"));
        assert_eq!(on_the_way_out(), (vec![], 0), "a new interface");
        assert_eq!(attach_egress(&mut programs, &pins), expected());
        assert_eq!(attach_ingress(&mut programs, &pins).expect("the way in"), Attached::Anew);
        assert_alone(expected(), id(&mut programs), "attached");
        assert!(has_xdp(NEAR));
        // And one that is gone does not stop a detachment.
        ip(&format!("link del {NEAR}"));
        datapath::detach(&pins, None).expect("detached");
        assert!(!dir.exists(), "pins");
    });
}
