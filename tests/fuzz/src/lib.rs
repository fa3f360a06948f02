//! What the fuzz targets run: the modules of the agent that read a peer's bytes, taken in by path. They do no I/O and need nothing of the rest,
//! and to instrument maps, store and sockets as well would take minutes. The bodies of the targets are in `fuzzing`.

// The path is the directory in which the modules inside are looked for.
#[path = "../../../sipauth-user/src"]
mod agent {
    pub mod auth;
    pub mod fuzzing;
    pub mod sip;
}

pub use agent::{auth, fuzzing, sip};
