//! A map of which a changed copy shares with the one before all that it does not change.
//!
//! Entries lie in shards by their hash, and a change copies the one that it touches: a five-hundredth of a million entries at most, which takes less
//! than the commit of the change. It is filled, and looked into, several times faster than a tree of single entries, which at a million
//! is nearly all misses of the cache.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

use foldhash::fast::RandomState;

/// A power of two.
const SHARDS: usize = 2_048;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shards<K, V> {
    shards: Arc<[Arc<HashMap<K, V, RandomState>>]>,
    hasher: RandomState,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let hasher = RandomState::default();
        let empty = Arc::new(HashMap::with_hasher(hasher.clone()));
        Self {
            shards: vec![empty; SHARDS].into(),
            hasher,
            len: 0,
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[self.shard(key)].get(key)
    }

    /// Answers what was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = self.shard(&key);
        let before = self.change(shard).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Of a key that is not there, one is made.
    pub(crate) fn get_mut_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let shard = self.shard(&key);
        // Not `change`: it would borrow the length as well.
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard]);
        let len = &mut self.len;
        shard.entry(key).or_insert_with(|| {
            *len += 1;
            V::default()
        })
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard(key);
        // Without the look beforehand the shard would be copied for nothing.
        self.shards[shard].get(key)?;
        let gone = self.change(shard).remove(key);
        self.len -= usize::from(gone.is_some());
        gone
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// In no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    fn change(&mut self, shard: usize) -> &mut HashMap<K, V, RandomState> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard])
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // Bits that the map of a shard does not look at, so that its keys do not meet there.
        (self.hasher.hash_one(key) >> 32) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_changed_copy_leaves_the_other_as_it_was() {
        let mut first: Shards<String, u32> = Shards::default();
        for n in 0..10_000 {
            assert_eq!(first.insert(n.to_string(), n), None);
        }
        let mut second = first.clone();
        assert_eq!(second.insert("7".to_owned(), 8), Some(7));
        assert_eq!((second.remove("9"), second.remove("none")), (Some(9), None));
        *second.get_mut_or_default("11".to_owned()) += 1;
        *second.get_mut_or_default("new".to_owned()) += 1;
        let of = |shards: &Shards<String, u32>| ["7", "9", "11", "new"].map(|key| shards.get(key).copied());
        assert_eq!(of(&first), [Some(7), Some(9), Some(11), None]);
        assert_eq!(of(&second), [Some(8), None, Some(12), Some(1)]);
        assert_eq!((first.len(), second.len()), (10_000, 10_000));
        let all: BTreeMap<_, _> = first.iter().collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.into_iter().all(|(key, value)| *key == value.to_string()));
    }
}
