//! What to do about a verdict: one line for each reason, and no reason without one.

use sipauth_common::reason::Reason;

/// What an operator does who wants another verdict, or what comes next where this one is right.
#[must_use]
pub const fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::NotProtected => "if SIP arrives on this port, protect it: `port` in the configuration, or `sipauth run --port`",
        Reason::IpMatch => "nothing to do; where an address alone is too little, use mode ip-port or password",
        Reason::PortMatch => "nothing to do",
        Reason::Flow => "nothing to do; new calls are still authenticated one by one",
        Reason::Peer => "nothing to do; this gateway may answer and go on with calls, not begin them",
        Reason::DefaultAllow => "to refuse strangers, set `default-policy` to deny; add the gateways first (`sipauth gateway add`)",
        Reason::Fragment => "nothing to do; the first fragment decides",
        Reason::FailOpen => "start the agent (`sipauth run`): until then everybody at this address may call without a password",
        Reason::NotConfigured => "start the agent (`sipauth run`): nothing is enforced until it has written its settings",
        Reason::Truncated | Reason::BadIpHeader | Reason::BadUdpLength | Reason::BadTcpHeader => {
            "no SIP software sends this; look at the sender, or at what is between it and here"
        }
        Reason::BadExtension => "take this traffic out of its tunnel or VLAN tags before it arrives here",
        Reason::TinyFragment => "no SIP software sends this; a path that cuts packets so short is broken, or somebody tries to get past",
        Reason::PuntPort => "send to the softswitch's own port; the ports of the agent are for the kernel program alone",
        Reason::FragmentUnknown => "add the source as a gateway (`sipauth gateway add`), or have it send over TCP",
        Reason::Banned => "`sipauth ban remove ADDRESS` lifts it; `sipauth events` and `gateway show` say which credentials failed before",
        Reason::PortMismatch | Reason::ReplyMismatch => {
            "the gateway is probably behind NAT, which changes the port: use mode password, or map the port statically; \
             where the port is right, add it (`sipauth gateway set NAME --port …`)"
        }
        Reason::UnknownSource | Reason::ReplyUnknown => {
            "if this is a gateway of yours, add its address: `sipauth gateway add NAME --mode ip --address …`, or `gateway set` for a new address"
        }
        Reason::NoFlow => "the gateway must register or call with its password first; one that is only ever called is of mode peer",
        Reason::AgentDown => "start the agent (`sipauth run`); `fail-open` would admit such calls without a password meanwhile",
        Reason::SourceRate => "find out what the source sends (`sipauth events`); if it is legitimate, raise `source-rate` of its lane",
        Reason::LaneRate => "somebody floods this lane (`sipauth events`); if the traffic is legitimate, raise `lane-rates`",
        Reason::Challenge | Reason::Challenged => {
            "nothing to do if the gateway knows its password; `sipauth trace ADDRESS` shows what comes of it"
        }
        Reason::Authenticated => "nothing to do; the kernel program has checked the password in place of the agent",
        Reason::OwnAck => "nothing to do; nobody waits for it",
        Reason::FlowAck => "nothing to do; the agent passes on what belongs to the softswitch",
        Reason::PeerRequest => {
            "the agent passes on what is within a call, and OPTIONS; a gateway that is to call in needs mode ip, ip-port or password"
        }
    }
}
