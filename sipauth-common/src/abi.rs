//! Names and the version of everything that is pinned. A test compares them with the built object.

/// Version of the layout of all maps together. Part of the pin directory (`<bpffs>/v<LAYOUT>`), and of [`crate::config::Config`].
/// Raise it with any change to a type, a size or a meaning in this crate that the other side could misread.
pub const LAYOUT: u32 = 5;

/// The XDP program for drivers that pass one linear buffer (also kernels before 5.18).
pub const PROGRAM_INGRESS: &str = "sipauth_ingress";
/// The same program, for multi-buffer frames (jumbo MTU; kernel 5.18).
pub const PROGRAM_INGRESS_FRAGS: &str = "sipauth_ingress_frags";
/// The program on the way out (TCX; clsact before kernel 6.6).
pub const PROGRAM_EGRESS: &str = "sipauth_egress";

/// One [`crate::config::Config`].
pub const MAP_CONFIG: &str = "CONFIG";
/// Port number (host order, 65,536 entries) to [`crate::config::PortRole`].
pub const MAP_PORT_ROLES: &str = "PORT_ROLES";
/// [`crate::prefilter::Line`]s: which addresses may be in the maps of hosts, prefixes, bans and peers at all.
pub const MAP_PREFILTER: &str = "PREFILTER";
/// IPv4 address (4 bytes, network order) to [`crate::policy::Policy`].
pub const MAP_HOSTS_V4: &str = "HOSTS_V4";
/// IPv6 address (16 bytes, network order) to [`crate::policy::Policy`].
pub const MAP_HOSTS_V6: &str = "HOSTS_V6";
/// IPv4 prefix to [`crate::policy::Policy`].
pub const MAP_NETS_V4: &str = "NETS_V4";
/// IPv6 prefix to [`crate::policy::Policy`].
pub const MAP_NETS_V6: &str = "NETS_V6";
/// [`crate::policy::PortKey`] to the id of the gateway that the port belongs to (`u32`).
pub const MAP_PORTS: &str = "PORTS";
/// [`crate::flow::FlowKey`] to [`crate::flow::Flow`].
pub const MAP_FLOWS: &str = "FLOWS";
/// [`crate::address::Address`] to the time (ns, `CLOCK_MONOTONIC`) at which the softswitch last sent a SIP request there (`u64`).
pub const MAP_PEERS: &str = "PEERS";
/// [`crate::address::Address`] to [`crate::flow::Ban`].
pub const MAP_BANS: &str = "BANS";
/// [`crate::stats::RateKey`] to [`crate::stats::Bucket`], per CPU.
pub const MAP_PUNT_RATE: &str = "PUNT_RATE";
/// Lane number to [`crate::stats::Bucket`], per CPU.
pub const MAP_LANES: &str = "LANES";
/// Gateway id to [`crate::stats::GatewayStats`].
pub const MAP_GATEWAY_STATS: &str = "GATEWAY_STATS";
/// [`crate::reason::Reason`] slot to [`crate::stats::Count`], per CPU.
pub const MAP_STATS: &str = "STATS";
/// Ring buffer of [`crate::event::Event`].
pub const MAP_EVENTS: &str = "EVENTS";
/// Lane number to [`crate::stats::LaneStats`], per CPU.
pub const MAP_LANE_STATS: &str = "LANE_STATS";
/// One [`crate::stats::EventBudget`], per CPU.
pub const MAP_EVENT_STATS: &str = "EVENT_STATS";
/// One [`crate::challenge::Challenge`].
pub const MAP_CHALLENGE: &str = "CHALLENGE";
/// [`crate::flow::FlowKey`] to [`crate::proof::Caller`].
pub const MAP_CALLERS: &str = "CALLERS";
/// [`crate::proof::Slot`]s: which nonces of the kernel program were used.
pub const MAP_NONCES: &str = "NONCES";

/// Every map.
pub const MAPS: [&str; 21] = [
    MAP_CONFIG,
    MAP_PORT_ROLES,
    MAP_PREFILTER,
    MAP_HOSTS_V4,
    MAP_HOSTS_V6,
    MAP_NETS_V4,
    MAP_NETS_V6,
    MAP_PORTS,
    MAP_FLOWS,
    MAP_PEERS,
    MAP_BANS,
    MAP_PUNT_RATE,
    MAP_LANES,
    MAP_GATEWAY_STATS,
    MAP_STATS,
    MAP_EVENTS,
    MAP_LANE_STATS,
    MAP_EVENT_STATS,
    MAP_CHALLENGE,
    MAP_CALLERS,
    MAP_NONCES,
];

/// Maps whose size the agent chooses when it loads the object, which declares [`LEAST_ENTRIES`] for each of them.
pub const SIZED: [&str; 9] = [
    MAP_HOSTS_V4,
    MAP_HOSTS_V6,
    MAP_PORTS,
    MAP_GATEWAY_STATS,
    MAP_FLOWS,
    MAP_PEERS,
    MAP_BANS,
    MAP_PUNT_RATE,
    MAP_PREFILTER,
];

/// The smallest size of a map whose size is chosen.
pub const LEAST_ENTRIES: u32 = 1_024;
/// And the largest. Also what a trie has room for: it takes memory only for the prefixes that it has.
pub const MAX_ENTRIES: u32 = 4_194_304;
/// Gateways, and so the highest gateway id plus one. Id 0 means "no gateway".
pub const MAX_GATEWAYS: u32 = 2_097_152;
/// Callers whose password the kernel program checks. Those that called least recently go to the agent.
pub const CALLERS: u32 = 8_192;
/// Size of the ring buffer of events, bytes.
pub const EVENTS_BYTES: u32 = 1 << 20;
