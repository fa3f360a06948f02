//! The egress program in the kernel, packet by packet, and both programs on a pair of virtual interfaces with real sockets.
//! Network namespaces are made and left by each test's own threads; the machine's interfaces are not touched.

#[path = "egress/attach.rs"]
mod attach;
#[path = "egress/bench.rs"]
mod bench;
#[path = "egress/learned.rs"]
mod learned;
#[path = "egress/net.rs"]
mod net;
#[path = "egress/packets.rs"]
mod packets;
#[path = "egress/prefilter.rs"]
mod prefilter;
#[path = "egress/sockets.rs"]
mod sockets;
#[path = "egress/support.rs"]
mod support;
