//! Digest settings as operators write them: of the agent as a whole, and of one gateway.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::parse_duration;
use crate::auth::{Algorithm, DigestRules, Qop, UriMatch};

/// What was written; what is missing is as it is in general. The fields are those of [`DigestRules`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawDigest {
    /// Digest algorithm to offer (MD5, SHA-256, SHA-512-256, each also with -sess); may be repeated, strongest first [default: MD5]
    #[arg(long = "algorithm", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<Algorithm>>,
    /// Quality of protection to offer [default: auth]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qop: Option<Qop>,
    /// Accept answers without qop although it was offered, as old equipment sends them [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_without_qop: Option<bool>,
    /// Status of a challenge: 401, or 407 as a proxy sends it [default: 401]
    #[arg(long, value_name = "401|407")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenge: Option<u16>,
    /// How long a challenge may be answered [default: 300s]
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce_lifetime: Option<String>,
    /// Accept each nonce for one request only [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_time_nonces: Option<bool>,
    /// How the URI of the digest is compared with that of the request; loose ignores port and parameters [default: strict]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_match: Option<UriMatch>,
}

/// Why digest settings are not acceptable: names the key and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// An empty list.
    #[error("algorithms: the list is empty; name at least one, such as MD5, or leave it out")]
    NoAlgorithm,
    /// The same twice.
    #[error("algorithms: {0} is there twice; name each once")]
    Twice(Algorithm),
    /// Neither 401 nor 407.
    #[error("challenge: {0} is no status of a challenge; use 401 or 407")]
    Challenge(u16),
    /// Not a time, or out of range.
    #[error("nonce-lifetime: {0:?} is not a time between 1s and 1d; write it like 300s, 5m or 12h")]
    Lifetime(String),
}

impl RawDigest {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These settings, with those of `below` where there is none here.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            algorithms: self.algorithms.or(below.algorithms),
            qop: self.qop.or(below.qop),
            accept_without_qop: self.accept_without_qop.or(below.accept_without_qop),
            challenge: self.challenge.or(below.challenge),
            nonce_lifetime: self.nonce_lifetime.or(below.nonce_lifetime),
            one_time_nonces: self.one_time_nonces.or(below.one_time_nonces),
            uri_match: self.uri_match.or(below.uri_match),
        }
    }

    /// The rules in force, where `general` are those of the agent.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn rules(&self, general: &DigestRules) -> Result<DigestRules, DigestError> {
        let algorithms = self.algorithms.clone().unwrap_or_else(|| general.algorithms.clone());
        if algorithms.is_empty() {
            return Err(DigestError::NoAlgorithm);
        }
        if let Some(twice) = algorithms.iter().enumerate().find(|(at, one)| algorithms[..*at].contains(one)) {
            return Err(DigestError::Twice(*twice.1));
        }
        let proxy = match self.challenge {
            None => general.proxy,
            Some(401) => false,
            Some(407) => true,
            Some(other) => return Err(DigestError::Challenge(other)),
        };
        let lifetime = |text: &String| {
            parse_duration(text)
                .filter(|time| (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(time))
                .ok_or_else(|| DigestError::Lifetime(text.chars().take(32).collect()))
        };
        let nonce_lifetime = self.nonce_lifetime.as_ref().map(lifetime).transpose()?;
        Ok(DigestRules {
            algorithms,
            qop: self.qop.unwrap_or(general.qop),
            accept_without_qop: self.accept_without_qop.unwrap_or(general.accept_without_qop),
            proxy,
            nonce_lifetime: nonce_lifetime.unwrap_or(general.nonce_lifetime),
            one_time_nonces: self.one_time_nonces.unwrap_or(general.one_time_nonces),
            uri_match: self.uri_match.unwrap_or(general.uri_match),
        })
    }
}
