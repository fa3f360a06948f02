//! Calls between real SIP peers in the lab of namespaces, without and with sipauth in front of the softswitch.
//! One lab serves all tests, one at a time; `cargo xtask test` passes `--test-threads=1` besides.

#[path = "lab/answers.rs"]
mod answers;
#[path = "lab/apply.rs"]
mod apply;
#[path = "lab/audit.rs"]
mod audit;
#[path = "lab/bans.rs"]
mod bans;
#[path = "lab/bare.rs"]
mod bare;
#[path = "lab/callers.rs"]
mod callers;
#[path = "lab/challenger.rs"]
mod challenger;
#[path = "lab/changes.rs"]
mod changes;
#[path = "lab/console.rs"]
mod console;
#[path = "lab/digest.rs"]
mod digest;
#[path = "lab/doctor.rs"]
mod doctor;
#[path = "lab/flood.rs"]
mod flood;
#[path = "lab/import.rs"]
mod import;
#[path = "lab/interop.rs"]
mod interop;
#[path = "lab/lifecycle.rs"]
mod lifecycle;
#[path = "lab/metrics.rs"]
mod metrics;
#[path = "lab/modes.rs"]
mod modes;
#[path = "lab/names.rs"]
mod names;
#[path = "lab/passwords.rs"]
mod passwords;
#[path = "lab/phone.rs"]
mod phone;
#[path = "lab/privileges.rs"]
mod privileges;
#[path = "lab/records.rs"]
mod records;
#[path = "lab/reload.rs"]
mod reload;
#[path = "lab/room.rs"]
mod room;
#[path = "lab/sizes.rs"]
mod sizes;
#[path = "lab/store.rs"]
mod store;
#[path = "lab/support.rs"]
mod support;
#[path = "lab/tcp.rs"]
mod tcp;
#[path = "lab/top.rs"]
mod top;
#[path = "lab/trace.rs"]
mod trace;
