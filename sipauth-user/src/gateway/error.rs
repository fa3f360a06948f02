//! What is wrong with a gateway, or may surprise.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{MAX_ENTRIES, MAX_NAMES, Mode, Weakness};
use crate::config::DigestError;

/// Something that is allowed and may surprise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A prefix of length 0 in a mode that asks for nothing but the address.
    #[error("gateway {gateway}: {network} in mode {mode} lets in every address of its family; give the gateway's own addresses")]
    Everything {
        /// Its name.
        gateway: String,
        /// Its mode.
        mode: Mode,
        /// The prefix.
        network: IpNet,
    },
    /// A gateway asks for less than another one at the same source.
    #[error(
        "gateway {weaker} (mode {weaker_mode}) at {network} admits calls without what gateway {stronger} (mode {stronger_mode}) asks for; use the stronger mode for both or separate addresses"
    )]
    Weakened {
        /// The gateway that is weakened.
        stronger: String,
        /// Its mode.
        stronger_mode: Mode,
        /// The gateway that weakens it.
        weaker: String,
        /// Its mode.
        weaker_mode: Mode,
        /// Where both apply.
        network: IpNet,
    },
    /// A gateway that may call from anywhere is challenged like everybody.
    #[error(
        "gateway {gateway}: who may call from anywhere is challenged with the agent's own {what}, which this gateway does not accept; set the agent's {what}, or give the gateway's addresses"
    )]
    ChallengedOtherwise {
        /// Its name.
        gateway: String,
        /// Which setting.
        what: &'static str,
    },
    /// Of gateways at one source the one with the highest priority says how it is challenged.
    #[error(
        "gateway {gateway}: who calls from {network} is challenged with the {what} of gateway {leader}, which comes first there, and gateway {gateway} does not accept that; set the same {what} for both, or separate addresses"
    )]
    ChallengedForAnother {
        /// The gateway that cannot call.
        gateway: String,
        /// Where both apply.
        network: IpNet,
        /// The gateway whose challenge it is.
        leader: String,
        /// Which setting.
        what: &'static str,
    },
    /// A more specific entry decides alone, so the wider one no longer applies there.
    #[error("gateway {gateway} at {network} alone decides there now: {hidden} at {hidden_network} no longer applies to it")]
    Hidden {
        /// The gateway with the longer prefix.
        gateway: String,
        /// Its prefix.
        network: IpNet,
        /// The gateway with the shorter prefix.
        hidden: String,
        /// Its prefix.
        hidden_network: IpNet,
    },
}

impl Warning {
    /// The two gateways that it is about, the one that loses by it last; `None` where it is about one alone.
    #[must_use]
    pub fn between(&self) -> Option<(&str, &str)> {
        match self {
            Self::Weakened { weaker, stronger, .. } => Some((weaker, stronger)),
            Self::Hidden { gateway, hidden, .. } => Some((gateway, hidden)),
            Self::ChallengedForAnother { leader, gateway, .. } => Some((leader, gateway)),
            Self::Everything { .. } | Self::ChallengedOtherwise { .. } => None,
        }
    }
}

/// Why a gateway is not acceptable: names the thing and the remedy in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Not a name.
    #[error("{name:?} is not a gateway name; use 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
    Name {
        /// What was given.
        name: String,
    },
    /// Not a mode.
    #[error("{mode:?} is not a mode; use ip, ip-port, password or peer")]
    UnknownMode {
        /// What was given.
        mode: String,
    },
    /// Not an address.
    #[error(
        "gateway {gateway}: {text:?} is not an address; write it like 203.0.113.5, 203.0.113.0/24, 2001:db8::/48 or sip.carrier.example"
    )]
    Address {
        /// Its name.
        gateway: String,
        /// What was given.
        text: String,
    },
    /// Bits to the right of the prefix.
    #[error("gateway {gateway}: {text} has host bits set; write {network} for the whole network, or {host} for the one address")]
    HostBits {
        /// Its name.
        gateway: String,
        /// What was given.
        text: String,
        /// The network that contains it.
        network: IpNet,
        /// The address alone.
        host: IpAddr,
    },
    /// No gateway can send from there.
    #[error(
        "gateway {gateway}: nothing can send from {text} (multicast, broadcast or unspecified); give the address that its packets come from"
    )]
    NotASource {
        /// Its name.
        gateway: String,
        /// What was given.
        text: String,
    },
    /// A host name without an address.
    #[error("gateway {gateway}: no address for {name} ({detail}); check the name, and the servers in /etc/resolv.conf, or give addresses")]
    Unresolved {
        /// Its name.
        gateway: String,
        /// The host name.
        name: String,
        /// What became of the question.
        detail: String,
    },
    /// Too many host names.
    #[error("gateway {gateway}: more than {MAX_NAMES} host names; use addresses, or several gateways")]
    TooManyNames {
        /// Its name.
        gateway: String,
    },
    /// The mode needs an address.
    #[error("gateway {gateway}: mode {mode} needs an address; add --address")]
    NeedsAddress {
        /// Its name.
        gateway: String,
        /// Its mode.
        mode: Mode,
    },
    /// Mode `ip-port` needs a port.
    #[error("gateway {gateway}: mode ip-port needs the source port of its packets; add --port, or use mode ip")]
    NeedsPort {
        /// Its name.
        gateway: String,
    },
    /// Port 0.
    #[error("gateway {gateway}: 0 is not a port; give the source port of its packets, 1 to 65535")]
    PortZero {
        /// Its name.
        gateway: String,
    },
    /// A port where none belongs.
    #[error("gateway {gateway}: mode {mode} does not look at ports; leave --port out, or use mode ip-port")]
    PortUnused {
        /// Its name.
        gateway: String,
        /// Its mode.
        mode: Mode,
    },
    /// A username, realm or password where none belongs.
    #[error("gateway {gateway}: mode {mode} does not look at {what}; leave it out, or use mode password")]
    CredentialsUnused {
        /// Its name.
        gateway: String,
        /// Its mode.
        mode: Mode,
        /// What was given.
        what: &'static str,
    },
    /// Mode `password` needs a username.
    #[error("gateway {gateway}: mode password needs a username; add --username")]
    NeedsUsername {
        /// Its name.
        gateway: String,
    },
    /// Mode `password` needs a password.
    #[error(
        "gateway {gateway}: mode password needs a password that is not empty; give it with --password-stdin or --password-file, or let --generate-password make one"
    )]
    NeedsPassword {
        /// Its name.
        gateway: String,
    },
    /// A password and its stored form.
    #[error("gateway {gateway}: a password and credentials; give one of them")]
    TwoSecrets {
        /// Its name.
        gateway: String,
    },
    /// Not a stored form.
    #[error("gateway {gateway}: its credentials are not of the form that `sipauth export` prints; give the password instead")]
    Credentials {
        /// Its name.
        gateway: String,
    },
    /// Not a username.
    #[error(
        "gateway {gateway}: the username must be 1 to 256 printable ASCII characters without spaces, quotes, colons and backslashes; choose another"
    )]
    Username {
        /// Its name.
        gateway: String,
    },
    /// Not a realm.
    #[error("gateway {gateway}: the realm must be 1 to 256 printable ASCII characters without quotes and backslashes; choose another")]
    Realm {
        /// Its name.
        gateway: String,
    },
    /// A password with a control character: almost always a slip of copying.
    #[error("gateway {gateway}: the password has a control character or more than 1024 bytes; give it as one line of text")]
    Password {
        /// Its name.
        gateway: String,
    },
    /// A password that is guessed soon.
    #[error(
        "gateway {gateway}: the password is weak: {weakness}; let --generate-password make one, or take this one with --allow-weak-password (in a file allow-weak-password = true)"
    )]
    WeakPassword {
        /// Its name.
        gateway: String,
        /// Which rule it breaks.
        weakness: Weakness,
    },
    /// A setting of its digest.
    #[error("gateway {gateway}: {source}")]
    Digest {
        /// Its name.
        gateway: String,
        /// What is wrong.
        source: DigestError,
    },
    /// Too many.
    #[error("gateway {gateway}: more than {MAX_ENTRIES} {what}; use a prefix, or several gateways")]
    TooMany {
        /// Its name.
        gateway: String,
        /// Addresses or ports.
        what: &'static str,
    },
    /// The name is taken.
    #[error("gateway {gateway} exists already; remove it first, or choose another name")]
    Exists {
        /// Its name.
        gateway: String,
    },
    /// The username is taken.
    #[error("gateway {gateway}: username {username:?} belongs to gateway {other}; choose another")]
    UsernameTaken {
        /// Its name.
        gateway: String,
        /// The username.
        username: String,
        /// Whose it is.
        other: String,
    },
    /// No such gateway.
    #[error("there is no gateway {gateway}; `sipauth gateway list` shows all")]
    Unknown {
        /// The name that was asked for.
        gateway: String,
    },
}
