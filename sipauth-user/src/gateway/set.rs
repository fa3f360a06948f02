//! A change of single fields of a gateway.

use serde::{Deserialize, Serialize};

use super::{Gateway, Mode, RawGateway, Secret};
use crate::config::RawDigest;

/// The fields that change; what is missing stays as it is. Lists are replaced as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SetGateway {
    /// See [`Gateway::mode`].
    pub mode: Option<Mode>,
    /// See [`Gateway::addresses`].
    pub addresses: Option<Vec<String>>,
    /// See [`Gateway::ports`].
    pub ports: Option<Vec<u16>>,
    /// See [`Gateway::username`]. The password is hashed together with it, and so has to be given again.
    pub username: Option<String>,
    /// See [`Gateway::realm`]. Likewise.
    pub realm: Option<String>,
    /// The password in plain text.
    pub password: Option<Secret>,
    /// See [`RawGateway::allow_weak_password`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_weak_password: bool,
    /// Settings of the digest, one by one.
    pub digest: RawDigest,
    /// See [`Gateway::priority`].
    pub priority: Option<i32>,
}

impl SetGateway {
    /// The gateway with these changes. What another mode has no use for goes with the mode that had.
    #[must_use]
    pub fn over(self, present: &Gateway) -> RawGateway {
        let mut raw = RawGateway::from(present);
        // Whether it still fits is for the validation to say.
        raw.credentials = None;
        if let Some(mode) = self.mode
            && mode != present.mode
        {
            raw.mode = mode;
            raw.ports = Vec::new();
            raw.username = None;
            raw.realm = None;
            raw.digest = RawDigest::default();
        }
        RawGateway {
            addresses: self.addresses.unwrap_or(raw.addresses),
            ports: self.ports.unwrap_or(raw.ports),
            username: self.username.or(raw.username),
            realm: self.realm.or(raw.realm),
            password: self.password,
            allow_weak_password: self.allow_weak_password,
            digest: self.digest.over(raw.digest),
            priority: self.priority.unwrap_or(raw.priority),
            ..raw
        }
    }
}
