//! Why a packet was passed, dropped or handed to the agent: counter slot, metric label, event reason, `explain`'s answer.

/// What happens to a packet.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verdict {
    /// To the softswitch.
    Pass = 0,
    /// Nowhere.
    Drop = 1,
    /// To the agent.
    Punt = 2,
    /// Nowhere, since it has arrived: it was for the agent, which need not see it. It may have been answered.
    Absorb = 3,
}

impl Verdict {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Drop, Self::Punt, Self::Absorb];

    /// Name in output and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Punt => "punt",
            Self::Absorb => "absorb",
        }
    }
}

/// Defines [`Reason`] from one list: variant, verdict, label, meaning. The slot is the position in the list.
macro_rules! reasons {
    ($($variant:ident $verdict:ident $label:literal $text:literal,)+) => {
        /// Why the kernel program did what it did. The number is the slot in `STATS`.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Reason { $(#[doc = $text] $variant,)+ }

        impl Reason {
            /// All, in the order of their slots.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The only place where a reason becomes a verdict.
            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }

            /// Name in output and metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// What it means, for an operator.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    NotProtected      Pass "not_protected"       "not for a protected port; sipauth has no say",
    IpMatch           Pass "ip_match"            "the source address belongs to a gateway in mode ip",
    PortMatch         Pass "port_match"          "source address and port belong to a gateway in mode ip-port",
    Flow              Pass "flow"                "the source address and port authenticated lately",
    Peer              Pass "peer"                "a response or in-dialog request from a gateway that the softswitch calls",
    DefaultAllow      Pass "default_allow"       "unknown source, and the default policy is allow",
    Fragment          Pass "fragment"            "a later fragment from a known source; the first fragment decides",
    FailOpen          Pass "fail_open"           "needs the agent, which is down, and fail-open is set",
    NotConfigured     Pass "not_configured"      "no agent has written a configuration yet",
    Truncated         Drop "truncated"           "the packet ends inside a header",
    BadIpHeader       Drop "bad_ip_header"       "an IP header with an impossible length or version",
    BadUdpLength      Drop "bad_udp_length"      "a UDP length below 8 or beyond the packet",
    BadTcpHeader      Drop "bad_tcp_header"      "a TCP header with an impossible length",
    BadExtension      Drop "bad_extension"       "too many VLAN tags, or too many or malformed IPv6 extension headers",
    TinyFragment      Drop "tiny_fragment"       "a first fragment that is too short for its transport header",
    PuntPort          Drop "punt_port"           "sent from outside to a port of the agent",
    FragmentUnknown   Drop "fragment_unknown"    "a later fragment from an unknown source",
    Banned            Drop "banned"              "the source is banned",
    PortMismatch      Drop "port_mismatch"       "the address belongs to a gateway in mode ip-port, the source port does not",
    UnknownSource     Drop "unknown_source"      "no gateway has this source address",
    NoFlow            Drop "no_flow"             "a response or keep-alive from a source that has not authenticated",
    AgentDown         Drop "agent_down"          "needs the agent, which is down",
    SourceRate        Drop "source_rate"         "more requests for the agent than one source may send",
    LaneRate          Drop "lane_rate"           "more requests for the agent than the budget of the lane",
    Challenge         Punt "challenge"           "a request that needs digest authentication",
    FlowAck           Punt "flow_ack"            "an ACK from an authenticated source that may be to an answer of the agent, which keeps those",
    PeerRequest       Punt "peer_request"        "a request from a routing gateway, which the agent must look into",
    ReplyMismatch     Punt "reply_port_mismatch" "the source port does not match; refused with an answer (403, or a TCP reset)",
    ReplyUnknown      Punt "reply_unknown_source" "unknown source; refused with an answer (403, or a TCP reset)",
    OwnAck          Absorb "own_ack"             "the ACK to a challenge or refusal of the agent, which ends with it",
    Challenged      Absorb "challenged"          "a request without credentials, answered by a challenge",
    Authenticated   Pass "authenticated"         "a call with the right credentials, from where the agent has let one through lately",
}

impl Reason {
    /// Position in `STATS`.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u32 {
        self as u32
    }

    /// The reason of a slot, or of a number in an event.
    #[must_use]
    pub fn from_slot(slot: u32) -> Option<Self> {
        Self::ALL.get(slot as usize).copied()
    }
}
