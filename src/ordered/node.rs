//! The nodes of the tree.

use std::{borrow::Borrow, sync::Arc};

/// A node has at most this many entries or children. With 16 a change takes no less time and a third less memory, and a map
/// that was read from a file more than four times the length of the file.
pub(super) const MAX: usize = 32;
/// One with fewer is united with a neighbour, if both fit well into one.
const FEW: usize = MAX / 4;

pub(super) enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    /// Each child with a key that is not above any of its keys.
    Inner(Vec<(K, Arc<Node<K, V>>)>),
}

/// Room for one more, and half as many again, but never for more than a node has.
fn make_room<T>(entries: &mut Vec<T>) {
    if entries.len() == entries.capacity() {
        let more = (entries.len() / 2).clamp(1, MAX.saturating_sub(entries.len()).max(1));
        entries.reserve_exact(more);
    }
}

/// The child that a key belongs to.
pub(super) fn child_of<K, V, Q>(children: &[(K, Arc<Node<K, V>>)], key: &Q) -> usize
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    children.partition_point(|(low, _)| low.borrow() <= key).saturating_sub(1)
}

fn find<K, V, Q>(entries: &[(K, V)], key: &Q) -> Result<usize, usize>
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    entries.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// Where a key goes to that mostly is above all others: one look then.
fn place<K: Ord, V>(entries: &[(K, V)], key: &K) -> Result<usize, usize> {
    match entries.last() {
        Some((last, _)) if last < key => Err(entries.len()),
        _ => find(entries, key),
    }
}

/// Splits a full node for an entry that goes to this place; ascending keys leave full nodes behind.
fn split<T>(entries: &mut Vec<T>, at: usize, entry: T) -> Vec<T> {
    if at == entries.len() {
        return vec![entry];
    }
    let mut right = entries.split_off(MAX / 2);
    entries.shrink_to_fit();
    if at <= MAX / 2 {
        make_room(entries);
        entries.insert(at, entry);
    } else {
        make_room(&mut right);
        right.insert(at - MAX / 2, entry);
    }
    right
}

impl<K, V> Node<K, V> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.len(),
        }
    }

    pub(super) fn low(&self) -> Option<&K> {
        match self {
            Self::Leaf(entries) => entries.first().map(|(key, _)| key),
            Self::Inner(children) => children.first().map(|(low, _)| low),
        }
    }

    pub(super) fn last(&self) -> Option<(&K, &V)> {
        match self {
            Self::Leaf(entries) => entries.last().map(|(key, value)| (key, value)),
            Self::Inner(children) => children.last().and_then(|(_, child)| child.last()),
        }
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self {
            Self::Leaf(entries) => find(entries, key).ok().and_then(|at| entries.get(at)).map(|(_, value)| value),
            Self::Inner(children) => children.get(child_of(children, key))?.1.get(key),
        }
    }

    /// The last entry below a key.
    pub(super) fn before<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self {
            Self::Leaf(entries) => {
                let at = entries.partition_point(|(other, _)| other.borrow() < key);
                entries.get(at.checked_sub(1)?).map(|(key, value)| (key, value))
            }
            Self::Inner(children) => {
                let (up_to, _) = children.split_at(child_of(children, key) + 1);
                up_to.iter().rev().find_map(|(_, child)| child.before(key))
            }
        }
    }
}

impl<K: Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(entries.clone()),
            Self::Inner(children) => Self::Inner(children.clone()),
        }
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    /// Returns the value that was there, and the second half of a node that had no room.
    pub(super) fn insert(self: &mut Arc<Self>, key: K, value: V) -> (Option<V>, Option<Arc<Self>>) {
        match Arc::make_mut(self) {
            Self::Leaf(entries) => match place(entries, &key) {
                Ok(at) => (entries.get_mut(at).map(|(_, old)| std::mem::replace(old, value)), None),
                Err(at) if entries.len() < MAX => {
                    make_room(entries);
                    entries.insert(at, (key, value));
                    (None, None)
                }
                Err(at) => (None, Some(Arc::new(Self::Leaf(split(entries, at, (key, value)))))),
            },
            Self::Inner(children) => {
                let at = match place(children, &key) {
                    Ok(at) => at,
                    Err(at) => at.saturating_sub(1),
                };
                let Some((low, child)) = children.get_mut(at) else { return (None, None) };
                if key < *low {
                    *low = key.clone();
                }
                let (old, right) = child.insert(key, value);
                let Some((low, right)) = right.and_then(|right| Some((right.low()?.clone(), right))) else {
                    return (old, None);
                };
                if children.len() < MAX {
                    make_room(children);
                    children.insert(at + 1, (low, right));
                    return (old, None);
                }
                (old, Some(Arc::new(Self::Inner(split(children, at + 1, (low, right))))))
            }
        }
    }

    /// The caller knows that the key is there: nothing is copied for one that is not.
    pub(super) fn remove<Q>(self: &mut Arc<Self>, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match Arc::make_mut(self) {
            Self::Leaf(entries) => find(entries, key).ok().map(|at| entries.remove(at).1),
            Self::Inner(children) => {
                let at = child_of(children, key);
                let (_, child) = children.get_mut(at)?;
                let old = child.remove(key);
                match child.len() {
                    0 => drop(children.remove(at)),
                    len if len < FEW => unite(children, at),
                    _ => {}
                }
                old
            }
        }
    }

    /// A node that others have is copied only if the key is there.
    pub(super) fn get_mut<Q>(self: &mut Arc<Self>, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if Arc::strong_count(self) > 1 && self.get(key).is_none() {
            return None;
        }
        match Arc::make_mut(self) {
            Self::Leaf(entries) => {
                let at = find(entries, key).ok()?;
                entries.get_mut(at).map(|(_, value)| value)
            }
            Self::Inner(children) => {
                let at = child_of(children, key);
                children.get_mut(at)?.1.get_mut(key)
            }
        }
    }
}

/// Unites a small child with a neighbour, if both take no more than half of a node.
fn unite<K: Clone, V: Clone>(children: &mut Vec<(K, Arc<Node<K, V>>)>, at: usize) {
    let left = at.saturating_sub(1);
    let Some([(_, one), (_, other)]) = children.get_mut(left..left + 2) else { return };
    if one.len() + other.len() > MAX / 2 {
        return;
    }
    match (Arc::make_mut(one), &**other) {
        (Node::Leaf(one), Node::Leaf(other)) => one.extend(other.iter().cloned()),
        (Node::Inner(one), Node::Inner(other)) => one.extend(other.iter().cloned()),
        _ => return,
    }
    children.remove(left + 1);
}

impl<K, V> Node<K, V> {
    pub(super) fn height(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(children) => children.first().map_or(0, |(_, child)| child.height() + 1),
        }
    }
}
