//! The lab: a softswitch, gateways of every mode, a NAT and a stranger in network namespaces of their own, with SIPp as the SIP
//! peers and the real `sipauth` in front of the softswitch. Used by the lab tests and by `cargo xtask demo`.
//! Also frames for the kernel program, and the model of what must happen to them.

pub mod agent;
pub mod browser;
pub mod cleanup;
pub mod flood;
pub mod frame;
pub mod lab;
pub mod model;
pub mod napi;
pub mod peers;
pub mod privilege;
pub mod system;
