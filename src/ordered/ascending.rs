//! Making a map of entries that come in ascending order: nodes are filled one after the other, and nothing is looked for.

use std::{mem, sync::Arc};

use super::{
    OrdMap,
    node::{MAX, Node},
};

/// Children of a node that is not full yet, each with its lowest key.
type Children<K, V> = Vec<(K, Arc<Node<K, V>>)>;

pub(crate) struct Ascending<K, V> {
    leaf: Vec<(K, V)>,
    /// From the level above the leaves up.
    levels: Vec<Children<K, V>>,
    len: usize,
}

impl<K, V> Default for Ascending<K, V> {
    fn default() -> Self {
        Self { leaf: Vec::new(), levels: Vec::new(), len: 0 }
    }
}

impl<K: Clone, V> Extend<(K, V)> for Ascending<K, V> {
    /// Adds entries, of which the keys must be ascending, and above all that are there.
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
        let Some(children) = self.levels.get_mut(level) else { return };
        // A level that is full goes up with the next one only, so that the topmost one is no node with a single child.
        if children.len() == MAX {
            self.end_node(level);
        }
        if let Some(children) = self.levels.get_mut(level) {
            children.push((low, Arc::new(node)));
        }
    }
}
