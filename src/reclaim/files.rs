//! Every data file of the store that anybody needs, their sums, and those that nobody needs any more. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use super::{file::FileRecord, gauges::Gauges};
use crate::id::FileId;

#[derive(Debug, Default)]
pub(super) struct Files {
    records: HashMap<FileId, FileRecord>,
    totals: Gauges,
    /// Those worth punching.
    punchable: BTreeSet<FileId>,
    /// Those to be removed, with their lengths: nobody refers to them, and nothing is appended to them.
    dead: BTreeMap<FileId, u64>,
}

/// Holes that can be punched into a file.
#[derive(Debug)]
pub(crate) struct Holes {
    pub(super) file: FileId,
    pub(super) ranges: Vec<Range<u64>>,
    pub(super) dead_blocks: u64,
    /// What the file took before.
    pub(super) allocated: u64,
}

impl Files {
    pub(super) fn totals(&self) -> &Gauges {
        &self.totals
    }

    pub(super) fn get(&self, file: FileId) -> Option<&FileRecord> {
        self.records.get(&file)
    }

    /// For changes of who refers to a live extent alone: everything else goes through [`change`](Self::change).
    pub(super) fn referrers(&mut self, file: FileId) -> Option<&mut FileRecord> {
        self.records.get_mut(&file)
    }

    /// Enters a file; one that is known stays as it is.
    pub(super) fn enter(&mut self, file: FileId, record: impl FnOnce() -> FileRecord) {
        if !self.records.contains_key(&file) {
            let record = record();
            self.totals.replace(Gauges::default(), record.gauges());
            self.records.insert(file, record);
        }
    }

    /// Changes a file, and the sums with it. One that nobody refers to and nothing is appended to is dead then.
    pub(super) fn change(&mut self, file: FileId, change: impl FnOnce(&mut FileRecord)) {
        let Some(record) = self.records.get_mut(&file) else { return };
        let before = record.gauges();
        change(record);
        self.totals.replace(before, record.gauges());
        if record.is_punchable() {
            self.punchable.insert(file);
        } else {
            self.punchable.remove(&file);
        }
        if record.is_empty() && !record.open {
            let len = record.len();
            self.disown(file);
            self.bury(file, len);
        }
    }

    /// Takes out a file that is not ours after all.
    pub(super) fn disown(&mut self, file: FileId) {
        self.punchable.remove(&file);
        if let Some(record) = self.records.remove(&file) {
            self.totals.replace(record.gauges(), Gauges::default());
        }
    }

    /// A file that is to be removed.
    pub(super) fn bury(&mut self, file: FileId, len: u64) {
        self.dead.insert(file, len);
    }

    /// Takes the files that are to be removed, as far as they may be.
    pub(super) fn exhume(&mut self, may: impl Fn(FileId) -> bool) -> Vec<(FileId, u64)> {
        self.dead.extract_if(.., |file, _| may(*file)).collect()
    }

    pub(super) fn dead_bytes(&self) -> u64 {
        self.dead.values().sum()
    }

    /// The first file worth punching, of those that may be.
    pub(super) fn holes(&self, may: impl Fn(FileId) -> bool) -> Option<Holes> {
        let file = *self.punchable.iter().find(|file| may(**file))?;
        let record = self.get(file)?;
        let (ranges, dead_blocks) = (record.holes(), record.dead_blocks());
        Some(Holes { file, ranges, dead_blocks, allocated: record.gauges().allocated_bytes })
    }

    /// The files of which this is true, those with the most waste first.
    pub(super) fn by_waste(&self, wanted: impl Fn(&FileRecord) -> bool) -> Vec<FileId> {
        let wanted = self.records.iter().filter(|(_, record)| !record.marked && wanted(record));
        let mut files: Vec<_> = wanted.map(|(file, record)| (record.waste(), *file)).collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        files.into_iter().map(|(_, file)| file).collect()
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
