//! What the authenticator does, as a peer sees it.

mod decisions;
mod password;
mod properties;
mod vectors;
