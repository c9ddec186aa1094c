//! How one checkpoint differs from the one before it in the line.

use crate::{
    handle::{Extent, StateHandle},
    manifest::{ManifestContent, StateChange},
};

/// The states that came and the extents that went between two contents, each once for every name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<StateHandle>,
    pub(super) removed: Vec<Extent>,
}

impl Changes {
    /// Costs what differs.
    pub(crate) fn between(older: &ManifestContent, newer: &ManifestContent) -> Self {
        let mut changes = Self::default();
        newer.state_changes(older, |change| match change {
            StateChange::Added(handle) => changes.added.push(handle.clone()),
            StateChange::Removed(handle) => changes.removed.extend(handle.extent()),
        });
        changes
    }

    /// The extents that came.
    pub(crate) fn added_extents(&self) -> impl Iterator<Item = Extent> {
        self.added.iter().filter_map(StateHandle::extent)
    }
}
