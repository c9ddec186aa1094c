//! Going over one map, and over two to compare them.

use std::{
    borrow::Borrow,
    fmt::{self, Debug},
    slice,
    sync::Arc,
};

use super::{
    OrdMap,
    node::{Node, child_of},
};

/// How an entry of one map differs from that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a, V> {
    Added(&'a V),
    Removed(&'a V),
    Changed(&'a V, &'a V),
}

impl<'a, V> Change<'a, V> {
    /// The value before and the value after.
    pub(crate) fn values(self) -> (Option<&'a V>, Option<&'a V>) {
        match self {
            Self::Added(new) => (None, Some(new)),
            Self::Removed(old) => (Some(old), None),
            Self::Changed(old, new) => (Some(old), Some(new)),
        }
    }
}

impl<K, V> OrdMap<K, V> {
    fn height(&self) -> usize {
        self.root.as_ref().map_or(0, |root| root.height())
    }
}

impl<K: Ord, V: PartialEq> OrdMap<K, V> {
    /// Tells, in ascending order, every entry that differs from that of an older map. What both share is skipped.
    pub(crate) fn changes_since<'a>(&'a self, older: &'a Self, mut tell: impl FnMut(&'a K, Change<'a, V>)) {
        let (mut old, mut new) = (Cursor::new(older), Cursor::new(self));
        // Leaves are all equally deep. A look at each node for its height would wait for memory.
        let (old_height, new_height) = (older.height(), self.height());
        loop {
            match (old.head(), new.head()) {
                (None, None) => return,
                (Some(Head::Node(_, one)), Some(Head::Node(_, other))) if Arc::ptr_eq(one, other) => {
                    old.skip();
                    new.skip();
                }
                (Some(Head::Entry(key, before)), Some(Head::Entry(other, after))) if key == other => {
                    if before != after {
                        tell(key, Change::Changed(before, after));
                    }
                    old.skip();
                    new.skip();
                }
                (Some(Head::Node(low, _)), Some(Head::Node(other_low, _))) if low == other_low => {
                    let (height, other_height) = (old_height - old.inner.len(), new_height - new.inner.len());
                    if height >= other_height {
                        old.open();
                    }
                    if other_height >= height {
                        new.open();
                    }
                }
                // Whatever begins first is looked at first; an entry waits for a node that may have it as well.
                (Some(one), other) if other.as_ref().is_none_or(|other| one.comes_before(other)) => {
                    if let Some((key, value)) = old.step(one) {
                        tell(key, Change::Removed(value));
                    }
                }
                (_, Some(other)) => {
                    if let Some((key, value)) = new.step(other) {
                        tell(key, Change::Added(value));
                    }
                }
                (Some(_), None) => old.skip(),
            }
        }
    }
}

/// What is left of the children of a node.
type Children<'a, K, V> = slice::Iter<'a, (K, Arc<Node<K, V>>)>;

/// Where a comparison is in one of the maps.
struct Cursor<'a, K, V> {
    root: Option<&'a Arc<Node<K, V>>>,
    /// What is left of each inner node on the way down.
    inner: Vec<Children<'a, K, V>>,
    leaf: slice::Iter<'a, (K, V)>,
}

enum Head<'a, K, V> {
    /// With a key that is not above any in it.
    Node(&'a K, &'a Arc<Node<K, V>>),
    Entry(&'a K, &'a V),
}

impl<K, V> Clone for Head<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Head<'_, K, V> {}

impl<K: Ord, V> Head<'_, K, V> {
    /// Whether this one has, or may have, a lower key than all of the other, whose node is opened first if both begin alike.
    fn comes_before(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Node(low, _), Self::Node(other, _) | Self::Entry(other, _)) => low <= other,
            (Self::Entry(key, _), Self::Node(other, _) | Self::Entry(other, _)) => key < other,
        }
    }
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a OrdMap<K, V>) -> Self {
        Self { root: map.root.as_ref(), inner: Vec::new(), leaf: [].iter() }
    }

    fn head(&mut self) -> Option<Head<'a, K, V>> {
        if let Some((key, value)) = self.leaf.as_slice().first() {
            return Some(Head::Entry(key, value));
        }
        if let Some(root) = self.root {
            return root.low().map(|low| Head::Node(low, root));
        }
        while let Some(top) = self.inner.last() {
            if let Some((low, child)) = top.as_slice().first() {
                return Some(Head::Node(low, child));
            }
            self.inner.pop();
        }
        None
    }

    /// Goes on behind the head.
    fn skip(&mut self) {
        if self.leaf.next().is_none() && self.root.take().is_none() {
            self.inner.last_mut().map(Iterator::next);
        }
    }

    /// Goes into the node that is the head.
    fn open(&mut self) {
        if let Some(Head::Node(_, node)) = self.head() {
            self.skip();
            match &**node {
                Node::Leaf(entries) => self.leaf = entries.iter(),
                Node::Inner(children) => self.inner.push(children.iter()),
            }
        }
    }

    /// Passes the entry that is the head, and returns it; goes into a node.
    fn step(&mut self, head: Head<'a, K, V>) -> Option<(&'a K, &'a V)> {
        match head {
            Head::Node(..) => {
                self.open();
                None
            }
            Head::Entry(key, value) => {
                self.skip();
                Some((key, value))
            }
        }
    }
}

/// Goes over all entries of an [`OrdMap`], in ascending order of their keys.
pub struct Iter<'a, K, V> {
    left: usize,
    entries: Entries<'a, K, V>,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(map: &'a OrdMap<K, V>) -> Self {
        Self { left: map.len, entries: Entries::new(map) }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        self.left = self.left.saturating_sub(1);
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

/// Goes over entries that were not passed yet.
pub(super) struct Entries<'a, K, V>(Cursor<'a, K, V>);

impl<'a, K, V> Entries<'a, K, V> {
    pub(super) fn new(map: &'a OrdMap<K, V>) -> Self {
        Self(Cursor::new(map))
    }

    /// Passes all entries below a key.
    pub(super) fn pass<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let Self(Cursor { root, inner, leaf }) = self;
        let mut node = root.take();
        while let Some(next) = node {
            node = match &**next {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(other, _)| other.borrow() < key);
                    *leaf = entries.get(at..).unwrap_or_default().iter();
                    None
                }
                Node::Inner(children) => {
                    let mut left = children.get(child_of(children, key)..).unwrap_or_default().iter();
                    let child = left.next().map(|(_, child)| child);
                    inner.push(left);
                    child
                }
            };
        }
    }
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.0.leaf.next() {
                return Some((key, value));
            }
            self.0.head()?;
            self.0.open();
        }
    }
}

impl<K, V> Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iter({} entries)", self.left)
    }
}
