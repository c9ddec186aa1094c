//! Builds a map from entries in ascending order. It fills one node after the other, without searching for a place.

use std::{mem, sync::Arc};

use super::{
    OrdMap,
    node::{MAX, Node},
};

/// Nodes that get one parent, each with its lowest key.
type Children<K, V> = Vec<(K, Arc<Node<K, V>>)>;

/// A map that is being built.
pub(crate) struct Ascending<K, V> {
    leaf: Vec<(K, V)>,
    /// Nodes without a parent yet. The first level has the leaves.
    levels: Vec<Children<K, V>>,
    len: usize,
}

impl<K, V> Default for Ascending<K, V> {
    fn default() -> Self {
        Self { leaf: Vec::new(), levels: Vec::new(), len: 0 }
    }
}

impl<K: Clone, V> Extend<(K, V)> for Ascending<K, V> {
    /// Adds entries. Their keys must be ascending, and above the last key in the map.
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for entry in entries {
            self.leaf.push(entry);
            self.len += 1;
            if self.leaf.len() == MAX {
                self.end_leaf();
            }
        }
    }
}

impl<K: Clone, V> Ascending<K, V> {
    /// The map of these entries.
    pub(crate) fn finish(mut self) -> OrdMap<K, V> {
        self.leaf.shrink_to_fit();
        self.end_leaf();
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.end_node(level);
            level += 1;
        }
        let mut top = self.levels.pop().unwrap_or_default();
        let root = if top.len() > 1 { Some(Arc::new(Node::Inner(top))) } else { top.pop().map(|(_, only)| only) };
        OrdMap { root, len: self.len }
    }

    fn end_leaf(&mut self) {
        let leaf = mem::take(&mut self.leaf);
        if let Some((low, _)) = leaf.first() {
            self.add(0, low.clone(), Node::Leaf(leaf));
        }
    }

    fn end_node(&mut self, level: usize) {
        let children = self.levels.get_mut(level).map(mem::take).unwrap_or_default();
        if let Some((low, _)) = children.first() {
            self.add(level + 1, low.clone(), Node::Inner(children));
        }
    }

    fn add(&mut self, level: usize, low: K, node: Node<K, V>) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        // A full level gets its parent only with the next node: a map of one full level needs no further root.
        if self.levels.get(level).is_some_and(|children| children.len() == MAX) {
            self.end_node(level);
        }
        if let Some(children) = self.levels.get_mut(level) {
            children.push((low, Arc::new(node)));
        }
    }
}
