//! How one checkpoint differs from the one before it in the line.

use crate::{
    handle::{Extent, StateHandle},
    manifest::{ManifestContent, StateChange},
};

/// The extents that came and went between two contents, each once for every name.
pub(super) trait Differences {
    fn added(&self, tell: impl FnMut(&Extent));
    fn removed(&self, tell: impl FnMut(&Extent));
}

/// The differences, found once: for a commit, which goes over them several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<StateHandle>,
    removed: Vec<Extent>,
}

/// The differences, found anew each time, and kept nowhere: between contents that may have nothing in common.
pub(super) struct Between<'a> {
    pub(super) older: &'a ManifestContent,
    pub(super) newer: &'a ManifestContent,
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

impl Differences for Changes {
    fn added(&self, mut tell: impl FnMut(&Extent)) {
        self.added_extents().for_each(|extent| tell(&extent));
    }

    fn removed(&self, tell: impl FnMut(&Extent)) {
        self.removed.iter().for_each(tell);
    }
}

impl Differences for Between<'_> {
    fn added(&self, mut tell: impl FnMut(&Extent)) {
        self.newer.state_changes(self.older, |change| {
            if let StateChange::Added(handle) = change {
                handle.extent().iter().for_each(&mut tell);
            }
        });
    }

    fn removed(&self, mut tell: impl FnMut(&Extent)) {
        self.newer.state_changes(self.older, |change| {
            if let StateChange::Removed(handle) = change {
                handle.extent().iter().for_each(&mut tell);
            }
        });
    }
}
