//! The lab of network namespaces and real SIP peers, and what the tests share.

pub mod frame;
pub mod model;
pub mod privilege;
