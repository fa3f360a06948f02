//! Attachment to interfaces that there are for it only.

use std::{fs, path::PathBuf, process::Command, thread};

use nix::sched::{CloneFlags, unshare};
use sipauth_tests::require_root;
use sipauth_user::datapath::{self, DatapathError, Pins, Sizes, XdpMode};

/// Every network namespace has one, and its driver has no XDP of its own.
const INTERFACE: &str = "lo";

/// Removes what the test pinned, however it ends.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        let _ = datapath::detach(&Pins::at(&self.0), None);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `ip link` says of the interface in the network namespace of this thread.
fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("ip (iproute2)");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_mode_that_the_driver_lacks_leaves_the_program_as_it_was() {
    require_root!();
    let test = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let root = Root(PathBuf::from(format!("/sys/fs/bpf/sipauth-attach-{}", std::process::id())));
        let pins = Pins::open(&root.0).expect("a pin directory");
        let mut programs = datapath::load(Some(&pins), &Sizes::least()).expect("the object loads");
        let mut attach = |mode| {
            let program = programs.ingress().expect("the program");
            datapath::attach_ingress(program, INTERFACE, mode, &pins)
        };
        attach(XdpMode::Generic).expect("the generic mode works everywhere");
        assert!(ip(&["link", "show", INTERFACE]).contains("xdpgeneric"));
        assert!(matches!(attach(XdpMode::Native), Err(DatapathError::NoNative { .. })));
        assert!(
            ip(&["link", "show", INTERFACE]).contains("xdpgeneric"),
            "the softswitch stands open"
        );
        assert_eq!(datapath::interfaces(&pins), [INTERFACE]);
    };
    // A thread of its own, since a network namespace is a thread's.
    thread::spawn(test).join().expect("the test");
}
