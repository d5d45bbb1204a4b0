//! Things found by their name by anybody, without a lock, and changed by one at a time.
//!
//! They lie in shards, and a change copies the shards that it touches: one name among a hundred thousand costs some
//! hundreds of pointers, and a thousand names at once little more than one copy of all.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

const SHARDS: usize = 256;

/// What has a name.
pub(super) trait Named {
    /// Its name, which never changes.
    fn name(&self) -> &str;
}

/// Equal to whatever has the same name.
struct ByName<T>(Arc<T>);

impl<T> Clone for ByName<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Named> Borrow<str> for ByName<T> {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl<T: Named> Hash for ByName<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl<T: Named> PartialEq for ByName<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: Named> Eq for ByName<T> {}

/// A name, and what shall be found by it; `None`: nothing.
type Change<'a, T> = (&'a str, Option<Arc<T>>);
type Shard<T> = HashSet<ByName<T>, RandomState>;

/// Everything of a kind, by name.
pub(super) struct Names<T> {
    shards: Vec<ArcSwap<Shard<T>>>,
    hasher: RandomState,
    len: AtomicUsize,
}

impl<T> std::fmt::Debug for Names<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T: Named> Names<T> {
    pub(super) fn new(all: impl IntoIterator<Item = T>) -> Self {
        let hasher = RandomState::default();
        let mut shards: Vec<Shard<T>> = (0..SHARDS).map(|_| Shard::with_hasher(hasher.clone())).collect();
        let mut len = 0;
        for thing in all {
            let shard = &mut shards[shard_of(&hasher, thing.name())];
            len += usize::from(shard.insert(ByName(Arc::new(thing))));
        }
        let shards = shards.into_iter().map(ArcSwap::from_pointee).collect();
        Self { shards, hasher, len: AtomicUsize::new(len) }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<T>> {
        let shard = self.shards[shard_of(&self.hasher, name)].load();
        shard.get(name).map(|found| Arc::clone(&found.0))
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Everything, in no order. What is changed meanwhile may be there as it was or as it is.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.load().iter().map(|thing| Arc::clone(&thing.0)));
        }
        all
    }

    /// Puts in what is `Some`, and takes out the rest. By one caller at a time.
    pub(super) fn change<'a>(&self, changes: impl IntoIterator<Item = Change<'a, T>>) {
        let mut by_shard: HashMap<usize, Vec<Change<'_, T>>> = HashMap::new();
        for (name, thing) in changes {
            by_shard.entry(shard_of(&self.hasher, name)).or_default().push((name, thing));
        }
        for (index, changes) in by_shard {
            let mut shard = Shard::clone(&self.shards[index].load());
            let before = shard.len();
            for (name, thing) in changes {
                match thing {
                    Some(thing) => drop(shard.replace(ByName(thing))),
                    None => drop(shard.remove(name)),
                }
            }
            self.len.fetch_add(shard.len().wrapping_sub(before), Ordering::Relaxed);
            self.shards[index].store(Arc::new(shard));
        }
    }
}

fn shard_of(hasher: &RandomState, name: &str) -> usize {
    // Bits that the set itself does not look at first.
    (hasher.hash_one(name) >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for (String, u32) {
        fn name(&self) -> &str {
            &self.0
        }
    }

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out() {
        let thing = |n: u32, value: u32| (format!("thing-{n}"), value);
        let names = Names::new((0..1000).map(|n| thing(n, 0)));
        assert_eq!((names.len(), names.get("thing-7").map(|thing| thing.1)), (1000, Some(0)));
        let changed: Vec<_> = (0..2000).map(|n| thing(n, 1)).collect();
        names.change(changed.iter().map(|thing| {
            let stays = !thing.0.ends_with('3');
            (thing.0.as_str(), stays.then(|| Arc::new(thing.clone())))
        }));
        assert_eq!(names.len(), 1800);
        assert_eq!(names.get("thing-1993"), None);
        assert_eq!(names.all().len(), 1800);
        assert!(names.all().iter().all(|thing| thing.1 == 1 && names.get(&thing.0).as_ref() == Some(thing)));
    }
}
