//! Groups, the extents they refer to, and who holds them. Pure: no lock, no file.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::{
    file::{ExtentRecord, FileRecord},
    files::Files,
    group::{Group, Holder},
    space::SpacePolicy,
};
use crate::{disk::SharedGuard, format::segment::entry_end, handle::Extent, id::FileId, manifest::FileOrigin};

#[derive(Debug)]
pub(super) struct Extents {
    groups: HashMap<Group, GroupRecord>,
    pub(super) files: Files,
}

/// What is known of a file that was not written here just now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) len: u64,
    pub(super) allocated: u64,
    pub(super) origin: Option<&'a FileOrigin>,
    pub(super) pin: Option<&'a SharedGuard>,
}

/// So many extents are passed over, before the next one is looked for from the top.
const MOST_PASSED: usize = 8;

#[derive(Debug, Default)]
struct GroupRecord {
    holders: Vec<Holder>,
    /// Whether it ever had a manifest: then everything it refers to is durable.
    published: bool,
    extents: Vec<(FileId, u64)>,
    /// Files that were adopted: everything in them that the group refers to.
    files: Vec<FileId>,
}

impl Extents {
    pub(super) fn new(policy: SpacePolicy) -> Self {
        Self { groups: HashMap::new(), files: Files::new(policy) }
    }

    /// Adds a holder; the group begins to exist with its first one.
    pub(super) fn hold(&mut self, group: Group, holder: Holder) {
        let record = self.groups.entry(group).or_default();
        record.published |= holder == Holder::Manifest;
        if !record.holders.contains(&holder) {
            record.holders.push(holder);
        }
    }

    /// Adds an extent that was found in a manifest, in a file of this length that takes this much. False if another
    /// manifest says that another state is there, or that the file came from somewhere else.
    pub(super) fn add_found(&mut self, group: Group, extent: &Extent, found: Found<'_>) -> bool {
        let Found { len, allocated, origin, pin } = found;
        let base = self.files.policy().base();
        self.files.enter(extent.file, || {
            let mut record = FileRecord::found(len, allocated, base);
            if let Some(origin) = origin {
                record.come_from(origin.clone(), pin.cloned());
            }
            record
        });
        let agrees = self.agrees(extent) && self.files.get(extent.file).is_some_and(|file| file.origin() == origin);
        if !agrees {
            self.files.change(extent.file, |file| file.disputed = true);
        }
        self.add(group, extent, len);
        agrees
    }

    /// Whether no other state is known to be there.
    fn agrees(&self, extent: &Extent) -> bool {
        let there = self.files.get(extent.file).and_then(|file| file.extent(extent.offset));
        there.is_none_or(|there| there.is(extent))
    }

    /// Fills a file that is being created with states that were not written here, all at once, and seals it. Returns the
    /// first that another one contradicts.
    pub(super) fn adopt(
        &mut self,
        group: Group,
        file: FileId,
        from: Found<'_>,
        extents: &[Extent],
    ) -> Result<(), Extent> {
        let Found { len, allocated, origin, pin } = from;
        self.files.change(file, |record| {
            record.fill(len, allocated);
            if let Some(origin) = origin {
                record.come_from(origin.clone(), pin.cloned());
            }
        });
        if let Some([_, wrong]) = extents.array_windows().find(|[one, other]| one.offset >= other.offset) {
            return Err(*wrong);
        }
        let policy = self.files.policy();
        self.files.change(file, |record| {
            record.insert_all(group, extents, |len| policy.entry(len));
            record.seal();
        });
        self.groups.entry(group).or_default().files.push(file);
        Ok(())
    }

    /// Adds more states of such a file.
    pub(super) fn adopt_more(&mut self, group: Group, file: FileId, extents: &[Extent]) -> Result<(), Extent> {
        for extent in extents.iter().map(|extent| Extent { file, ..*extent }) {
            if !self.agrees(&extent) {
                return Err(extent);
            }
            self.add(group, &extent, 0);
        }
        Ok(())
    }

    /// Whether a group may refer to all of these extents of one file, which are in order; else returns the first that it
    /// may not.
    pub(super) fn may_refer_all(&self, group: Group, extents: &[Extent], newest: Option<Group>) -> Result<(), Extent> {
        let Some(first) = extents.first() else { return Ok(()) };
        let file = self.files.get(first.file).ok_or(*first)?;
        let mut known = None;
        let mut may = |other: &Group| match known {
            Some((group, answer)) if group == *other => answer,
            _ => {
                let answer = self.may_share(group, *other, (first.file, file.is_lent()), newest);
                known = Some((*other, answer));
                answer
            }
        };
        let mut records = file.extents_from(first.offset);
        for extent in extents {
            let is_it = |(offset, _): &(u64, &ExtentRecord)| *offset == extent.offset;
            let near = records.by_ref().take(MOST_PASSED).find(|(offset, _)| *offset >= extent.offset).filter(is_it);
            let record = near.or_else(|| {
                records = file.extents_from(extent.offset);
                records.next().filter(is_it)
            });
            let record = record.map(|(_, record)| record);
            let is_there = entry_end(extent.offset, extent.len) <= file.len();
            let record = record.filter(|record| is_there && record.is(extent) && !record.bad);
            if !record.is_some_and(|record| record.groups.iter().any(&mut may)) {
                return Err(*extent);
            }
        }
        Ok(())
    }

    /// Whether what one group refers to another one may refer to as well.
    fn may_share(&self, group: Group, other: Group, (file, lent): (FileId, bool), newest: Option<Group>) -> bool {
        let record = self.groups.get(&other);
        if lent {
            // The one that is being imported has adopted it.
            return newest == Some(other)
                || record.is_some_and(|record| other == group && record.files.contains(&file));
        }
        other == group || record.is_some_and(|other| other.published)
    }

    /// A file that is about to be created, for many states or for one alone.
    pub(super) fn create(&mut self, file: FileId, own: bool) {
        let base = self.files.policy().base();
        self.files.enter(file, || FileRecord::new_open(own, base));
    }

    /// Adds an extent that was just written, in a file that has this length now.
    pub(super) fn add(&mut self, group: Group, extent: &Extent, file_len: u64) {
        let Extent { file, offset, len, crc } = *extent;
        let entry = self.files.policy().entry(len);
        self.files.change(file, |record| {
            record.grow(file_len);
            if record.extent(offset).is_none() {
                record.insert(offset, ExtentRecord { len, crc, bad: false, groups: SmallVec::new() }, entry);
            }
        });
        self.link(group, extent);
    }

    /// Lets a group refer to an extent that it refers to already, or that a published checkpoint does, that the file is
    /// long enough for, and that is not known to be damaged; false otherwise. What another pending checkpoint wrote may
    /// never become durable.
    ///
    /// What is lent may be referred to for as long as the newest checkpoint does: once there is one that can do without, so
    /// can all that follow.
    pub(super) fn refer(&mut self, group: Group, extent: &Extent, newest: Option<Group>) -> bool {
        let may = self.may_refer(group, extent, newest);
        if may {
            self.link(group, extent);
        }
        may
    }

    pub(super) fn may_refer(&self, group: Group, extent: &Extent, newest: Option<Group>) -> bool {
        let lent = self.files.get(extent.file).is_some_and(FileRecord::is_lent);
        self.could_refer(extent, |other| self.may_share(group, other, (extent.file, lent), newest))
    }

    /// Whether a published checkpoint refers to an extent that can be referred to, in a file that is not marked.
    pub(super) fn could_reuse(&self, extent: &Extent) -> bool {
        let published = |group| self.groups.get(&group).is_some_and(|group| group.published);
        !self.is_marked(extent.file) && self.could_refer(extent, published)
    }

    fn could_refer(&self, extent: &Extent, may: impl Fn(Group) -> bool) -> bool {
        let needed = entry_end(extent.offset, extent.len);
        let file = self.files.get(extent.file).filter(|file| needed <= file.len());
        let record = file.and_then(|file| file.extent(extent.offset));
        record.is_some_and(|record| record.is(extent) && !record.bad && record.groups.iter().any(|group| may(*group)))
    }

    /// Lets a group refer to an extent that another one refers to.
    pub(super) fn inherit(&mut self, group: Group, from: Group, extent: &Extent) {
        if self.refers(from, extent) {
            self.link(group, extent);
        }
    }

    /// Whether a group refers to exactly this extent.
    pub(super) fn refers(&self, group: Group, extent: &Extent) -> bool {
        let record = self.files.get(extent.file).and_then(|file| file.extent(extent.offset));
        record.is_some_and(|record| record.is(extent) && record.groups.binary_search(&group).is_ok())
    }

    /// Remembers that the bytes of an extent are damaged. Returns the groups that refer to it.
    pub(super) fn mark_bad(&mut self, extent: &Extent) -> Vec<Group> {
        let record = self.files.referrers(extent.file).and_then(|file| file.extent_mut(extent.offset));
        record.filter(|record| record.is(extent)).map_or_else(Vec::new, |record| {
            record.bad = true;
            record.groups.to_vec()
        })
    }

    /// Whether the states of a file should be written anew.
    pub(super) fn is_marked(&self, file: FileId) -> bool {
        self.files.get(file).is_some_and(|file| file.marked)
    }

    /// Takes a holder away; what nobody refers to any more is dead then. An unknown one is no error.
    pub(super) fn release(&mut self, group: Group, holder: Holder) {
        let Some(record) = self.groups.get_mut(&group) else { return };
        record.holders.retain(|other| *other != holder);
        if !record.holders.is_empty() {
            return;
        }
        let (extents, files) = (std::mem::take(&mut record.extents), std::mem::take(&mut record.files));
        self.groups.remove(&group);
        for (file, offset) in extents {
            self.unlink(group, file, offset);
        }
        for file in files {
            self.unlink_all(group, file);
        }
    }

    /// Marks files for being written anew, if the store takes too much space.
    pub(super) fn mark(&mut self) {
        self.files.mark();
    }

    fn link(&mut self, group: Group, extent: &Extent) {
        let file = self.files.referrers(extent.file);
        let Some(record) = file.and_then(|file| file.extent_mut(extent.offset)) else { return };
        if let Err(at) = record.groups.binary_search(&group) {
            record.groups.insert(at, group);
            self.groups.entry(group).or_default().extents.push((extent.file, extent.offset));
        }
    }

    /// Takes a group from every extent of a file.
    fn unlink_all(&mut self, group: Group, file: FileId) {
        let Some(record) = self.files.get(file) else { return };
        let offsets: Vec<_> = record.extents_from(0).map(|(offset, _)| offset).collect();
        for offset in offsets {
            self.unlink(group, file, offset);
        }
    }

    /// Takes a group from an extent.
    fn unlink(&mut self, group: Group, file: FileId, offset: u64) {
        let record = self.files.referrers(file).and_then(|file| file.extent_mut(offset));
        let Some(record) = record else { return };
        if let Ok(at) = record.groups.binary_search(&group) {
            record.groups.remove(at);
        }
        if record.groups.is_empty() {
            let len = record.len;
            let entry = self.files.policy().entry(len);
            self.files.change(file, |file| file.remove(offset, entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::Scope, options::Options};

    fn extents() -> Extents {
        Extents::new(SpacePolicy::of(&Options::new()).unwrap())
    }

    fn extent(sequence: u64, offset: u64) -> Extent {
        let file = FileId { scope: Scope::Shared, generation: 1, lane: 0, sequence };
        Extent { file, offset, len: 8, crc: 1 }
    }

    fn found(len: u64, allocated: u64) -> Found<'static> {
        Found { len, allocated, origin: None, pin: None }
    }

    fn dead(extents: &mut Extents) -> Vec<(FileId, u64)> {
        extents.files.exhume(|_| true, u64::MAX).0
    }

    #[test]
    fn file_dies_with_the_last_group_that_refers_to_any_of_it_in_any_order() {
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut extents = extents();
            for number in 1..=3 {
                extents.hold(Group(number), Holder::Manifest);
                extents.add_found(Group(number), &extent(7, number * 64), found(1000, 4096));
                assert!(extents.refer(Group(number), &extent(7, 64), None));
            }
            let died = order.map(|n| {
                extents.release(Group(n), Holder::Manifest);
                assert_eq!(*extents.files.totals(), extents.files.recount());
                dead(&mut extents)
            });
            assert!(died[0].is_empty() && died[1].is_empty(), "{order:?}");
            assert_eq!(died[2], [(extent(7, 0).file, 1000)]);
            assert!(extents.groups.is_empty());
            assert_eq!(extents.files.totals().physical_files, 0);
        }
    }

    #[test]
    fn open_file_outlives_its_states_and_dies_when_it_is_sealed() {
        let mut extents = extents();
        extents.create(extent(1, 0).file, false);
        extents.hold(Group(1), Holder::Pending);
        extents.add(Group(1), &extent(1, 64), 120);
        extents.release(Group(1), Holder::Pending);
        assert!(dead(&mut extents).is_empty());
        assert_eq!(extents.files.totals().dead_bytes, 120 - 64);
        extents.files.change(extent(1, 0).file, FileRecord::seal);
        assert_eq!(dead(&mut extents), [(extent(1, 0).file, 120)]);
    }

    #[test]
    fn repeated_and_unknown_notifications_change_nothing() {
        let mut extents = extents();
        extents.hold(Group(1), Holder::Pending);
        extents.add_found(Group(1), &extent(1, 64), found(120, 120));
        extents.add(Group(1), &extent(1, 64), 120);
        extents.hold(Group(1), Holder::Reader(4));
        for (group, holder) in [(9, Holder::Pending), (1, Holder::Pending), (1, Holder::Pending)] {
            extents.release(Group(group), holder);
            assert!(dead(&mut extents).is_empty());
        }
        assert!(extents.refers(Group(1), &extent(1, 64)));
        extents.release(Group(1), Holder::Reader(4));
        extents.release(Group(1), Holder::Reader(4));
        assert_eq!(dead(&mut extents).len(), 1);
    }

    #[test]
    fn state_of_another_pending_checkpoint_or_beyond_its_file_cannot_be_referred_to() {
        let mut extents = extents();
        extents.hold(Group(1), Holder::Pending);
        extents.add_found(Group(1), &extent(1, 64), found(120, 120));
        assert!(extents.refer(Group(1), &extent(1, 64), None), "its own");
        assert!(!extents.refer(Group(2), &extent(1, 64), None), "it may never become durable");
        extents.hold(Group(1), Holder::Manifest);
        assert!(extents.refer(Group(2), &extent(1, 64), None));
        extents.add(Group(1), &extent(1, 96), 119);
        assert!(!extents.refer(Group(2), &extent(1, 96), None), "the file ends inside of it");
    }

    #[test]
    fn extent_of_another_length_or_checksum_is_another_extent() {
        let mut extents = extents();
        extents.hold(Group(1), Holder::Manifest);
        extents.add_found(Group(1), &extent(1, 64), found(120, 120));
        for other in [Extent { len: 7, ..extent(1, 64) }, Extent { crc: 2, ..extent(1, 64) }, extent(1, 65)] {
            assert!(!extents.refer(Group(2), &other, None) && !extents.refers(Group(1), &other));
        }
    }

    #[test]
    fn file_about_which_two_manifests_disagree_is_not_punched() {
        let mut extents = extents();
        let long = Extent { len: 500_000, ..extent(1, 64) };
        extents.hold(Group(1), Holder::Manifest);
        assert!(extents.add_found(Group(1), &extent(1, 64), found(1 << 20, 1 << 20)));
        extents.add_found(Group(1), &extent(1, 128), found(1 << 20, 1 << 20));
        assert!(extents.files.holes(|_| true).is_some());
        extents.hold(Group(2), Holder::Manifest);
        assert!(!extents.add_found(Group(2), &long, found(1 << 20, 1 << 20)));
        assert!(extents.files.holes(|_| true).is_none(), "the longer state may be the right one");
        assert!(!extents.refers(Group(2), &long), "and whoever names it is damaged");
    }

    #[test]
    fn lengths_of_a_hostile_manifest_neither_panic_nor_stay_in_the_sums() {
        let mut extents = extents();
        extents.hold(Group(1), Holder::Manifest);
        for (offset, len) in [(64, u64::MAX - 64), (1 << 40, u64::MAX), (u64::MAX, 0), (128, 8), (100, 1 << 62)] {
            extents.add_found(Group(1), &Extent { len, ..extent(1, offset) }, found(120, 4096));
        }
        assert_eq!(*extents.files.totals(), extents.files.recount());
        extents.mark();
        extents.release(Group(1), Holder::Manifest);
        assert_eq!(*extents.files.totals(), extents.files.recount());
        assert_eq!(dead(&mut extents).len(), 1);
    }
}
