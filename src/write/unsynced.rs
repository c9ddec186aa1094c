//! Segments with states of a pending checkpoint, and what of them must be durable before its manifest is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::segment::Segment;
use crate::{
    disk::layout,
    error::Result,
    format::segment::entry_end,
    handle::Extent,
    id::{FileId, Scope},
};

/// A segment with states of a pending checkpoint.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) segment: Arc<Segment>,
    /// Behind the last of these states.
    pub(super) end: u64,
    /// Somebody is just syncing it, so that it need not stay open.
    pub(super) syncing: bool,
}

/// The segments that were written and not synced, and the scopes in whose directories others have new names.
#[derive(Debug)]
pub(crate) struct Unsynced {
    pub(super) segments: BTreeMap<FileId, Touched>,
    pub(super) dirs: BTreeSet<Scope>,
}

/// What of that a manifest names: it must be durable before the manifest is.
#[derive(Debug)]
pub(crate) struct Named {
    segments: Vec<Touched>,
    dirs: BTreeSet<Scope>,
}

impl Touched {
    pub(super) fn scope(&self) -> Scope {
        self.segment.id().scope
    }
}

impl Unsynced {
    /// Leaves out what the manifest does not name: what nobody will read needs no sync, and may fail one.
    pub(crate) fn named_by(mut self, extents: impl Iterator<Item = Extent>) -> Named {
        let mut ends = BTreeMap::new();
        for extent in extents.filter(|extent| self.segments.contains_key(&extent.file)) {
            let end = ends.entry(extent.file).or_insert(0);
            *end = entry_end(extent.offset, extent.len).max(*end);
        }
        let mut named = Named { segments: Vec::new(), dirs: self.dirs };
        for (file, end) in ends {
            named.segments.extend(self.segments.remove(&file).map(|touched| Touched { end, ..touched }));
        }
        let unnamed = named.segments.iter().filter(|touched| !touched.segment.is_named());
        named.dirs.extend(unnamed.map(Touched::scope));
        named
    }
}

impl Named {
    /// Makes durable what was written, one sync for each segment that has any of it.
    pub(crate) fn sync_data(&self) -> Result<()> {
        self.segments.iter().try_for_each(|touched| touched.segment.sync_to(touched.end))
    }

    /// The directories that gained names.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &'static Path> {
        self.dirs.iter().map(|scope| layout::scope_dir(*scope))
    }

    /// These directories were synced.
    pub(crate) fn note_named(&self) {
        let synced = self.segments.iter().filter(|touched| self.dirs.contains(&touched.scope()));
        synced.for_each(|touched| touched.segment.note_named());
    }
}
