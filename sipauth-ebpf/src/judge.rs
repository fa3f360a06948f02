//! The decision and the budgets of the long way, as functions that the verifier checks by themselves: what they need of the stack is free
//! again when a challenge is made, and all functions under way together have 512 bytes.

use sipauth_common::{
    decide::{Decision, decide},
    reason::Reason,
};

use crate::{
    maps::{Maps, SCRATCH},
    rate,
};

/// What is decided about the packet in the map.
#[inline(always)]
pub(crate) fn decided() -> Decision {
    if sipauth_decide() == 0 {
        return Decision::new(Reason::NotConfigured, 0);
    }
    match SCRATCH.get(0) {
        Some(parsed) => parsed.decision,
        None => Decision::new(Reason::NotConfigured, 0),
    }
}

/// Decides about the packet in the map, and leaves the decision there; 0 where there is no map.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_decide() -> u32 {
    let Some(parsed) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own element, which no one else uses while this packet is on its way; `parse` wrote it.
    unsafe {
        let decision = decide(&(*parsed).view, &Maps::new());
        // Field by field: between them the compiler would write what it has not set, which the verifier refuses.
        (&raw mut (*parsed).decision.reason).write(decision.reason);
        (&raw mut (*parsed).decision.gateway).write(decision.gateway);
        (&raw mut (*parsed).decision.lane).write(decision.lane);
        (&raw mut (*parsed).decision.general).write(decision.general);
    }
    1
}

/// The reason to drop what is decided to be punted, if a budget is used up. Takes what it costs.
#[inline(always)]
pub(crate) fn unaffordable() -> Option<Reason> {
    match sipauth_budget() {
        SOURCE => Some(Reason::SourceRate),
        LANE => Some(Reason::LaneRate),
        _ => None,
    }
}

/// Answers of [`sipauth_budget`], which can return a number only.
const GRANTED: u32 = 0;
const SOURCE: u32 = 1;
const LANE: u32 = 2;

/// Takes the packet in the map from the budgets of its source and its lane.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sipauth_budget() -> u32 {
    let Some(parsed) = SCRATCH.get(0) else { return GRANTED };
    match rate::refuse(&parsed.view.source, parsed.decision.lane, &Maps::new()) {
        None => GRANTED,
        Some(Reason::SourceRate) => SOURCE,
        Some(_) => LANE,
    }
}
