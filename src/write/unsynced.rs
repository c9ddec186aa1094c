//! Segments with states of a pending checkpoint, and what of them must be durable before its record is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{copies::Copies, segment::Segment, waiting::Waiting};
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
    pub(super) copies: Copies,
}

/// What of that a manifest names: it must be durable before the record is, or be in it.
#[derive(Debug)]
pub(crate) struct Named {
    segments: Vec<Touched>,
    dirs: BTreeSet<Scope>,
    /// Of the segments that need no sync, because the record has their states.
    copies: Copies,
}

impl Touched {
    pub(super) fn scope(&self) -> Scope {
        self.segment.id().scope
    }
}

impl Unsynced {
    /// Leaves out what the manifest does not name: what nobody will read needs no sync, and may fail one. All that it names
    /// is written, with what gathered before it. Segments of which the record has all that is named wait for their sync from now on.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn named_by(mut self, extents: impl Iterator<Item = Extent>, waiting: &Waiting) -> Result<Named> {
        let mut ends = BTreeMap::new();
        for extent in extents.filter(|extent| self.segments.contains_key(&extent.file)) {
            let (end, is_copied) = ends.entry(extent.file).or_insert((0, true));
            *end = entry_end(extent.offset, extent.len).max(*end);
            *is_copied &= self.copies.name(&extent);
        }
        let (mut segments, mut copied) = (Vec::new(), Vec::new());
        for (file, (end, is_copied)) in ends {
            let Some(touched) = self.segments.remove(&file) else { continue };
            touched.segment.write_to(end)?;
            let waits = is_copied && touched.segment.can_wait();
            if waits { &mut copied } else { &mut segments }.push(Touched { end, ..touched });
        }
        let more: Vec<_> = copied.iter().map(|touched| (&touched.segment, touched.end)).collect();
        if !waiting.add(&more) {
            segments.append(&mut copied);
        }
        let Self { mut dirs, mut copies, .. } = self;
        copies.retain(|file| copied.iter().any(|touched| touched.segment.id() == file));
        let unnamed = segments.iter().filter(|touched| !touched.segment.is_named());
        dirs.extend(unnamed.map(Touched::scope));
        Ok(Named { segments, dirs, copies })
    }
}

impl Named {
    /// Makes durable what was written, one sync for each segment that has any of it.
    pub(crate) fn sync_data(&self, waiting: &Waiting) -> Result<()> {
        self.segments.iter().try_for_each(|Touched { segment, end, .. }| {
            segment.sync_to(*end).inspect_err(|error| waiting.note_failed(segment.id(), error))
        })
    }

    /// The directories that gained names.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &'static Path> {
        self.dirs.iter().map(|scope| layout::scope_dir(*scope))
    }

    /// What the record has. What was synced need not stay open.
    pub(crate) fn into_copies(self) -> Copies {
        self.copies
    }

    /// These directories were synced.
    pub(crate) fn note_named(&self) {
        let synced = self.segments.iter().filter(|touched| self.dirs.contains(&touched.scope()));
        synced.for_each(|touched| touched.segment.note_named());
    }
}
