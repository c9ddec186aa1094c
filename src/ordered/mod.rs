//! A sorted map whose copies share what is the same in them.
//!
//! A checkpoint's content is kept for as long as the checkpoint, and mostly equals that of the checkpoint before. So the maps
//! in it are persistent: a copy costs nothing, a change copies the path to it, and two maps are compared by skipping what
//! they share.
//!
//! It is a B+ tree: entries are in the leaves, and inner nodes have the lowest key of each child, or a lower one. Nodes are
//! shared by reference count; one that nobody shares is changed in place. Keys that are inserted in ascending order fill
//! the leaves up.
//!
//! It is our own because no map with a permissive licence shares structure and compares by it.

mod ascending;
mod cursor;
mod node;
mod serde;

use std::{
    borrow::Borrow,
    fmt::{self, Debug},
    ops::Index,
    sync::Arc,
};

pub(crate) use ascending::Ascending;
pub use cursor::Iter;
use cursor::{Change, Entries};
use node::Node;

/// A sorted map that is cheap to clone: clones share everything, and after a change everything else.
///
/// It is what the maps in a [`Manifest`](crate::Manifest) are. A change takes the time of a look-up and of copying a few
/// dozen neighbours. Its serde form is that of any map; a key that comes twice is refused.
///
/// # Examples
///
/// ```
/// use piton::OrdMap;
///
/// let before: OrdMap<u32, &str> = [(1, "one"), (3, "three")].into();
/// let mut after = before.clone();
/// after.insert(2, "two");
/// assert_eq!(after.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
/// assert_eq!(before.len(), 2);
/// ```
pub struct OrdMap<K, V> {
    root: Option<Arc<Node<K, V>>>,
    len: usize,
}

impl<K, V> OrdMap<K, V> {
    /// A map without entries. It allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of this key.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.root.as_ref()?.get(key)
    }

    /// Whether there is an entry with this key.
    #[must_use]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key).is_some()
    }

    /// All entries, in ascending order of their keys.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(self)
    }

    /// The entries from this key on, in ascending order.
    pub fn range_from<Q>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)> + use<'_, K, V, Q>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut entries = Entries::new(self);
        entries.pass(key);
        entries
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in ascending order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entry with the highest key.
    pub(crate) fn last_key_value(&self) -> Option<(&K, &V)> {
        self.root.as_ref()?.last()
    }

    /// The last entry below this key.
    pub(crate) fn before<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.root.as_ref()?.before(key)
    }
}

impl<K: Ord + Clone, V: Clone> OrdMap<K, V> {
    /// Puts a value under a key; returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(root) = &mut self.root else {
            (self.root, self.len) = (Some(Arc::new(Node::Leaf(vec![(key, value)]))), 1);
            return None;
        };
        let (old, right) = root.insert(key, value);
        self.len += usize::from(old.is_none());
        if let Some(right) = right {
            let halves = [Arc::clone(root), right].into_iter().filter_map(|half| Some((half.low()?.clone(), half)));
            *root = Arc::new(Node::Inner(halves.collect()));
        }
        old
    }

    /// Takes out the value of a key.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let root = self.root.as_mut().filter(|root| root.get(key).is_some())?;
        let old = root.remove(key);
        self.len = self.len.saturating_sub(1);
        while let Node::Inner(children) = &**root
            && let [(_, only)] = &children[..]
        {
            *root = Arc::clone(only);
        }
        if self.len == 0 {
            self.root = None;
        }
        old
    }

    /// The value of a key, to be changed in place.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.root.as_mut()?.get_mut(key)
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> OrdMap<K, V> {
    /// The same entries, sharing with an older map what is the same in both.
    #[must_use]
    pub(crate) fn sharing(&self, older: &Self) -> Self {
        self.sharing_with(older, |new, _| new.clone())
    }

    /// Whether both are one and the same in memory. If not they may still be equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The same, where `both` makes values that differ share what is the same in them.
    #[must_use]
    pub(crate) fn sharing_with(&self, older: &Self, both: impl Fn(&V, &V) -> V) -> Self {
        let mut shared = older.clone();
        self.changes_since(older, |key, change| match change {
            Change::Added(new) => drop(shared.insert(key.clone(), new.clone())),
            Change::Changed(old, new) => drop(shared.insert(key.clone(), both(new, old))),
            Change::Removed(_) => drop(shared.remove(key)),
        });
        shared
    }
}

impl<K, V, Q> Index<&Q> for OrdMap<K, V>
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    type Output = V;

    /// The value of a key that must be there.
    #[expect(clippy::expect_used, reason = "as with every map of the standard library")]
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry with this key")
    }
}

impl<K, V> Clone for OrdMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Default for OrdMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for OrdMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let mut same = self.len == other.len;
        if same {
            self.changes_since(other, |_, _| same = false);
        }
        same
    }
}

impl<K: Ord, V: Eq> Eq for OrdMap<K, V> {}

impl<K: Debug, V: Debug> Debug for OrdMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord + Clone, V: Clone, T: Into<V>> Extend<(K, T)> for OrdMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, T)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value.into());
        }
    }
}

impl<K: Ord + Clone, V: Clone, T: Into<V>> FromIterator<(K, T)> for OrdMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, T)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: Clone, T: Into<V>, const N: usize> From<[(K, T); N]> for OrdMap<K, V> {
    fn from(entries: [(K, T); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<'a, K, V> IntoIterator for &'a OrdMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{node::MAX, *};

    type Map = OrdMap<u16, u8>;

    fn check(map: &Map, model: &BTreeMap<u16, u8>) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model), "{map:?} {model:?}");
        assert_eq!(map.last_key_value(), model.last_key_value());
        for key in (0..500).step_by(7) {
            assert_eq!(map.get(&key), model.get(&key));
            assert_eq!(map.before(&key), model.range(..key).next_back());
            assert!(map.range_from(&key).eq(model.range(key..)), "from {key}");
        }
    }

    fn differences(map: &Map, older: &Map) -> Vec<(u16, Option<u8>, Option<u8>)> {
        let mut told = Vec::new();
        map.changes_since(older, |key, change| {
            let (old, new) = change.values();
            told.push((*key, old.copied(), new.copied()));
        });
        told
    }

    fn model_differences(map: &BTreeMap<u16, u8>, older: &BTreeMap<u16, u8>) -> Vec<(u16, Option<u8>, Option<u8>)> {
        let keys: std::collections::BTreeSet<_> = map.keys().chain(older.keys()).copied().collect();
        let both = keys.into_iter().map(|key| (key, older.get(&key).copied(), map.get(&key).copied()));
        both.filter(|(_, old, new)| old != new).collect()
    }

    proptest! {
        #[test]
        fn map_and_its_copies_and_their_differences_are_those_of_a_plain_map(
            versions in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::collection::vec((0_u16..500, prop::option::weighted(0.6, any::<u8>())), 0..120)),
                1..8,
            ),
        ) {
            let mut kept = vec![(Map::new(), BTreeMap::new())];
            for (from, changes) in versions {
                let (mut map, mut model) = from.get(&kept).clone();
                for (key, value) in changes {
                    if let Some(value) = value {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    } else {
                        prop_assert_eq!(map.remove(&key), model.remove(&key));
                    }
                }
                kept.push((map, model));
            }
            for (map, model) in &kept {
                check(map, model);
                // A copy that is built in order equals the map, and stays equal under changes.
                let (mut made, mut model) = (Ascending::default(), model.clone());
                made.extend(map.iter().map(|(key, value)| (*key, *value)));
                let mut made = made.finish();
                check(&made, &model);
                for key in (0..500).step_by(3) {
                    prop_assert_eq!(made.remove(&key), model.remove(&key));
                    prop_assert_eq!(made.insert(key + 1, 7), model.insert(key + 1, 7));
                }
                check(&made, &model);
            }
            for (map, model) in &kept {
                for (other, other_model) in &kept {
                    prop_assert_eq!(differences(map, other), model_differences(model, other_model));
                    prop_assert_eq!(map == other, model == other_model);
                    prop_assert!(map.sharing(other) == *map);
                }
            }
        }
    }

    #[test]
    fn ascending_keys_fill_nodes_up_and_removal_of_most_leaves_few_nodes() {
        fn nodes(node: &Node<u32, u32>) -> usize {
            match node {
                Node::Leaf(_) => 1,
                Node::Inner(children) => 1 + children.iter().map(|(_, child)| nodes(child)).sum::<usize>(),
            }
        }
        fn full_nodes(below: usize) -> usize {
            if below == 1 { 0 } else { below.div_ceil(MAX) + full_nodes(below.div_ceil(MAX)) }
        }
        let mut map: OrdMap<u32, u32> = (0..32 * 1000).map(|n| (n, n)).collect();
        assert_eq!(nodes(map.root.as_ref().unwrap()), full_nodes(32 * 1000));
        for len in [1, 31, 32, 33, 1023, 1024, 1025, 32 * 1000] {
            let mut made = Ascending::default();
            made.extend((0..len).map(|n| (n, n)));
            let made = made.finish();
            assert!(made.iter().map(|(key, _)| *key).eq(0..len));
            let root = made.root.as_ref().unwrap();
            assert_eq!(nodes(root), full_nodes(len as usize).max(1), "{len}");
        }
        assert!(Ascending::<u32, u32>::default().finish().root.is_none());
        for key in (0..32 * 1000).filter(|n| n % 100 != 0) {
            map.remove(&key);
        }
        assert_eq!(map.len(), 320);
        assert!(nodes(map.root.as_ref().unwrap()) < 320 * 6 / MAX, "{}", nodes(map.root.as_ref().unwrap()));
        for key in (0..32 * 1000).step_by(100) {
            assert_eq!(map.remove(&key), Some(key));
        }
        assert!(map.root.is_none());
    }

    #[test]
    fn comparison_of_maps_that_share_looks_at_what_differs_alone() {
        #[derive(Clone, Copy, Debug)]
        struct Counted(u32);
        thread_local!(static LOOKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        impl PartialEq for Counted {
            fn eq(&self, other: &Self) -> bool {
                LOOKS.set(LOOKS.get() + 1);
                self.0 == other.0
            }
        }
        let older: OrdMap<u32, Counted> = (0..100_000).map(|n| (n * 2, Counted(n))).collect();
        let mut newer = older.clone();
        for n in 0..10 {
            newer.insert(n * 20_000, Counted(1));
            newer.insert(n * 20_000 + 1, Counted(1));
            newer.remove(&(n * 20_000 + 10_000));
        }
        let mut told = 0;
        newer.changes_since(&older, |_, _| told += 1);
        assert_eq!(told, 30);
        assert!(LOOKS.get() as usize <= 30 * 2 * MAX, "{}", LOOKS.get());
    }
}
