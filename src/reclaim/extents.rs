//! Groups, the extents they refer to, and who holds them. Pure: no lock, no file.

use std::collections::{BTreeMap, HashMap};

use crate::{format::segment::TRAILER_LEN, handle::Extent, id::FileId};

/// One attempt at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(pub(super) u64);

/// Who keeps a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Pending,
    Manifest,
    /// A manifest that was removed, and may come back until the removal is durable.
    Removed,
    Reader(u64),
}

/// A data file that nobody refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadFile {
    pub(crate) file: FileId,
    pub(crate) len: u64,
}

#[derive(Debug, Default)]
pub(super) struct Extents {
    groups: HashMap<Group, GroupRecord>,
    files: HashMap<FileId, FileRecord>,
}

#[derive(Debug, Default)]
struct GroupRecord {
    holders: Vec<Holder>,
    /// Whether it ever had a manifest: then everything it refers to is durable.
    published: bool,
    extents: Vec<(FileId, u64)>,
}

#[derive(Debug, Default)]
struct FileRecord {
    /// Length of the file in bytes.
    len: u64,
    /// By offset.
    extents: BTreeMap<u64, ExtentRecord>,
}

#[derive(Debug)]
struct ExtentRecord {
    len: u64,
    crc: u32,
    /// Its bytes were found to be damaged.
    bad: bool,
    /// A handful: the retained checkpoints at most.
    groups: Vec<Group>,
}

impl Extents {
    /// Adds a holder; the group begins to exist with its first one.
    pub(super) fn hold(&mut self, group: Group, holder: Holder) {
        let record = self.groups.entry(group).or_default();
        record.published |= holder == Holder::Manifest;
        if !record.holders.contains(&holder) {
            record.holders.push(holder);
        }
    }

    /// Adds an extent that was just written, in a file of this length, or found in a manifest.
    pub(super) fn add(&mut self, group: Group, extent: &Extent, file_len: u64) {
        let file = self.files.entry(extent.file).or_default();
        file.len = file.len.max(file_len);
        let record = file.extents.entry(extent.offset);
        let record =
            record.or_insert_with(|| ExtentRecord { len: extent.len, crc: extent.crc, bad: false, groups: Vec::new() });
        Self::link(&mut self.groups, record, group, extent);
    }

    /// Lets a group refer to an extent that it refers to already, or that a published checkpoint does, that the file is
    /// long enough for, and that is not known to be damaged; false otherwise. What another pending checkpoint wrote may
    /// never become durable.
    pub(super) fn refer(&mut self, group: Group, extent: &Extent) -> bool {
        let needed = extent.end().saturating_add(TRAILER_LEN);
        let Some(file) = self.files.get_mut(&extent.file).filter(|file| needed <= file.len) else {
            return false;
        };
        let Some(record) = file.extents.get_mut(&extent.offset).filter(|record| record.is(extent) && !record.bad)
        else {
            return false;
        };
        let groups = &self.groups;
        let may = |other: &Group| *other == group || groups.get(other).is_some_and(|other| other.published);
        if !record.groups.iter().any(may) {
            return false;
        }
        Self::link(&mut self.groups, record, group, extent);
        true
    }

    /// Lets a group refer to an extent that another one refers to.
    pub(super) fn inherit(&mut self, group: Group, from: Group, extent: &Extent) {
        let file = self.files.get_mut(&extent.file);
        let record = file.and_then(|file| file.extents.get_mut(&extent.offset));
        if let Some(record) = record.filter(|record| record.is(extent) && record.groups.contains(&from)) {
            Self::link(&mut self.groups, record, group, extent);
        }
    }

    /// Whether a group refers to exactly this extent.
    pub(super) fn refers(&self, group: Group, extent: &Extent) -> bool {
        let record = self.files.get(&extent.file).and_then(|file| file.extents.get(&extent.offset));
        record.is_some_and(|record| record.is(extent) && record.groups.contains(&group))
    }

    /// Remembers that the bytes of an extent are damaged. Returns the groups that refer to it.
    pub(super) fn mark_bad(&mut self, extent: &Extent) -> Vec<Group> {
        let file = self.files.get_mut(&extent.file);
        let record = file.and_then(|file| file.extents.get_mut(&extent.offset)).filter(|record| record.is(extent));
        record.map_or_else(Vec::new, |record| {
            record.bad = true;
            record.groups.clone()
        })
    }

    /// Whether anybody refers to anything in this file.
    pub(super) fn knows(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    /// Takes a holder away; returns the files that nobody refers to any more. Unknown ones are no error.
    pub(super) fn release(&mut self, group: Group, holder: Holder) -> Vec<DeadFile> {
        let Some(record) = self.groups.get_mut(&group) else { return Vec::new() };
        record.holders.retain(|other| *other != holder);
        if !record.holders.is_empty() {
            return Vec::new();
        }
        let extents = std::mem::take(&mut record.extents);
        self.groups.remove(&group);
        extents.into_iter().filter_map(|(file, offset)| self.unlink(group, file, offset)).collect()
    }

    fn link(groups: &mut HashMap<Group, GroupRecord>, record: &mut ExtentRecord, group: Group, extent: &Extent) {
        if !record.groups.contains(&group) {
            record.groups.push(group);
            groups.entry(group).or_default().extents.push((extent.file, extent.offset));
        }
    }

    /// Takes a group from an extent; returns the file if it has no live extent left.
    fn unlink(&mut self, group: Group, file: FileId, offset: u64) -> Option<DeadFile> {
        let record = self.files.get_mut(&file)?;
        let extent = record.extents.get_mut(&offset)?;
        extent.groups.retain(|other| *other != group);
        if extent.groups.is_empty() {
            record.extents.remove(&offset);
        }
        if !record.extents.is_empty() {
            return None;
        }
        let len = record.len;
        self.files.remove(&file);
        Some(DeadFile { file, len })
    }
}

impl ExtentRecord {
    fn is(&self, extent: &Extent) -> bool {
        (self.len, self.crc) == (extent.len, extent.crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Scope;

    fn extent(sequence: u64, offset: u64) -> Extent {
        let file = FileId { scope: Scope::Shared, generation: 1, lane: 0, sequence };
        Extent { file, offset, len: 8, crc: 1 }
    }

    #[test]
    fn file_dies_with_the_last_group_that_refers_to_any_of_it_in_any_order() {
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut extents = Extents::default();
            for number in 1..=3 {
                extents.hold(Group(number), Holder::Manifest);
                extents.add(Group(number), &extent(7, number * 64), 1000);
                assert!(extents.refer(Group(number), &extent(7, 64)));
            }
            let died: Vec<_> = order.iter().map(|n| extents.release(Group(*n), Holder::Manifest)).collect();
            assert!(died[0].is_empty() && died[1].is_empty(), "{order:?}");
            assert_eq!(died[2], [DeadFile { file: extent(7, 0).file, len: 1000 }]);
            assert!(extents.files.is_empty() && extents.groups.is_empty());
        }
    }

    #[test]
    fn repeated_and_unknown_notifications_change_nothing() {
        let mut extents = Extents::default();
        extents.hold(Group(1), Holder::Pending);
        extents.add(Group(1), &extent(1, 64), 120);
        extents.add(Group(1), &extent(1, 64), 120);
        extents.hold(Group(1), Holder::Reader(4));
        assert!(extents.release(Group(9), Holder::Pending).is_empty());
        assert!(extents.release(Group(1), Holder::Pending).is_empty());
        assert!(extents.release(Group(1), Holder::Pending).is_empty());
        assert!(extents.refers(Group(1), &extent(1, 64)));
        assert_eq!(extents.release(Group(1), Holder::Reader(4)).len(), 1);
        assert!(extents.release(Group(1), Holder::Reader(4)).is_empty());
    }

    #[test]
    fn state_of_another_pending_checkpoint_or_beyond_its_file_cannot_be_referred_to() {
        let mut extents = Extents::default();
        extents.hold(Group(1), Holder::Pending);
        extents.add(Group(1), &extent(1, 64), 120);
        assert!(extents.refer(Group(1), &extent(1, 64)), "its own");
        assert!(!extents.refer(Group(2), &extent(1, 64)), "it may never become durable");
        extents.hold(Group(1), Holder::Manifest);
        assert!(extents.refer(Group(2), &extent(1, 64)));
        extents.add(Group(1), &extent(1, 96), 119);
        assert!(!extents.refer(Group(2), &extent(1, 96)), "the file ends inside of it");
    }

    #[test]
    fn extent_of_another_length_or_checksum_is_another_extent() {
        let mut extents = Extents::default();
        extents.hold(Group(1), Holder::Manifest);
        extents.add(Group(1), &extent(1, 64), 120);
        for other in [Extent { len: 7, ..extent(1, 64) }, Extent { crc: 2, ..extent(1, 64) }, extent(1, 65)] {
            assert!(!extents.refer(Group(2), &other) && !extents.refers(Group(1), &other));
        }
    }
}
