//! What the authenticator does, as a peer sees it.

mod allocation;
mod decisions;
mod diagnosis;
mod failures;
mod kernel;
mod nonces;
mod password;
mod properties;
mod rules;
mod torture;
mod vectors;
