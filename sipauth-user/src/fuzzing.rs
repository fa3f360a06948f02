//! The bodies of the fuzz targets (tests/fuzz), each a plain function that panics where something does not hold. The unit tests replay the
//! committed corpus (tests/corpus) through them. Each returns in a word what the input was, so that a corpus can be seen to be varied.
//!
//! Only in tests and fuzz targets.

mod credentials;
mod header;
mod message;
mod oracle;
mod stream;

pub use credentials::credentials;
pub use header::header;
pub use message::message;
pub use stream::stream;

/// A fuzz target.
pub type Target = fn(&[u8]) -> &'static str;

/// All of them by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("message", message),
    ("header", header),
    ("credentials", credentials),
    ("stream", stream),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
