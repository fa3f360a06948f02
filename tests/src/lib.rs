//! The lab: a softswitch, gateways of every mode, a NAT and a stranger in network namespaces of their own, with SIPp as the SIP
//! peers and the real `sipauth` in front of the softswitch. Used by the lab tests and by `cargo xtask demo`.

pub mod agent;
pub mod cleanup;
pub mod lab;
pub mod peers;
pub mod privilege;
