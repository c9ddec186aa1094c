//! Every data file of the store that anybody needs, their sums, and those that nobody needs any more. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Range,
};

use super::{
    file::FileRecord,
    gauges::Gauges,
    line::{At, Extents},
    lives::ExtentRecord,
    space::SpacePolicy,
};
use crate::{handle::Extent, id::FileId, manifest::Lender};

#[derive(Debug)]
pub(crate) struct Files {
    policy: SpacePolicy,
    records: BTreeMap<FileId, FileRecord>,
    totals: Gauges,
    /// Those that are appended to.
    open: BTreeSet<FileId>,
    /// Those worth punching.
    punchable: BTreeSet<FileId>,
    /// Those worth rewriting, and not marked yet.
    wasteful: BTreeSet<FileId>,
    /// Those that are marked.
    marked: BTreeSet<FileId>,
    /// Those that were not written under their names.
    came: BTreeSet<FileId>,
    /// Those that were found to have other names.
    linked: BTreeSet<FileId>,
    /// Those to be removed, with their lengths: nobody refers to them, and nothing is appended to them.
    dead: BTreeMap<FileId, u64>,
}

/// Holes that can be punched into a file.
#[derive(Debug)]
pub(crate) struct Holes {
    pub(crate) file: FileId,
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) dead_blocks: u64,
    /// What the file took before.
    pub(crate) allocated: u64,
}

/// Changes extents, one after the other. The sums change once for each run of extents in one file: when the visit goes on
/// to another file, or is dropped.
pub(super) struct Visit<'a> {
    files: &'a mut Files,
    visited: Option<Visited>,
}

/// The file that is being visited, taken out of the records.
struct Visited {
    file: FileId,
    record: FileRecord,
    /// Its part of the sums before the first extent was removed; `None` if none was.
    before: Option<Gauges>,
}

/// Keeps a set of files up to date.
fn note(set: &mut BTreeSet<FileId>, file: FileId, is_in: bool) {
    if is_in {
        set.insert(file);
    } else {
        set.remove(&file);
    }
}

impl Files {
    pub(super) fn new(policy: SpacePolicy) -> Self {
        Self {
            policy,
            records: BTreeMap::new(),
            totals: Gauges::default(),
            open: BTreeSet::new(),
            punchable: BTreeSet::new(),
            wasteful: BTreeSet::new(),
            marked: BTreeSet::new(),
            came: BTreeSet::new(),
            linked: BTreeSet::new(),
            dead: BTreeMap::new(),
        }
    }

    pub(super) fn policy(&self) -> SpacePolicy {
        self.policy
    }

    pub(super) fn totals(&self) -> &Gauges {
        &self.totals
    }

    pub(crate) fn get(&self, file: FileId) -> Option<&FileRecord> {
        self.records.get(&file)
    }

    /// What is known of the extent at a place.
    pub(super) fn record(&self, (file, offset): At) -> Option<&ExtentRecord> {
        self.get(file)?.extent(offset)
    }

    /// The record of exactly this extent, to be changed without freeing it.
    pub(super) fn record_mut(&mut self, extent: &Extent) -> Option<&mut ExtentRecord> {
        let record = self.records.get_mut(&extent.file)?.extent_mut(extent.offset)?;
        record.is(extent).then_some(record)
    }

    /// Every file that is known.
    pub(super) fn all(&self) -> impl Iterator<Item = FileId> {
        self.records.keys().copied()
    }

    /// Those that are appended to.
    pub(super) fn open(&self) -> impl Iterator<Item = FileId> {
        self.open.iter().copied()
    }

    /// Those of them that are marked.
    pub(super) fn marked_open(&self) -> impl Iterator<Item = FileId> {
        self.open.intersection(&self.marked).copied()
    }

    /// Whether every file was written under its name.
    pub(crate) fn all_written_here(&self) -> bool {
        self.came.is_empty()
    }

    /// The lender of each borrowed file.
    pub(super) fn lenders(&self) -> impl Iterator<Item = &Lender> {
        let records = self.came.iter().filter_map(|file| self.get(*file));
        records.filter_map(|record| Some(&*record.origin()?.lent.as_ref()?.by))
    }

    /// Adds extents of a file that has at least this length, each unless there is one at its place. Returns the first at
    /// whose place there is another.
    pub(super) fn add(&mut self, file: FileId, extents: &[Extent], file_len: u64) -> Option<Extent> {
        let (policy, mut contradicted) = (self.policy, None);
        self.change(file, |record| {
            record.grow(file_len);
            for extent in extents {
                if !record.add(extent, policy.entry(extent.len)) {
                    contradicted.get_or_insert(*extent);
                }
            }
        });
        contradicted
    }

    /// Begins to change extents. An extent without a reference is removed.
    pub(super) fn visit(&mut self) -> Visit<'_> {
        Visit { files: self, visited: None }
    }

    /// Enters a file; one that is known stays as it is.
    pub(crate) fn enter(&mut self, file: FileId, record: impl FnOnce() -> FileRecord) {
        if !self.records.contains_key(&file) {
            let record = record();
            self.totals.replace(Gauges::default(), record.gauges());
            note(&mut self.open, file, record.is_open());
            note(&mut self.marked, file, record.marked);
            note(&mut self.came, file, record.origin().is_some());
            self.records.insert(file, record);
        }
    }

    /// Changes a file, and the sums with it. One that nobody refers to and nothing is appended to is dead then.
    pub(crate) fn change(&mut self, file: FileId, change: impl FnOnce(&mut FileRecord)) {
        let Some(record) = self.records.get_mut(&file) else { return };
        let before = record.gauges();
        change(record);
        self.note_changed(file, before);
    }

    /// Updates the sums and the sets after a change of a file. `before` is its part of the sums before that.
    fn note_changed(&mut self, file: FileId, before: Gauges) {
        let Some(record) = self.records.get(&file) else { return };
        self.totals.replace(before, record.gauges());
        note(&mut self.open, file, record.is_open());
        note(&mut self.came, file, record.origin().is_some());
        note(&mut self.marked, file, record.marked);
        note(&mut self.punchable, file, record.is_punchable());
        note(&mut self.linked, file, record.linked);
        note(&mut self.wasteful, file, self.policy.is_wasteful(record));
        if record.is_empty() && !record.is_open() {
            let (len, is_ours) = (record.len(), record.is_ours());
            self.disown(file);
            if is_ours {
                self.bury(file, len);
            }
        }
    }

    /// Takes out a file that is not ours after all.
    pub(crate) fn disown(&mut self, file: FileId) {
        let sets = [
            &mut self.open,
            &mut self.punchable,
            &mut self.wasteful,
            &mut self.marked,
            &mut self.came,
            &mut self.linked,
        ];
        for set in sets {
            set.remove(&file);
        }
        if let Some(record) = self.records.remove(&file) {
            self.totals.replace(record.gauges(), Gauges::default());
        }
    }

    /// A file that is to be removed.
    pub(crate) fn bury(&mut self, file: FileId, len: u64) {
        self.dead.insert(file, len);
    }

    /// Takes files that are to be removed, as far as they may be, until they have so many bytes; and whether there are
    /// more.
    pub(crate) fn exhume(&mut self, may: impl Fn(FileId) -> bool, budget: u64) -> (Vec<(FileId, u64)>, bool) {
        let (mut taken, mut bytes) = (Vec::new(), 0_u64);
        let mut permitted = self.dead.iter().filter(|(file, _)| may(**file)).map(|(file, len)| (*file, *len));
        while bytes < budget
            && let Some((file, len)) = permitted.next()
        {
            bytes = bytes.saturating_add(len.max(1));
            taken.push((file, len));
        }
        let more = permitted.next().is_some();
        drop(permitted);
        for (file, _) in &taken {
            self.dead.remove(file);
        }
        (taken, more)
    }

    pub(crate) fn dead_bytes(&self) -> u64 {
        self.dead.values().fold(0, |sum, len| sum.saturating_add(*len))
    }

    /// Forgets which files have other names: whoever had those may have removed them.
    pub(crate) fn recheck_links(&mut self) {
        for file in std::mem::take(&mut self.linked) {
            self.change(file, |record| record.linked = false);
        }
    }

    /// The first file worth punching, of those that may be.
    pub(crate) fn holes(&self, may: impl Fn(FileId) -> bool) -> Option<Holes> {
        let file = *self.punchable.iter().find(|file| may(**file))?;
        let record = self.get(file)?;
        let (ranges, dead_blocks) = (record.holes(), record.dead_blocks());
        Some(Holes { file, ranges, dead_blocks, allocated: record.gauges().allocated_bytes })
    }

    /// The files of which the states should be written anew. Mostly there are none, which costs nothing.
    pub(crate) fn marked(&self) -> HashSet<FileId> {
        self.marked.iter().copied().collect()
    }

    /// Marks files until the others take what they should, those with the most waste first.
    pub(crate) fn mark(&mut self) {
        let Some(limits) = self.policy.limits(self.totals.footprint) else { return };
        if self.totals.unmarked_size <= limits.unmarked {
            return;
        }
        // All open files together may have that much.
        let each = limits.open_garbage / (self.open.len() as u64).max(1);
        for file in self.by_waste(each.max(limits.least_open_garbage)) {
            if self.totals.unmarked_size <= limits.unmarked {
                return;
            }
            self.change(file, |record| record.marked = true);
        }
    }

    /// The files that should be rewritten, those with the most waste first: sealed ones that are worth it, open ones with
    /// more waste than this.
    fn by_waste(&self, open_garbage: u64) -> Vec<FileId> {
        let waste = |file: &FileId| self.get(*file).map_or(0, FileRecord::waste);
        let open = self.open.iter().filter(|file| self.get(**file).is_some_and(|file| !file.marked));
        let open = open.filter(|file| waste(file) > open_garbage);
        let mut files: Vec<_> = self.wasteful.iter().chain(open).map(|file| (waste(file), *file)).collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        files.into_iter().map(|(_, file)| file).collect()
    }
}

impl Visit<'_> {
    fn go_to(&mut self, file: FileId) -> Option<&mut Visited> {
        if self.visited.as_ref().is_none_or(|visited| visited.file != file) {
            self.leave();
            let record = std::mem::take(self.files.records.get_mut(&file)?);
            self.visited = Some(Visited { file, record, before: None });
        }
        self.visited.as_mut()
    }

    fn leave(&mut self) {
        let Some(Visited { file, record, before }) = self.visited.take() else { return };
        self.files.records.insert(file, record);
        if let Some(before) = before {
            self.files.note_changed(file, before);
        }
    }
}

impl Extents for Visit<'_> {
    fn with(&mut self, extent: &Extent, act: impl FnOnce(&mut ExtentRecord)) {
        self.at((extent.file, extent.offset), |record| {
            if record.is(extent) {
                act(record);
            }
        });
    }

    fn at(&mut self, (file, offset): At, act: impl FnOnce(&mut ExtentRecord)) {
        let policy = self.files.policy;
        let Some(Visited { record, before, .. }) = self.go_to(file) else { return };
        let Some(extent) = record.extent_mut(offset) else { return };
        act(extent);
        if extent.is_free() {
            let entry = policy.entry(extent.len);
            before.get_or_insert_with(|| record.gauges());
            record.remove(offset, entry);
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
impl Files {
    /// The sums, counted anew.
    pub(super) fn recount(&self) -> Gauges {
        let mut totals = Gauges::default();
        self.records.values().for_each(|record| totals.replace(Gauges::default(), record.gauges()));
        totals
    }
}
