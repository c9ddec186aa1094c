//! How one content differs from an older one. What both share is not looked at.

use std::sync::Arc;

use super::{ManifestContent, OperatorState, PartitionState};
use crate::{
    handle::{Extent, StateHandle},
    ordered::OrdMap,
};

/// A state that a content names and an older one does not, or the other way round. One that is named twice is told twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateChange<'a> {
    Added(&'a StateHandle),
    Removed(&'a StateHandle),
}

/// Tells one value that was replaced, or came, or went.
struct Tell<F>(F);

impl<'a, F: FnMut(StateChange<'a>)> Tell<F> {
    fn handles(&mut self, old: Option<&'a StateHandle>, new: Option<&'a StateHandle>) {
        if old != new {
            if let Some(old) = old {
                self.0(StateChange::Removed(old));
            }
            if let Some(new) = new {
                self.0(StateChange::Added(new));
            }
        }
    }

    fn partitions(&mut self, old: Option<&'a PartitionState>, new: Option<&'a PartitionState>) {
        old.into_iter().flat_map(PartitionState::handles).for_each(|old| self.0(StateChange::Removed(old)));
        new.into_iter().flat_map(PartitionState::handles).for_each(|new| self.0(StateChange::Added(new)));
    }

    fn operators(&mut self, old: Option<&'a OperatorState>, new: Option<&'a OperatorState>) {
        self.handles(coordinator(old), coordinator(new));
        let (old, new) = (old.map_or(&NONE, |old| &old.partitions), new.map_or(&NONE, |new| &new.partitions));
        new.changes_since(old, |_, change| {
            let (old, new) = change.values();
            self.partitions(old.map(|old| &**old), new.map(|new| &**new));
        });
    }
}

static NONE: OrdMap<u32, Arc<PartitionState>> = OrdMap::new();

fn coordinator(operator: Option<&OperatorState>) -> Option<&StateHandle> {
    operator.and_then(|operator| operator.coordinator.as_ref())
}

impl PartitionState {
    /// Every handle of the partition.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &StateHandle> {
        let artifacts = self.snapshot.iter().chain(&self.deltas).map(|artifact| &artifact.handle);
        artifacts.chain(self.states.values())
    }
}

impl ManifestContent {
    /// Tells every state that is named here and not in an older content, and the other way round.
    pub(crate) fn state_changes<'a>(&'a self, older: &'a Self, tell: impl FnMut(StateChange<'a>)) {
        let mut tell = Tell(tell);
        self.states.changes_since(&older.states, |_, change| {
            let (old, new) = change.values();
            tell.handles(old, new);
        });
        self.operators.changes_since(&older.operators, |_, change| {
            let (old, new) = change.values();
            tell.operators(old.map(|old| &**old), new.map(|new| &**new));
        });
        tell.handles(older.sidecar.as_ref(), self.sidecar.as_ref());
    }

    /// Tells every state in a file that is named here and not in an older content; without one, every one.
    pub(crate) fn each_added(&self, older: Option<&Self>, mut tell: impl FnMut(Extent)) {
        let Some(older) = older else { return self.handles().filter_map(StateHandle::extent).for_each(tell) };
        self.state_changes(older, |change| {
            if let StateChange::Added(handle) = change
                && let Some(extent) = handle.extent()
            {
                tell(extent);
            }
        });
    }

    /// The same content, sharing with an older one what is the same in both.
    #[must_use]
    pub(crate) fn sharing(&self, older: &Self) -> Self {
        Self {
            states: self.states.sharing(&older.states),
            operators: self.operators.sharing_with(&older.operators, |new, old| {
                let partitions = new.partitions.sharing(&old.partitions);
                Arc::new(OperatorState { partitions, ..(**new).clone() })
            }),
            source_offsets: self.source_offsets.sharing(&older.source_offsets),
            table_offsets: self.table_offsets.sharing(&older.table_offsets),
            sink_epochs: self.sink_epochs.sharing(&older.sink_epochs),
            sink_status: self.sink_status.sharing(&older.sink_status),
            source_watermarks_ms: self.source_watermarks_ms.sharing(&older.source_watermarks_ms),
            source_names: self.source_names.sharing(&older.source_names),
            sink_names: self.sink_names.sharing(&older.sink_names),
            metadata: self.metadata.sharing(&older.metadata),
            ..self.clone()
        }
    }
}
