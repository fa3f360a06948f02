//! Calls between real SIP peers in the lab of namespaces, without and with sipauth in front of the softswitch.
//! Runs alone and in sequence: `cargo xtask test` passes `--test-threads=1`.

#[path = "lab/bare.rs"]
mod bare;
#[path = "lab/support.rs"]
mod support;
