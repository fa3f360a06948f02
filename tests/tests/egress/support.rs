//! The programs with one protected port, and a pin directory that goes away with the test.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use sipauth_common::{
    abi,
    address::Address,
    config::{Config, DefaultPolicy, LANES, PortRole, port},
};
use sipauth_tests::cleanup::DIR_PREFIX;
use sipauth_user::datapath::{self, Pins, Programs, Sizes};

/// The protected port.
pub(crate) const SIP: u16 = 5060;
/// Its punt ports, by lane.
pub(crate) const PUNT: [u16; LANES] = [15_060, 16_060, 17_060, 18_060];
/// A port that is nothing to us.
pub(crate) const OTHER: u16 = 15_059;
const HOUR: u64 = 3_600_000_000_000;

/// One at a time: the maps of a loaded object take some hundred megabytes, as much as a small VM has.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect("an address").into()
}

/// Loads the object, protects [`SIP`], and lets a living agent challenge everyone.
pub(crate) fn load(pins: Option<&Pins>) -> Programs {
    let programs = datapath::load(pins, &Sizes::ample()).expect("the object loads");
    let maps = &programs.maps;
    let role = |punt, protected, flags| PortRole {
        punt,
        protected,
        flags,
        reserved: 0,
    };
    maps.set_port_role(SIP, role(PUNT, 0, port::PROTECTED)).expect("PORT_ROLES");
    for punt in PUNT {
        maps.set_port_role(punt, role([0; LANES], SIP, port::PUNT)).expect("PORT_ROLES");
    }
    let config = Config {
        layout: abi::LAYOUT,
        generation: 1,
        heartbeat_ns: datapath::monotonic_ns() + HOUR,
        heartbeat_limit_ns: HOUR,
        peer_ttl_ns: HOUR,
        flow_idle_ns: HOUR,
        default_policy: DefaultPolicy::Challenge as u32,
        flags: 0,
        source_rate: [10_000; LANES],
        lane_rate: [10_000; LANES],
        own_mark: *b"0badcafe",
        event_rate: 0,
        reserved: 0,
    };
    maps.set_config(&config).expect("CONFIG");
    programs
}

/// A directory of its own on the bpf file system. Named like a lab's, so that what a killed test leaves is swept with the labs.
pub(crate) struct PinDir(PathBuf);

impl PinDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(PathBuf::from(format!(
            "/sys/fs/bpf/{DIR_PREFIX}{}-egress{number}",
            std::process::id()
        )))
    }

    pub(crate) fn open(&self) -> Pins {
        Pins::open(&self.0).expect("a pin directory")
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.exists()
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        // Gone already where the test detached.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
