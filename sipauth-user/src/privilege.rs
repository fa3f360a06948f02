//! Capabilities. Only the start needs any, and only in one thread.
//!
//! The agent runs as root, which is left as it is, or as another user with the capabilities in [`NEEDED`] and no others (the package's
//! unit, `setpriv`). In the latter case [`Privileged::begin`] is the first thing that happens: it moves the capabilities to a thread that does nothing but the
//! jobs it is given, and all other threads, which read what peers and operators send, never have any.
//!
//! When the start is over that thread ends ([`Privileged::finish`]). What the agent does later asks for no capability: maps are read and
//! written by their handles, also where `kernel.unprivileged_bpf_disabled` is set (kernel 5.19), and so are links made, replaced and
//! detached; pins are files of the agent's user; the raw sockets are open. The one exception is a kernel before 6.6: there the way out is a
//! filter of clsact, which netlink changes only with `CAP_NET_ADMIN`, so the thread stays and keeps that one.
//!
//! Maps and programs cannot be made without capabilities. When more gateways come than the maps have room for, another process makes larger ones:
//! [`Maker`], which reads nothing but their sizes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

use crate::{
    config::Settings,
    datapath::{self, DatapathError, Maker, Maps, Pins, Programs, Sizes},
};

/// What the start needs, and what for.
pub const NEEDED: [(Capability, &str); 4] = [
    (Capability::CAP_BPF, "to load the programs and make their maps"),
    (Capability::CAP_NET_ADMIN, "to load network programs and attach them"),
    (Capability::CAP_PERFMON, "for the programs to read packets"),
    (
        Capability::CAP_NET_RAW,
        "for the raw sockets that hand authenticated datagrams to the softswitch",
    ),
];

/// Ports below are for those who have `CAP_NET_BIND_SERVICE`.
const FIRST_FREE_PORT: u16 = 1024;

/// Why the agent cannot start as this user.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A capability is missing.
    #[error(
        "{capability} is missing, which the agent needs {purpose}: run as root, as the service of the package, or with \
         `setpriv --inh-caps +bpf,+net_admin,+perfmon,+net_raw --ambient-caps +bpf,+net_admin,+perfmon,+net_raw`"
    )]
    Missing {
        /// Its name.
        capability: Capability,
        /// What for.
        purpose: &'static str,
    },
    /// The system does not let us look at them or give them up.
    #[error("cannot read or give up capabilities: {0}; is /proc mounted?")]
    Caps(#[from] CapsError),
    /// No thread, or no process.
    #[error("cannot start a thread or process: {0}")]
    Thread(#[from] std::io::Error),
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that has the capabilities, while there is one.
#[derive(Debug)]
pub struct Privileged {
    thread: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
    maker: Option<Maker>,
}

impl Privileged {
    /// Moves the capabilities of this process to a thread of their own. To be called before there is any other.
    ///
    /// # Errors
    /// One that the start needs is missing; the error names it.
    pub fn begin(settings: &Settings) -> Result<Self, PrivilegeError> {
        if nix::unistd::geteuid().is_root() {
            return Ok(Self::none());
        }
        let present = caps::read(None, CapSet::Effective)?;
        let low_port = (settings.punt_port < FIRST_FREE_PORT).then_some((Capability::CAP_NET_BIND_SERVICE, "for a punt-port below 1024"));
        for (capability, purpose) in NEEDED.into_iter().chain(low_port) {
            if !present.contains(&capability) {
                return Err(PrivilegeError::Missing { capability, purpose });
            }
        }
        let maker = Maker::start(Pins::at(&settings.bpffs), || {
            keep_only(&CapsHashSet::from([
                Capability::CAP_BPF,
                Capability::CAP_NET_ADMIN,
                Capability::CAP_PERFMON,
            ]))
        })?;
        let (sender, jobs) = channel::<Job>();
        let thread = thread::Builder::new().name("privileged".to_owned()).spawn(move || {
            for job in jobs {
                job();
            }
        })?;
        keep_only(&CapsHashSet::new())?;
        Ok(Self {
            thread: Mutex::new(Some((sender, thread))),
            maker: Some(maker),
        })
    }

    /// For whom every thread may do what has to be done: root, and tests.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            thread: Mutex::new(None),
            maker: None,
        }
    }

    /// Loads the programs anew, over maps of which some are larger than those that are `present`: at any time.
    ///
    /// # Errors
    /// As [`datapath::load`].
    pub fn load(&self, pins: &Pins, sizes: &Sizes, present: &Maps) -> Result<Programs, DatapathError> {
        match &self.maker {
            Some(maker) => maker.load(sizes, present),
            None => datapath::load(Some(pins), sizes),
        }
    }

    /// Does the job in the thread that has the capabilities, and waits for it; here, where there is none.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = sync_channel(1);
        {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((jobs, _)) = &*thread else {
                drop(thread);
                return job();
            };
            let job = move || {
                // The receiver waits below.
                let _ = answer.send(catch_unwind(AssertUnwindSafe(job)));
            };
            // The thread takes jobs until the sender is dropped, which is under this lock.
            let _ = jobs.send(Box::new(job));
        }
        match answered.recv() {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => std::panic::resume_unwind(Box::new("the privileged thread is gone")),
        }
    }

    /// The start is over: gives up everything, or all but `kept`.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn finish(&self, kept: Option<Capability>) -> Result<(), PrivilegeError> {
        if let Some(kept) = kept {
            let root = nix::unistd::geteuid().is_root();
            return Ok(self.run(move || if root { Ok(()) } else { keep_only(&CapsHashSet::from([kept])) })?);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((jobs, thread)) = thread {
            drop(jobs);
            // Its jobs do not panic: `run` catches that.
            let _ = thread.join();
        }
        Ok(())
    }
}

/// For threads that are started by a privileged job, and read what peers send. Nothing for root.
///
/// # Errors
/// The system does not let us.
pub fn relinquish() -> Result<(), CapsError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    keep_only(&CapsHashSet::new())
}

/// For this thread. A set that is part of another goes first.
fn keep_only(kept: &CapsHashSet) -> Result<(), CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, kept)?;
    caps::set(None, CapSet::Permitted, kept)?;
    caps::clear(None, CapSet::Inheritable)
}
