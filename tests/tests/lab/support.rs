//! One lab for all tests of this file, one test in it at a time.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sipauth_tests::lab::Lab;

/// The lab, for the caller alone until the guard is dropped.
pub(crate) fn lab() -> MutexGuard<'static, Lab> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    LAB.get_or_init(|| {
        sipauth_tests::cleanup::on_ctrl_c().expect("signal handlers");
        Mutex::new(Lab::new().expect("the lab"))
    })
    .lock()
    .unwrap_or_else(PoisonError::into_inner)
}
