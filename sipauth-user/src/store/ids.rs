//! Which ids are free. The agent is the only writer, so they are read once, and a change of one gateway among a million does not look at all.

use std::collections::{BTreeSet, HashSet};

/// Ids that no gateway has.
#[derive(Debug)]
pub(super) struct FreeIds {
    /// Below `next`.
    gaps: BTreeSet<u32>,
    /// From here on all are free.
    next: u32,
}

impl FreeIds {
    /// Where these are taken.
    pub(super) fn new(taken: impl IntoIterator<Item = u32>) -> Self {
        let mut taken: Vec<u32> = taken.into_iter().collect();
        taken.sort_unstable();
        let mut free = Self {
            gaps: BTreeSet::new(),
            next: 1,
        };
        for id in taken {
            free.gaps.extend(free.next..id);
            free.next = id + 1;
        }
        free
    }

    /// The lowest, up to `most`, without those that are excepted.
    pub(super) fn lowest(&self, most: u32, except: &HashSet<u32>, also: &BTreeSet<u32>) -> impl Iterator<Item = u32> {
        // What a change has given back lies below `next`, as the gaps do.
        let below: BTreeSet<u32> = self.gaps.union(also).copied().collect();
        let all = below.into_iter().chain(self.next..=most);
        all.filter(move |id| !except.contains(id))
    }

    /// After a change was made.
    pub(super) fn settle(&mut self, given: &[u32], freed: &BTreeSet<u32>) {
        self.gaps.extend(freed);
        for id in given {
            if *id >= self.next {
                self.gaps.extend(self.next..*id);
                self.next = id + 1;
            } else {
                self.gaps.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(free: &FreeIds, count: usize, except: &[u32], also: &[u32]) -> Vec<u32> {
        let (except, also) = (except.iter().copied().collect(), also.iter().copied().collect());
        free.lowest(10, &except, &also).take(count).collect()
    }

    #[test]
    fn the_lowest_comes_first_and_what_is_excepted_does_not() {
        let free = FreeIds::new([5, 1, 2]);
        assert_eq!(first(&free, 9, &[], &[]), [3, 4, 6, 7, 8, 9, 10]);
        assert_eq!(first(&free, 3, &[3, 6], &[2]), [2, 4, 7]);
    }

    #[test]
    fn what_is_given_is_taken_and_what_is_freed_is_free() {
        let mut free = FreeIds::new([]);
        free.settle(&[1, 2, 5], &BTreeSet::new());
        assert_eq!(first(&free, 3, &[], &[]), [3, 4, 6]);
        free.settle(&[3], &BTreeSet::from([1]));
        assert_eq!(first(&free, 3, &[], &[]), [1, 4, 6]);
        // Freed and given again in one change.
        free.settle(&[2], &BTreeSet::from([2]));
        assert_eq!(first(&free, 3, &[], &[]), [1, 4, 6]);
    }
}
