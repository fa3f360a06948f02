//! How the agent dealt with a datagram: one list makes enum, labels and meanings.

/// Defines [`Outcome`] from one list: variant, label, meaning.
macro_rules! outcomes {
    ($($variant:ident $label:literal $text:literal,)+) => {
        /// How the agent dealt with a datagram: counter, metric label and reason at once.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Outcome { $(#[doc = $text] $variant,)+ }

        impl Outcome {
            /// All, in the order of their slots.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

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

outcomes! {
    Authenticated     "authenticated"      "the credentials are right",
    Retransmission    "retransmission"     "the same datagram as one that was authenticated a moment ago",
    InDialog          "in_dialog"          "a request within a dialog, or a response, from a live flow or a routing gateway",
    PeerOptions       "peer_options"       "an OPTIONS request from a routing gateway",
    Challenged        "challenged"         "a request without credentials; a challenge was sent",
    StaleNonce        "stale_nonce"        "a genuine nonce that has expired, or is from before a restart or from another worker; challenged again",
    BadNonce          "bad_nonce"          "a nonce that was not issued to this source address; challenged again",
    Replayed          "replayed"           "right credentials that were used before in another request; challenged again",
    RealmMismatch     "realm_mismatch"     "credentials for another realm; challenged again",
    AlgorithmMismatch "algorithm_mismatch" "credentials with an algorithm that was not offered; challenged again",
    QopMismatch       "qop_mismatch"       "credentials with a quality of protection that is not accepted; challenged again",
    BadCredentials    "bad_credentials"    "credentials with a missing, repeated or malformed field; challenged again",
    UriMismatch       "uri_mismatch"       "the digest is for another URI than the request; challenged again",
    UnknownUser       "unknown_user"       "no password gateway has this username; challenged again",
    WrongPassword     "wrong_password"     "the password is wrong; challenged again",
    WrongAddress      "wrong_address"      "the password is right, but the gateway may not call from this address; challenged again",
    LockedOut         "locked_out"         "too many failures of this source, or of this username from there; answered 403 for a while",
    AckAbsorbed       "ack_absorbed"       "the ACK to a response of our own",
    AckNoFlow         "ack_no_flow"        "an ACK from a source that has not authenticated",
    CancelNoFlow      "cancel_no_flow"     "a CANCEL from a source that has not authenticated; answered 481",
    PeerInitial       "peer_initial"       "a routing gateway tried to call in; answered 403",
    Denied            "denied"             "a source that the kernel program refuses; answered 403 if INVITE or REGISTER",
    UnknownSource     "unknown_source"     "no gateway has this source address any more",
    KeepAlive         "keep_alive"         "a keep-alive without a flow",
    Response          "response"           "a response without a flow",
    BadRequest        "bad_request"        "a malformed request that could be answered; answered 400 unless it is an ACK or refused",
    Unparseable       "unparseable"        "not a SIP message that can be answered",
}

impl Outcome {
    /// Whether credentials were wrong that are counted against who sent them, or would be.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::UnknownUser
                | Self::RealmMismatch
                | Self::WrongPassword
                | Self::WrongAddress
                | Self::AlgorithmMismatch
                | Self::QopMismatch
                | Self::UriMismatch
                | Self::LockedOut
        )
    }

    /// Whether a datagram with this outcome reaches the softswitch. Everything else does not.
    #[must_use]
    pub const fn releases(self) -> bool {
        matches!(
            self,
            Self::Authenticated | Self::Retransmission | Self::InDialog | Self::PeerOptions
        )
    }
}
