//! What keeps an open checkpoint readable.

use std::collections::HashMap;

use crate::{
    disk::LockGuard,
    error::Error,
    handle::{Extent, StateHandle},
    id::FileId,
    manifest::Manifest,
    reclaim::Hold,
};

/// In the process that writes, the registry knows of every reader. From any other process, a lock of the id keeps
/// the checkpoint from being forgotten, and so everything that it names.
#[derive(Debug)]
pub(crate) enum Pin {
    Registered(Hold),
    Locked { extents: ByPlace, _locks: Vec<Box<dyn LockGuard>> },
}

/// The states that a manifest names.
#[derive(Debug)]
pub(crate) struct ByPlace(HashMap<(FileId, u64), Extent>);

impl Pin {
    /// For a checkpoint whose id is locked, and those of the stores that lend it files.
    pub(crate) fn locked(manifest: &Manifest, locks: Vec<Box<dyn LockGuard>>) -> Self {
        let extents = manifest.content.handles().filter_map(StateHandle::extent);
        let extents = ByPlace(extents.map(|extent| ((extent.file, extent.offset), extent)).collect());
        Self::Locked { extents, _locks: locks }
    }

    /// Whether the checkpoint refers to exactly this.
    pub(super) fn refers(&self, extent: &Extent) -> bool {
        match self {
            Self::Registered(hold) => hold.refers(extent),
            Self::Locked { extents, .. } => extents.0.get(&(extent.file, extent.offset)) == Some(extent),
        }
    }

    /// A process that only reads remembers nothing: it looks each time.
    pub(super) fn mark_damaged(&self, extent: &Extent, error: &Error) {
        if let Self::Registered(hold) = self {
            hold.mark_damaged(extent, error);
        }
    }
}
