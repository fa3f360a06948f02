//! The nonces of this program: their numbers, and which were used (`sipauth_common::proof`).

use core::arch::asm;

use sipauth_common::proof::{Slot, State, counter, last, place, state};

use crate::maps::NONCES;

/// The next number, of those for strangers or of the others.
#[inline(always)]
pub(crate) fn next(strangers: bool) -> Option<u32> {
    let made = NONCES.get_ptr_mut(counter(last(0, strangers)))?;
    let mut before = 1_u64;
    // SAFETY: an aligned word of the map. The target has no `AtomicU64::fetch_add`; kernels have the instruction from 5.12 on.
    unsafe {
        let to = &raw mut (*made).claim;
        asm!("{count} = atomic_fetch_add((u64 *)({to} + 0), {count})", count = inout(reg) before, to = in(reg) to, options(nostack));
    }
    Some(last(before.wrapping_add(1), strangers))
}

/// Uses up the nonce of a number at a time (`CLOCK_MONOTONIC`, ns), for the datagram with this fingerprint. False where it was used, or that may
/// be forgotten.
#[inline(always)]
pub(crate) fn take(number: u32, now: u64, fingerprint: u64) -> bool {
    let (Some(first), Some(slot)) = (NONCES.get_ptr_mut(counter(number)), NONCES.get_ptr_mut(place(number))) else {
        return false;
    };
    // SAFETY: aligned words of the map, which others change by atomic exchanges only.
    unsafe {
        let made = (&raw const (*first).claim).read_volatile();
        let claim = (&raw const (*slot).claim).read_volatile();
        match state(number, made, claim, now) {
            State::Free(mine) if exchange(slot, claim, mine) => {
                (&raw mut (*slot).fingerprint).write_volatile(fingerprint);
                true
            }
            _ => false,
        }
    }
}

/// Puts another claim in the place of this one, if it is still there.
///
/// # Safety
/// `slot` is an element of the map.
#[inline(always)]
unsafe fn exchange(slot: *mut Slot, present: u64, new: u64) -> bool {
    let found: u64;
    // SAFETY: the caller's promise. As in [`next`].
    unsafe {
        let to = &raw mut (*slot).claim;
        asm!("r0 = cmpxchg_64({to} + 0, r0, {new})", to = in(reg) to, new = in(reg) new, inout("r0") present => found, options(nostack));
    }
    found == present
}
