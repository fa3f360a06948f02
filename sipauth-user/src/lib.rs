//! The agent of sipauth: it fills the maps of the kernel program, runs the digest for gateways in password mode,
//! and answers the command line.

pub mod agent;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod compile;
pub mod config;
pub mod console;
pub mod control;
pub mod datapath;
pub mod doctor;
pub mod explain;
pub mod fair;
#[cfg(test)]
pub mod fuzzing;
pub mod gateway;
pub mod logfile;
pub mod metrics;
pub mod netlink;
pub mod privilege;
pub mod rates;
pub mod records;
pub mod resolve;
pub mod sip;
pub mod store;
pub mod tally;
pub mod worker;
