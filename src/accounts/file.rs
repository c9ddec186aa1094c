//! One data file: the extents in it that are alive, and what it takes. Pure: no lock, no file.

use std::ops::Range;

use super::{gauges::Gauges, lives::ExtentRecord};
use crate::{
    format::segment::{HEADER_LEN, TRAILER_LEN, entry_end},
    handle::Extent,
    manifest::FileOrigin,
    ordered::OrdMap,
};

/// What holes are made of, here and in most file systems.
const BLOCK: u64 = 4096;

/// Whether states may still be appended to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Yes, many.
    Shared,
    /// The one that has it for itself is being written: nothing of it is waste yet.
    Streamed,
    /// No.
    #[default]
    Sealed,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct FileRecord {
    /// What a file takes before its first entry.
    base: u64,
    stage: Stage,
    /// Two manifests disagree about what is where.
    pub(super) disputed: bool,
    /// Length of the file in bytes.
    len: u64,
    /// Where the file really ends, if bytes that were counted are never written. `len` follows once no extent behind it is
    /// alive.
    cut_at: Option<u64>,
    /// What it takes on the medium, as far as is known.
    allocated: u64,
    /// Its states should be written anew, so that it can go.
    pub(super) marked: bool,
    /// It was found to have another name, and so is not punched.
    pub(crate) linked: bool,
    /// The member that made it has handed over a part with states in it: the store removes it then.
    handed_over: bool,
    /// As what it was written, if not under its name; boxed, because few are.
    origin: Option<Box<FileOrigin>>,
    /// By offset.
    extents: OrdMap<u64, ExtentRecord>,
    /// Of the live states, payloads alone. A hostile manifest may make sums wrap; they come back when it goes.
    live_bytes: u64,
    /// What the live states would take if they were written anew.
    footprint: u64,
    /// How many bytes are in blocks without a live byte.
    dead_blocks: u64,
    /// How many of those were there when holes were last punched: punching the same ones again gives nothing back.
    punched: u64,
}

/// How many bytes of whole blocks a run of dead bytes has.
fn whole_blocks(run: &Range<u64>) -> u64 {
    (run.end / BLOCK * BLOCK).saturating_sub(round_up(run.start))
}

/// Lengths that were read from disk may be anything.
fn round_up(offset: u64) -> u64 {
    offset.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX / BLOCK * BLOCK)
}

impl FileRecord {
    /// A file that is about to be created, for many states or for one alone.
    pub(super) fn new_open(own: bool, base: u64) -> Self {
        Self { base, stage: if own { Stage::Streamed } else { Stage::Shared }, ..Self::default() }
    }

    /// A file that was found on disk.
    pub(super) fn found(len: u64, allocated: u64, base: u64) -> Self {
        let dead_blocks = Self::tail(HEADER_LEN, len);
        Self { base, len, allocated, dead_blocks, punched: len.saturating_sub(allocated), ..Self::default() }
    }

    /// It was not written under its name. What is lent is not ours to do anything with but read, until its states are
    /// written anew.
    pub(super) fn come_from(&mut self, origin: FileOrigin) {
        self.marked |= origin.lent.is_some();
        self.origin = Some(Box::new(origin));
    }

    pub(crate) fn origin(&self) -> Option<&FileOrigin> {
        self.origin.as_deref()
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.origin().is_some_and(|origin| origin.lent.is_some())
    }

    /// A file that was linked or copied: it has this length, and takes this much.
    pub(super) fn fill(&mut self, len: u64, allocated: u64) {
        self.grow(len);
        self.allocated = allocated;
        self.punched = len.saturating_sub(allocated);
    }

    /// A part has states in it: from now on it is the store's to remove.
    pub(super) fn hand_over(&mut self) {
        self.handed_over = true;
    }

    /// Whether it is removed here once it is dead.
    pub(super) fn is_ours(&self) -> bool {
        !self.is_lent() && !self.handed_over
    }

    fn is_streamed(&self) -> bool {
        self.stage == Stage::Streamed
    }

    /// Whether states may still be appended.
    pub(super) fn is_open(&self) -> bool {
        self.stage != Stage::Sealed
    }

    pub(crate) fn seal(&mut self) {
        self.stage = Stage::Sealed;
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn extent(&self, offset: u64) -> Option<&ExtentRecord> {
        self.extents.get(&offset)
    }

    pub(super) fn extent_mut(&mut self, offset: u64) -> Option<&mut ExtentRecord> {
        self.extents.get_mut(&offset)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// One past the last live entry: so much of the file is complete, and stays as it is while that entry lives.
    fn live_end(&self) -> u64 {
        self.extents.last_key_value().map_or(0, |(offset, last)| entry_end(*offset, last.len))
    }

    /// The file has this many bytes now, if it had fewer.
    pub(crate) fn grow(&mut self, len: u64) {
        if len > self.len {
            self.end_at(len);
        }
    }

    /// The file ends here, and stays so: the bytes behind it were counted and will never be written.
    pub(crate) fn cut(&mut self, len: u64) {
        self.cut_at = Some(len);
        self.settle_end();
    }

    fn settle_end(&mut self) {
        if let Some(len) = self.cut_at.filter(|len| *len >= self.live_end()) {
            self.cut_at = None;
            if len < self.len {
                self.end_at(len);
            }
        }
    }

    fn end_at(&mut self, len: u64) {
        let last = self.live_end().max(HEADER_LEN);
        self.dead_blocks = self.dead_blocks + Self::tail(last, len) - Self::tail(last, self.len);
        self.allocated = (self.allocated + round_up(len)).saturating_sub(round_up(self.len));
        self.len = len;
    }

    /// Adds an extent, unless there is one at its place: false if that is another. `entry` is what it would take if it were
    /// written anew.
    pub(super) fn add(&mut self, extent: &Extent, entry: u64) -> bool {
        let Extent { offset, len, crc, .. } = *extent;
        if !self.is_behind_all(offset)
            && let Some(there) = self.extent(offset)
        {
            return there.is(extent);
        }
        self.insert(offset, ExtentRecord::new(len, crc), entry);
        true
    }

    /// Whether an offset is behind all extents. Mostly so: they are added in the order in which they are in the file.
    fn is_behind_all(&self, offset: u64) -> bool {
        self.extents.last_key_value().is_none_or(|(last, _)| *last < offset)
    }

    /// Whether no extent lies between these offsets.
    pub(super) fn has_room(&self, offset: u64, end: u64) -> bool {
        let before = self.extents.before(&offset.saturating_add(1));
        let after = self.extents.range_from(&offset.saturating_add(1)).next();
        before.is_none_or(|(before, record)| entry_end(*before, record.len) <= offset)
            && after.is_none_or(|(after, _)| *after >= end)
    }

    /// Adds an extent where there is none.
    fn insert(&mut self, offset: u64, record: ExtentRecord, entry: u64) {
        let (before, after) = self.gap_around(offset);
        let end = entry_end(offset, record.len);
        self.live_bytes = self.live_bytes.wrapping_add(record.len);
        self.footprint = self.footprint.wrapping_add(entry);
        let left = self.dead_in(before..offset) + self.dead_in(end..after);
        self.dead_blocks = (self.dead_blocks + left).saturating_sub(self.dead_in(before..after));
        self.extents.insert(offset, record);
    }

    /// Takes an extent out.
    pub(super) fn remove(&mut self, offset: u64, entry: u64) {
        let Some(record) = self.extents.remove(&offset) else { return };
        let (before, after) = self.gap_around(offset);
        let end = entry_end(offset, record.len);
        self.live_bytes = self.live_bytes.wrapping_sub(record.len);
        self.footprint = self.footprint.wrapping_sub(entry);
        let left = self.dead_in(before..offset) + self.dead_in(end..after);
        self.dead_blocks = (self.dead_blocks + self.dead_in(before..after)).saturating_sub(left);
        self.settle_end();
    }

    /// From the end of the entry before an offset to the beginning of the one after it, or to the end of the file.
    fn gap_around(&self, offset: u64) -> (u64, u64) {
        if self.is_behind_all(offset) {
            return (self.live_end().max(HEADER_LEN), self.len);
        }
        let before = self.extents.before(&offset);
        let after = self.extents.range_from(&offset.saturating_add(1)).next();
        let before = before.map_or(HEADER_LEN, |(offset, record)| entry_end(*offset, record.len));
        (before, after.map_or(self.len, |(offset, _)| *offset))
    }

    /// Within the file: a hostile manifest may name what lies beyond.
    fn dead_in(&self, run: Range<u64>) -> u64 {
        let run = run.start.min(self.len)..run.end.min(self.len);
        if run.end == self.len { Self::tail(run.start, run.end) } else { whole_blocks(&run) }
    }

    /// Behind the last byte of the file there is nothing alive: its last block counts as whole.
    fn tail(start: u64, len: u64) -> u64 {
        whole_blocks(&(start..round_up(len)))
    }

    /// The blocks without a live byte, as ranges in order. Found anew: a hole in the wrong place would be damage.
    pub(super) fn holes(&self) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        let mut end = HEADER_LEN;
        let file_end = round_up(self.len);
        for (offset, len) in self.extents.iter().map(|(offset, record)| (*offset, record.len)).chain([(file_end, 0)]) {
            let hole = round_up(end)..offset.min(file_end) / BLOCK * BLOCK;
            if !hole.is_empty() {
                holes.push(hole);
            }
            end = end.max(entry_end(offset, len));
        }
        holes
    }

    /// How many bytes punching would give back.
    pub(super) fn reclaimable(&self) -> u64 {
        if self.is_open() || self.is_lent() {
            0
        } else {
            self.dead_blocks.saturating_sub(self.punched).min(self.allocated)
        }
    }

    /// Whether punching is worth it: at least a quarter of what the file takes comes back.
    pub(super) fn is_punchable(&self) -> bool {
        self.reclaimable() > 0
            && self.reclaimable() >= self.allocated / 4
            && !self.is_empty()
            && !self.disputed
            && !self.linked
    }

    /// Holes were punched, or could not be, when this much was in dead blocks; the file takes this much now.
    pub(crate) fn note_punched(&mut self, dead_blocks: u64, allocated: u64) {
        self.punched = dead_blocks;
        self.allocated = allocated;
    }

    pub(super) fn dead_blocks(&self) -> u64 {
        self.dead_blocks
    }

    /// What the file takes without what its last block is filled up with: that nobody can help.
    pub(super) fn size(&self) -> u64 {
        if self.is_streamed() || self.is_lent() { 0 } else { self.allocated.min(self.len) }
    }

    /// How much less its live states would take elsewhere.
    pub(super) fn waste(&self) -> u64 {
        self.size().saturating_sub(self.footprint())
    }

    /// What its live states would take elsewhere.
    pub(super) fn footprint(&self) -> u64 {
        if self.is_streamed() || self.is_lent() { 0 } else { self.footprint.saturating_add(self.base) }
    }

    /// What the file is in the gauges.
    pub(super) fn gauges(&self) -> Gauges {
        if self.is_lent() {
            return Gauges { borrowed_files: 1, borrowed_bytes: self.live_bytes, ..Gauges::default() };
        }
        let entries = self.extents.len() as u64;
        let live = self.live_bytes.saturating_add(entries * TRAILER_LEN);
        let size = self.size();
        Gauges {
            logical_files: entries,
            logical_bytes: self.live_bytes,
            physical_files: 1,
            physical_bytes: self.len,
            allocated_bytes: self.allocated,
            dead_bytes: self.len.saturating_sub(live.saturating_add(HEADER_LEN)),
            open_files: u64::from(self.is_open()),
            marked_files: u64::from(self.marked),
            footprint: self.footprint(),
            unmarked_size: if self.marked { 0 } else { size },
            ..Gauges::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENTRY: u64 = 4160;

    fn record(len: u64) -> ExtentRecord {
        ExtentRecord::new(len, 0)
    }

    /// A file of entries of these lengths, one after another.
    fn filled(lens: &[u64]) -> (FileRecord, Vec<u64>) {
        let (mut file, mut at, mut offsets) = (FileRecord::new_open(false, HEADER_LEN), HEADER_LEN, Vec::new());
        for len in lens {
            at = at.next_multiple_of(64);
            file.grow(entry_end(at, *len));
            file.insert(at, record(*len), ENTRY);
            offsets.push(at);
            at = entry_end(at, *len);
        }
        (file, offsets)
    }

    proptest! {
        #[test]
        fn dead_blocks_are_those_of_the_holes_whatever_dies_in_whatever_order(
            lens in prop::collection::vec(0_u64..20_000, 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut file, mut offsets) = filled(&lens);
            let end = cut.index(usize::try_from(file.len()).unwrap()) as u64;
            for (n, index) in order.into_iter().enumerate() {
                if n == 3 {
                    file.cut(end);
                }
                let holes: u64 = file.holes().iter().map(|hole| hole.end - hole.start).sum();
                prop_assert_eq!(file.dead_blocks(), holes);
                if offsets.is_empty() { break }
                file.remove(offsets.swap_remove(index.index(offsets.len())), ENTRY);
            }
            prop_assert!(file.cut_at.is_none_or(|end| file.live_end() > end));
            let mut live = file.extents.iter().map(|(offset, record)| *offset..entry_end(*offset, record.len));
            prop_assert!(file.holes().iter().all(|hole| live.all(|e| e.end <= hole.start || hole.end <= e.start)));
            let found = FileRecord::found(file.len(), file.len(), HEADER_LEN);
            prop_assert_eq!(found.dead_blocks(), FileRecord::tail(HEADER_LEN, file.len()));
        }
    }

    #[test]
    fn file_is_worth_punching_when_a_quarter_of_it_comes_back_and_only_once() {
        let (mut file, offsets) = filled(&[8192 - 48 - 64; 8]);
        file.seal();
        offsets[1..3].iter().for_each(|offset| file.remove(*offset, ENTRY));
        assert!(!file.is_punchable(), "three blocks of seventeen");
        file.remove(offsets[3], ENTRY);
        assert!(file.is_punchable(), "five blocks of seventeen");
        let (dead, allocated) = (file.dead_blocks(), file.gauges().allocated_bytes);
        file.note_punched(dead, allocated - dead);
        assert!(!file.is_punchable() && file.reclaimable() == 0);
        assert_eq!(file.gauges().allocated_bytes, allocated - dead);
    }

    #[test]
    fn overlapping_extents_of_a_hostile_manifest_never_make_a_hole_under_a_live_one() {
        let mut file = FileRecord::found(1 << 20, 1 << 20, HEADER_LEN);
        file.insert(64, record(500_000), ENTRY);
        file.insert(4096, record(10), ENTRY);
        file.insert(300_000, record(10), ENTRY);
        file.remove(4096, ENTRY);
        assert!(file.holes().iter().all(|hole| hole.start >= 500_064), "{:?}", file.holes());
    }
}
