//! Which extents may be referred to, and by whom.

use super::{
    Accounts, Holder,
    file::FileRecord,
    lives::{ExtentRecord, Number},
};
use crate::{
    error::Error,
    format::segment::entry_end,
    handle::Extent,
    id::{CheckpointId, FileId},
    manifest::FileOrigin,
};

/// What is known of a file that was not written here just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) len: u64,
    pub(crate) allocated: u64,
    pub(crate) origin: Option<&'a FileOrigin>,
}

/// Why a state was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The engine wrote it.
    New,
    /// It is a copy of a state whose file should go, for an engine that named it.
    Relocated,
    /// The same, for the commit itself.
    Kept,
}

impl Accounts {
    /// Adds extents that were found in a manifest, all in one file that is there. Returns the first of which another
    /// manifest says that another state is at its place, or that the file came from somewhere else.
    pub(super) fn add_found(&mut self, file: FileId, extents: &[Extent], found: Found<'_>) -> Option<Extent> {
        let Found { len, allocated, origin } = found;
        let base = self.files.policy().base();
        self.files.enter(file, || {
            let mut record = FileRecord::found(len, allocated, base);
            if let Some(origin) = origin {
                record.come_from(origin.clone());
            }
            record
        });
        let came_alike = self.files.get(file).is_some_and(|file| file.origin() == origin);
        let contradicted = self.files.add(file, extents, len);
        let contradicted = if came_alike { contradicted } else { extents.first().copied() };
        if contradicted.is_some() {
            self.files.change(file, |file| file.disputed = true);
        }
        contradicted
    }

    /// A file that is about to be created, for many states or for one alone.
    pub(crate) fn create(&mut self, file: FileId, own: bool) {
        let base = self.files.policy().base();
        self.files.enter(file, || FileRecord::new_open(own, base));
    }

    /// Adds an extent that was just written, at the end of its file.
    pub(crate) fn add(&mut self, holder: Holder, extent: &Extent, file_len: u64, kind: Kind) {
        match kind {
            Kind::New => self.written += extent.len,
            Kind::Relocated | Kind::Kept => self.relocated += extent.len,
        }
        self.files.add(extent.file, std::slice::from_ref(extent), file_len);
        self.link(holder, extent);
    }

    /// Fills a file that is being created with states that were not written here, all at once, and seals it. Returns the
    /// first that another one contradicts.
    pub(crate) fn adopt(
        &mut self,
        holder: Holder,
        file: FileId,
        from: Found<'_>,
        extents: &[Extent],
    ) -> Result<(), Extent> {
        let Found { len, allocated, origin } = from;
        self.files.change(file, |record| {
            record.fill(len, allocated);
            if let Some(origin) = origin {
                record.come_from(origin.clone());
            }
        });
        if let Some([_, wrong]) = extents.array_windows().find(|[one, other]| one.offset >= other.offset) {
            return Err(*wrong);
        }
        self.files.add(file, extents, len);
        self.link_all(holder, file, extents);
        self.files.change(file, FileRecord::seal);
        self.held.entry(holder).or_default().adopted.push(file);
        Ok(())
    }

    /// Adds more states of such a file. Returns the first that another one contradicts.
    pub(crate) fn adopt_more(&mut self, holder: Holder, file: FileId, extents: &[Extent]) -> Result<(), Extent> {
        let contradicted = self.files.add(file, extents, 0);
        self.link_all(holder, file, extents);
        contradicted.map_or(Ok(()), |extent| Err(Extent { file, ..extent }))
    }

    /// Lets a pending checkpoint refer to an extent by itself, if it [may](Self::may_refer).
    pub(crate) fn refer(&mut self, holder: Holder, extent: &Extent) -> bool {
        let may = self.may_refer(holder, extent);
        if may {
            self.link(holder, extent);
        }
        may
    }

    /// Whether a pending checkpoint may refer to an extent: to one that it refers to already, or that a checkpoint of the
    /// line names, that the file is long enough for, and that is not known to be damaged. What another pending checkpoint
    /// wrote may never become durable.
    ///
    /// What is lent may be referred to for as long as the newest checkpoint does: once there is one that can do without, so
    /// can all that follow.
    pub(crate) fn may_refer(&self, holder: Holder, extent: &Extent) -> bool {
        let Some(record) = self.sound(extent) else { return false };
        let held = self.held.get(&holder);
        if self.is_lent(extent.file) {
            let newest = self.catalog.newest_valid();
            return newest.is_some_and(|newest| record.is_named_by(newest))
                || held.is_some_and(|held| held.adopted.contains(&extent.file));
        }
        record.is_published() || held.is_some_and(|held| held.extents.contains((extent.file, extent.offset)))
    }

    /// Whether a checkpoint names an extent that can be referred to, in a file that is not marked.
    pub(crate) fn could_reuse(&self, extent: &Extent) -> bool {
        !self.is_marked(extent.file) && self.sound(extent).is_some_and(ExtentRecord::is_published)
    }

    /// The record of an extent that is whole, as far as is known.
    fn sound(&self, extent: &Extent) -> Option<&ExtentRecord> {
        let file = self.files.get(extent.file).filter(|file| entry_end(extent.offset, extent.len) <= file.len())?;
        file.extent(extent.offset).filter(|record| record.is(extent) && !record.bad)
    }

    /// Whether a reader or a pending checkpoint holds exactly this extent.
    pub(crate) fn refers(&self, holder: Holder, extent: &Extent) -> bool {
        let record = self.files.record((extent.file, extent.offset));
        let (Some(record), Some(held)) = (record, self.held.get(&holder)) else { return false };
        let named = |number: &Number| record.is_named_by(*number);
        record.is(extent) && (held.checkpoints.iter().any(named) || held.extents.contains((extent.file, extent.offset)))
    }

    /// Remembers that the bytes of an extent are damaged, and every checkpoint that names it. Returns those that were not known
    /// to be damaged before.
    pub(crate) fn mark_damaged(&mut self, extent: &Extent, error: &Error) -> Vec<CheckpointId> {
        let Some(record) = self.files.record_mut(extent) else { return Vec::new() };
        record.bad = true;
        let record = record.clone();
        self.bad.insert((extent.file, extent.offset), error.clone());
        self.catalog.mark_numbers_damaged(|number| record.is_named_by(number), error)
    }

    /// Whether some extent that anybody needs is known to be damaged.
    pub(super) fn has_bad(&mut self) -> bool {
        let files = &self.files;
        self.bad.retain(|at, _| files.record(*at).is_some_and(|record| record.bad));
        !self.bad.is_empty()
    }

    /// Whether the states of a file should be written anew.
    pub(crate) fn is_marked(&self, file: FileId) -> bool {
        self.files.get(file).is_some_and(|file| file.marked)
    }

    /// Whether a file is somebody else's.
    pub(crate) fn is_lent(&self, file: FileId) -> bool {
        self.files.get(file).is_some_and(FileRecord::is_lent)
    }

    fn link_all(&mut self, holder: Holder, file: FileId, extents: &[Extent]) {
        for extent in extents {
            self.link(holder, &Extent { file, ..*extent });
        }
    }

    pub(super) fn link(&mut self, holder: Holder, extent: &Extent) {
        let held = self.held.entry(holder).or_default();
        if held.extents.contains((extent.file, extent.offset)) {
            return;
        }
        if let Some(record) = self.files.record_mut(extent) {
            held.extents.insert((extent.file, extent.offset));
            record.private += 1;
        }
    }
}
