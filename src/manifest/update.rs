//! Changes of a manifest that travel apart from it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Artifact, ConnectorOffset, ManifestBuilder, Name, PartitionState};
use crate::handle::StateHandle;

/// What a [member](crate::Member) changes in the manifest of a checkpoint: states, partitions of operators, offsets and
/// bytes of the engine's own, each set or removed by its name.
///
/// Changes are relative to the checkpoint that the member goes on from. They are a value, and serde-serialisable.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, ManifestChanges, Options, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
/// let (a, b) = (pending.write(Scope::Shared, b"a")?, pending.write(Scope::Shared, b"b")?);
/// let first = pending.commit(Manifest::builder().state("a", a).metadata("offset", b"1"))?;
///
/// let changes = ManifestChanges::new().state("b", b).remove_state("a").metadata("offset", b"2");
/// let second = store.begin_next()?.commit(Manifest::based_on(first.manifest()).apply(&changes))?;
/// let names: Vec<_> = second.manifest().states().map(|(name, _)| name).collect();
/// assert_eq!((names, second.manifest().metadata("offset")), (vec!["b"], Some(&b"2"[..])));
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestChanges {
    states: BTreeMap<Name, Option<StateHandle>>,
    /// By operator and number.
    partitions: BTreeMap<Name, BTreeMap<u32, PartitionChange>>,
    source_offsets: BTreeMap<Name, Option<Arc<ConnectorOffset>>>,
    metadata: BTreeMap<Name, Option<Arc<[u8]>>>,
}

/// What becomes of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PartitionChange {
    Set(Arc<PartitionState>),
    Removed,
    /// These deltas follow those that it has.
    Extended(Vec<Artifact>),
}

impl PartitionChange {
    fn handles(&self) -> impl Iterator<Item = &StateHandle> {
        let (set, more) = match self {
            Self::Set(partition) => (Some(partition), &[][..]),
            Self::Removed => (None, &[][..]),
            Self::Extended(deltas) => (None, &**deltas),
        };
        set.into_iter().flat_map(|set| set.handles()).chain(more.iter().map(|delta| &delta.handle))
    }
}

impl ManifestChanges {
    /// No change.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets a state, as [`ManifestBuilder::state`] does.
    #[must_use]
    pub fn state(mut self, name: impl Into<Name>, handle: StateHandle) -> Self {
        self.states.insert(name.into(), Some(handle));
        self
    }

    /// Removes a state.
    #[must_use]
    pub fn remove_state(mut self, name: impl Into<Name>) -> Self {
        self.states.insert(name.into(), None);
        self
    }

    /// Sets one partition of an operator, as [`ManifestBuilder::partition`] does.
    #[must_use]
    pub fn partition(
        mut self,
        operator: impl Into<Name>,
        number: u32,
        partition: impl Into<Arc<PartitionState>>,
    ) -> Self {
        self.partitions.entry(operator.into()).or_default().insert(number, PartitionChange::Set(partition.into()));
        self
    }

    /// Adds a delta to one partition of an operator, behind those that the partition has, as [`ManifestBuilder::delta`] does.
    /// So a member need not know the handles of older states, which a commit may move.
    #[must_use]
    pub fn delta(mut self, operator: impl Into<Name>, number: u32, delta: impl Into<Artifact>) -> Self {
        let (partitions, delta) = (self.partitions.entry(operator.into()).or_default(), delta.into());
        match partitions.entry(number).or_insert_with(|| PartitionChange::Extended(Vec::new())) {
            PartitionChange::Set(partition) => Arc::make_mut(partition).deltas.push(delta),
            PartitionChange::Extended(deltas) => deltas.push(delta),
            removed @ PartitionChange::Removed => {
                let deltas = vec![delta];
                *removed = PartitionChange::Set(Arc::new(PartitionState { deltas, ..PartitionState::default() }));
            }
        }
        self
    }

    /// Removes one partition of an operator.
    #[must_use]
    pub fn remove_partition(mut self, operator: impl Into<Name>, number: u32) -> Self {
        self.partitions.entry(operator.into()).or_default().insert(number, PartitionChange::Removed);
        self
    }

    /// Sets how far a source was read.
    #[must_use]
    pub fn source_offset(mut self, source: impl Into<Name>, offset: impl Into<Arc<ConnectorOffset>>) -> Self {
        self.source_offsets.insert(source.into(), Some(offset.into()));
        self
    }

    /// Removes how far a source was read.
    #[must_use]
    pub fn remove_source_offset(mut self, source: impl Into<Name>) -> Self {
        self.source_offsets.insert(source.into(), None);
        self
    }

    /// Sets bytes of the engine's own, as [`ManifestBuilder::metadata`] does.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<Name>, bytes: impl AsRef<[u8]>) -> Self {
        self.metadata.insert(name.into(), Some(bytes.as_ref().into()));
        self
    }

    /// Removes bytes of the engine's own.
    #[must_use]
    pub fn remove_metadata(mut self, name: impl Into<Name>) -> Self {
        self.metadata.insert(name.into(), None);
        self
    }

    /// Every state that is set.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &StateHandle> {
        let partitions = self.partitions.values().flat_map(BTreeMap::values).flat_map(PartitionChange::handles);
        self.states.values().flatten().chain(partitions)
    }

    /// Whether these changes set or remove this state.
    pub(crate) fn has_state(&self, name: &str) -> bool {
        self.states.contains_key(name)
    }
}

/// Everything that several sets of changes change, each with the number of the set that does.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    states: BTreeMap<Name, usize>,
    partitions: BTreeMap<Name, BTreeMap<u32, usize>>,
    source_offsets: BTreeMap<Name, usize>,
    metadata: BTreeMap<Name, usize>,
}

impl Changed {
    /// Adds a set of changes.
    pub(crate) fn add(&mut self, changes: &ManifestChanges, number: usize) {
        self.states.extend(changes.states.keys().map(|name| (name.clone(), number)));
        for (operator, partitions) in &changes.partitions {
            let known = self.partitions.entry(operator.clone()).or_default();
            known.extend(partitions.keys().map(|partition| (*partition, number)));
        }
        self.source_offsets.extend(changes.source_offsets.keys().map(|name| (name.clone(), number)));
        self.metadata.extend(changes.metadata.keys().map(|name| (name.clone(), number)));
    }

    /// The first thing that these changes change as well, in words, and the number of the set that does.
    pub(crate) fn conflict(&self, changes: &ManifestChanges) -> Option<(String, usize)> {
        fn both<'a, K: Ord, V>(known: &BTreeMap<K, usize>, new: &'a BTreeMap<K, V>) -> Option<(&'a K, usize)> {
            new.keys().find_map(|name| Some((name, *known.get(name)?)))
        }
        let named = |what: &str, found: Option<(&Name, usize)>| {
            found.map(|(name, number)| (format!("{what} {:?}", &**name), number))
        };
        let partition = || {
            changes.partitions.iter().find_map(|(operator, partitions)| {
                let (partition, number) = both(self.partitions.get(operator)?, partitions)?;
                Some((format!("partition {partition} of operator {:?}", &**operator), number))
            })
        };
        named("state", both(&self.states, &changes.states))
            .or_else(partition)
            .or_else(|| named("source", both(&self.source_offsets, &changes.source_offsets)))
            .or_else(|| named("metadata", both(&self.metadata, &changes.metadata)))
    }

    /// The states that are changed.
    pub(crate) fn states(&self) -> impl Iterator<Item = &str> {
        self.states.keys().map(|name| &**name)
    }

    pub(crate) fn has_state(&self, name: &str) -> bool {
        self.states.contains_key(name)
    }
}

impl ManifestBuilder {
    /// Makes the changes, one after another. A name that is removed need not be there.
    #[must_use]
    pub fn apply(mut self, changes: &ManifestChanges) -> Self {
        for (name, handle) in &changes.states {
            self = match handle {
                Some(handle) => self.state(name.clone(), handle.clone()),
                None => self.remove_state(name),
            };
        }
        let partitions = changes.partitions.iter();
        let partitions =
            partitions.flat_map(|(name, numbers)| numbers.iter().map(move |(number, to)| (name, number, to)));
        for (operator, number, partition) in partitions {
            self = match partition {
                PartitionChange::Set(set) => self.partition(operator.clone(), *number, Arc::clone(set)),
                PartitionChange::Removed => self.remove_partition(operator, *number),
                PartitionChange::Extended(deltas) => {
                    deltas.iter().fold(self, |builder, delta| builder.delta(operator.clone(), *number, delta.clone()))
                }
            };
        }
        for (source, offset) in &changes.source_offsets {
            self = match offset {
                Some(offset) => self.source_offset(source.clone(), Arc::clone(offset)),
                None => self.remove_source_offset(source),
            };
        }
        for (name, bytes) in &changes.metadata {
            self = match bytes {
                Some(bytes) => self.metadata(name.clone(), bytes),
                None => self.remove_metadata(name),
            };
        }
        self
    }
}
