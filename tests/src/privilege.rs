//! What a test does on a machine where it cannot run: it says so, and where skipping is forbidden (CI) it fails.

/// Environment variable that turns a skip into a failure.
pub const REQUIRE: &str = "SIPAUTH_REQUIRE_PRIVILEGES";

/// Whether we may make network namespaces and load BPF programs.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// True when the test can run; else prints `SKIP`, or panics if [`REQUIRE`] is set: a skipped test must never count as passed in CI.
///
/// # Panics
/// When not root and `SIPAUTH_REQUIRE_PRIVILEGES=1`.
#[must_use]
pub fn root_or_skip(test: &str) -> bool {
    if is_root() {
        return true;
    }
    assert!(
        std::env::var_os(REQUIRE).is_none_or(|v| v != "1"),
        "{test}: needs root, and {REQUIRE}=1 forbids skipping"
    );
    eprintln!("SKIP {test}: needs root");
    false
}

/// Returns from the calling test, after saying `SKIP`, when it does not run as root.
#[macro_export]
macro_rules! require_root {
    ($($value:expr)?) => {
        if !$crate::privilege::root_or_skip(std::thread::current().name().unwrap_or("test")) {
            return $($value)?;
        }
    };
}
