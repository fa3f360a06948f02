//! Addresses whose ban the operator lifted: each worker forgets their failures, which only it can.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Past this many a worker that was idle forgets all failures.
const KEPT: usize = 1_024;

/// The last pardons, numbered.
#[derive(Default)]
pub(super) struct Pardons {
    /// Number of the next; a worker looks at nothing else as long as it stays.
    next: AtomicU64,
    last: Mutex<VecDeque<(u64, IpAddr)>>,
}

impl Pardons {
    pub(super) fn grant(&self, address: IpAddr) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.pop_front();
        }
        let number = self.next.load(Ordering::Acquire);
        last.push_back((number, address));
        self.next.store(number + 1, Ordering::Release);
    }

    /// Tells `pardon` what is new since `seen`; `None` where too much is.
    pub(super) fn news(&self, seen: &mut u64, mut pardon: impl FnMut(Option<IpAddr>)) {
        if self.next.load(Ordering::Acquire) == *seen {
            return;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.front().is_some_and(|(first, _)| *first > *seen) {
            pardon(None);
        } else {
            last.iter()
                .filter(|(number, _)| *number >= *seen)
                .for_each(|(_, address)| pardon(Some(*address)));
        }
        *seen = self.next.load(Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_hears_of_a_pardon_once_and_of_too_many_as_of_all() {
        let (pardons, address) = (Pardons::default(), IpAddr::from([203, 0, 113, 5]));
        let (mut seen, mut heard) = (0, Vec::new());
        pardons.news(&mut seen, |one| heard.push(one));
        assert!(heard.is_empty());
        pardons.grant(address);
        for _ in 0..2 {
            pardons.news(&mut seen, |one| heard.push(one));
        }
        assert_eq!(heard, [Some(address)]);
        for _ in 0..=KEPT {
            pardons.grant(address);
        }
        heard.clear();
        pardons.news(&mut seen, |one| heard.push(one));
        assert_eq!(heard, [None]);
    }
}
