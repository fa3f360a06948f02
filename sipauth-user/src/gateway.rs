//! A gateway: the raw form, as operators write it, and the validated type that everything else works with.
//!
//! [`RawGateway::validate`] is the only way from one to the other; the command line, the control socket and the store all take it.

mod address;
mod error;
mod names;
mod set;
mod strength;

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sipauth_common::policy::modes;
use zeroize::Zeroize;

use crate::{
    auth::{DigestRules, Ha1},
    config::RawDigest,
};

pub use self::{
    address::address_text,
    error::{GatewayError, Warning},
    names::{HostName, MAX_NAMES, MAX_RESOLVED, Names, acceptable, host_name},
    set::SetGateway,
    strength::{SHORTEST, Weakness, generate},
};

/// Longest name.
pub const MAX_NAME: usize = 64;
/// Longest username.
pub const MAX_USERNAME: usize = 256;
/// Most addresses, and most ports, of one gateway.
pub const MAX_ENTRIES: usize = 4096;

/// Text that must not reach a log: a password on its way in, or an HA1. Redacted in `Debug`, wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Callers hash it or store it; nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What is verified of a gateway's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The source address.
    Ip,
    /// The source address and the source port.
    IpPort,
    /// A password, by SIP digest.
    Password,
    /// The source address, for a gateway that the softswitch calls and that never calls in.
    Peer,
}

impl Mode {
    /// All, in the order in which they are documented.
    pub const ALL: [Self; 4] = [Self::Ip, Self::IpPort, Self::Password, Self::Peer];

    /// Name on the command line, in the store and in output.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::IpPort => "ip-port",
            Self::Password => "password",
            Self::Peer => "peer",
        }
    }

    /// The bit in [`sipauth_common::policy::Policy::modes`].
    #[must_use]
    pub const fn bit(self) -> u8 {
        match self {
            Self::Ip => modes::IP,
            Self::IpPort => modes::IP_PORT,
            Self::Password => modes::PASSWORD,
            Self::Peer => modes::PEER,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Mode {
    type Err = GatewayError;

    fn from_str(text: &str) -> Result<Self, GatewayError> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.label() == text)
            .ok_or_else(|| GatewayError::UnknownMode { mode: text.to_owned() })
    }
}

/// A gateway as it was written: nothing checked but the types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGateway {
    /// See [`Gateway::name`].
    pub name: String,
    /// See [`Gateway::mode`].
    pub mode: Mode,
    /// Addresses, prefixes and host names.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// See [`Gateway::ports`].
    #[serde(default)]
    pub ports: Vec<u16>,
    /// See [`Gateway::username`].
    #[serde(default)]
    pub username: Option<String>,
    /// See [`Gateway::realm`].
    #[serde(default)]
    pub realm: Option<String>,
    /// The password in plain text. Only ever turned into credentials.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Takes the password although it is easily guessed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_weak_password: bool,
    /// Instead of a password: see [`Gateway::credentials`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Secret>,
    /// See [`Gateway::digest`].
    #[serde(default, skip_serializing_if = "RawDigest::is_empty")]
    pub digest: RawDigest,
    /// See [`Gateway::priority`].
    #[serde(default)]
    pub priority: i32,
}

/// A validated gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Unique name.
    pub name: String,
    /// What is verified.
    pub mode: Mode,
    /// Those in force: given as such, and those that host names stand for now. Canonical: host bits zero, IPv4-mapped IPv6 as IPv4, sorted,
    /// without repetitions. A single address is a /32 or /128.
    pub addresses: Vec<IpNet>,
    /// Host names among the addresses as they were given.
    pub names: Names,
    /// Source ports that pass in mode `ip-port`; sorted, without repetitions.
    pub ports: Vec<u16>,
    /// Digest username in mode `password`, unique over all gateways.
    pub username: Option<String>,
    /// Digest realm that the credentials were made for.
    pub realm: Option<String>,
    /// The HA1 in its textual form, opaque here.
    pub credentials: Option<Secret>,
    /// How it is challenged and what is accepted, where that is not as the agent does in general.
    pub digest: RawDigest,
    /// Higher wins where gateways share an address.
    pub priority: i32,
}

impl From<&Gateway> for RawGateway {
    /// The form that gives this gateway again, with its credentials.
    fn from(gateway: &Gateway) -> Self {
        Self {
            name: gateway.name.clone(),
            mode: gateway.mode,
            addresses: gateway.addresses_text().collect(),
            ports: gateway.ports.clone(),
            username: gateway.username.clone(),
            realm: gateway.realm.clone(),
            password: None,
            allow_weak_password: false,
            credentials: gateway.credentials.clone(),
            digest: gateway.digest.clone(),
            priority: gateway.priority,
        }
    }
}

impl Gateway {
    /// Whether an address is one of the gateway's; a password gateway without addresses has them all.
    #[must_use]
    pub fn has_source(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.is_anywhere() || self.addresses.iter().any(|net| net.contains(&source))
    }

    /// Whether the gateway may call from anywhere.
    #[must_use]
    pub const fn is_anywhere(&self) -> bool {
        matches!(self.mode, Mode::Password) && self.addresses.is_empty() && self.names.is_empty()
    }

    /// Addresses as operators write them: a single one without its prefix length, and host names as such.
    pub fn addresses_text(&self) -> impl Iterator<Item = String> + '_ {
        let names = self.names.hosts().iter().map(|host| host.name.clone());
        self.literal_addresses().iter().map(address_text).chain(names)
    }

    /// What an operator should hear of this gateway alone; `weakened` in [`crate::compile`] looks at it among others.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let everything = self.addresses.iter().find(|net| net.prefix_len() == 0);
        match everything {
            Some(net) if self.mode != Mode::Password => vec![Warning::Everything {
                gateway: self.name.clone(),
                mode: self.mode,
                network: *net,
            }],
            _ => Vec::new(),
        }
    }
}

impl RawGateway {
    /// Checks everything that can be checked without the other gateways. `default_realm` stands in where no realm is given;
    /// `present` is the gateway that this one takes the place of, whose credentials stay where username and realm do and no password
    /// is given; `derive` makes the stored form of (username, realm, password). Host names stand for nothing until [`Gateway::resolve`].
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(
        self,
        default_realm: &str,
        present: Option<&Gateway>,
        derive: impl FnOnce(&str, &str, &Secret) -> Secret,
    ) -> Result<Gateway, GatewayError> {
        let gateway = check_name(&self.name)?;
        let (addresses, names) = address::parse_all(&gateway, &self.addresses)?;
        let mut ports = self.ports;
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > MAX_ENTRIES {
            return Err(GatewayError::TooMany { gateway, what: "ports" });
        }
        let mode = self.mode;
        if mode != Mode::Password {
            let unused = [
                (self.username.is_some(), "a username"),
                (self.realm.is_some(), "a realm"),
                (self.password.is_some() || self.credentials.is_some(), "a password"),
                (!self.digest.is_empty(), "digest settings"),
            ];
            if let Some((_, what)) = unused.into_iter().find(|(given, _)| *given) {
                return Err(GatewayError::CredentialsUnused { gateway, mode, what });
            }
            if addresses.is_empty() && names.is_empty() {
                return Err(GatewayError::NeedsAddress { gateway, mode });
            }
        }
        match mode {
            Mode::IpPort if ports.is_empty() => return Err(GatewayError::NeedsPort { gateway }),
            Mode::IpPort if ports.contains(&0) => return Err(GatewayError::PortZero { gateway }),
            Mode::Ip | Mode::Password | Mode::Peer if !ports.is_empty() => return Err(GatewayError::PortUnused { gateway, mode }),
            _ => {}
        }
        let mut made = Gateway {
            name: gateway,
            mode,
            addresses,
            names,
            ports,
            username: None,
            realm: None,
            credentials: None,
            digest: RawDigest::default(),
            priority: self.priority,
        };
        if mode == Mode::Password {
            let gateway = made.name.clone();
            let Some(username) = self.username else {
                return Err(GatewayError::NeedsUsername { gateway });
            };
            let realm = self.realm.unwrap_or_else(|| default_realm.to_owned());
            check_account(&gateway, &username, &realm)?;
            let kept = present.filter(|old| old.username.as_ref() == Some(&username) && old.realm.as_ref() == Some(&realm));
            let secret = match (self.password, self.credentials, kept) {
                (Some(_), Some(_), _) => return Err(GatewayError::TwoSecrets { gateway }),
                (Some(password), None, _) => {
                    let text = password.expose();
                    if text.is_empty() {
                        return Err(GatewayError::NeedsPassword { gateway });
                    }
                    if text.len() > 1024 || text.chars().any(char::is_control) {
                        return Err(GatewayError::Password { gateway });
                    }
                    if let Some(weakness) = Weakness::of(&username, &password).filter(|_| !self.allow_weak_password) {
                        return Err(GatewayError::WeakPassword { gateway, weakness });
                    }
                    derive(&username, &realm, &password)
                }
                (None, Some(credentials), _) if Ha1::from_text(credentials.expose()).is_err() => {
                    return Err(GatewayError::Credentials { gateway });
                }
                (None, Some(credentials), _) => credentials,
                (
                    None,
                    None,
                    Some(Gateway {
                        credentials: Some(credentials),
                        ..
                    }),
                ) => credentials.clone(),
                (None, None, _) => return Err(GatewayError::NeedsPassword { gateway }),
            };
            self.digest.rules(&DigestRules::default()).map_err(|source| GatewayError::Digest {
                gateway: gateway.clone(),
                source,
            })?;
            made.digest = self.digest;
            made.credentials = Some(secret);
            made.username = Some(username);
            made.realm = Some(realm);
        }
        Ok(made)
    }
}

fn check_name(name: &str) -> Result<String, GatewayError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(GatewayError::Name {
            name: name.chars().take(MAX_NAME).collect(),
        });
    }
    Ok(name.to_owned())
}

fn check_account(gateway: &str, username: &str, realm: &str) -> Result<(), GatewayError> {
    // Quotes and backslashes would need escaping in the header, on which implementations disagree; a colon would make
    // `user:realm:password` ambiguous (RFC 7616, 3.4.2).
    let quotable = |byte: u8| (0x20..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
    let in_range = |text: &str| (1..=MAX_USERNAME).contains(&text.len());
    if !in_range(username) || !username.bytes().all(|byte| quotable(byte) && !matches!(byte, b':' | b' ')) {
        return Err(GatewayError::Username {
            gateway: gateway.to_owned(),
        });
    }
    if !in_range(realm) || !realm.bytes().all(quotable) {
        return Err(GatewayError::Realm {
            gateway: gateway.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
