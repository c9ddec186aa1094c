//! The counts of one worker: of its key groups, by window and word. A window that is complete leaves as a result.

use std::{collections::BTreeMap, ops::Range};

use indexmap::IndexMap;
use timely_piton::{
    Failure,
    groups::{self, Pieces},
    keyed::KeyedState,
};

use crate::{
    entries::{decode, encode},
    lines::Found,
    splits::WINDOW_LINES,
};

#[derive(Debug, Default)]
struct Count {
    times: u64,
    /// Whether it is in the list of changes.
    is_changed: bool,
}

/// One key group.
#[derive(Debug, Default)]
struct Group {
    windows: BTreeMap<u32, IndexMap<Box<str>, Count>>,
    /// By window, places in its map.
    changed: Vec<(u32, usize)>,
}

/// All key groups of a worker.
#[derive(Debug)]
pub(crate) struct Counts {
    range: Range<u32>,
    groups: Vec<Group>,
    /// The first window that is open.
    floor: u32,
    results: Vec<u8>,
}

/// The first window that is open when all events before the watermark were counted.
fn floor_of(watermark: u64) -> u32 {
    u32::try_from(watermark / WINDOW_LINES).unwrap_or(u32::MAX)
}

impl Counts {
    /// No counts, for some key groups. Windows before the watermark are complete and gone.
    pub(crate) fn new(range: Range<u32>, watermark: u64) -> Self {
        let groups = range.clone().map(|_| Group::default()).collect();
        Self { range, groups, floor: floor_of(watermark), results: Vec::new() }
    }

    /// Takes over a piece of a key group. A newer piece has newer counts.
    pub(crate) fn restore(&mut self, group: u32, piece: &[u8]) -> Result<(), Failure> {
        let Self { floor, groups, range, .. } = self;
        let windows = &mut groups[(group - range.start) as usize].windows;
        decode(piece, |window, word, times| {
            if window >= *floor {
                windows.entry(window).or_default().insert(word.into(), Count { times, is_changed: false });
            }
        })
    }

    /// How many bytes a snapshot would have.
    pub(crate) fn snapshot_bytes(&self) -> u64 {
        groups::len(&self.range.clone().zip(self.groups.iter().map(Group::encode_all)).collect())
    }
}

impl Group {
    fn add(&mut self, window: u32, word: String, times: u32) {
        let entry = self.windows.entry(window).or_default().entry(word.into_boxed_str());
        let place = entry.index();
        let count = entry.or_default();
        count.times += u64::from(times);
        if !std::mem::replace(&mut count.is_changed, true) {
            self.changed.push((window, place));
        }
    }

    /// The counts that changed, unless their window is gone.
    fn take_changes(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for (window, place) in self.changed.drain(..) {
            if let Some((word, count)) = self.windows.get_mut(&window).and_then(|counts| counts.get_index_mut(place)) {
                count.is_changed = false;
                encode(window, word, count.times, &mut bytes);
            }
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    fn encode_all(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (window, counts) in &self.windows {
            counts.iter().for_each(|(word, count)| encode(*window, word, count.times, &mut bytes));
        }
        bytes
    }
}

impl KeyedState for Counts {
    type Update = Found;

    fn group(update: &Found) -> u32 {
        update.group
    }

    fn apply(&mut self, Found { group, window, word, times }: Found) {
        assert!(window >= self.floor, "window {window} was complete before {word:?} was found in it");
        self.groups[(group - self.range.start) as usize].add(window, word, times);
    }

    fn advance(&mut self, watermark: u64) {
        self.floor = floor_of(watermark).max(self.floor);
        for group in &mut self.groups {
            let open = group.windows.split_off(&self.floor);
            for (window, counts) in std::mem::replace(&mut group.windows, open) {
                counts.iter().for_each(|(word, count)| encode(window, word, count.times, &mut self.results));
            }
        }
    }

    fn take_results(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.results)
    }

    fn take_changes(&mut self) -> Pieces {
        let groups = self.range.clone().zip(&mut self.groups);
        groups.filter_map(|(number, group)| Some((number, group.take_changes()?))).collect()
    }

    fn take_all(&mut self) -> Pieces {
        self.groups.iter_mut().for_each(|group| drop(group.take_changes()));
        self.range.clone().zip(self.groups.iter().map(Group::encode_all)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(window: u32, word: &str) -> Found {
        Found { group: groups::group_of(word.as_bytes()), window, word: word.to_owned(), times: 1 }
    }

    fn restored(pieces: &[Pieces], watermark: u64) -> Counts {
        let mut counts = Counts::new(0..128, watermark);
        for (group, piece) in pieces.iter().flatten() {
            counts.restore(*group, piece).unwrap();
        }
        counts
    }

    #[test]
    fn changes_on_top_of_older_ones_are_the_whole_state() {
        let mut counts = Counts::new(0..128, 0);
        let mut pieces = Vec::new();
        for words in [&["a", "b", "a"][..], &["b", "c"], &[]] {
            words.iter().for_each(|word| counts.apply(found(1, word)));
            pieces.push(counts.take_changes());
        }
        assert!(pieces[2].is_empty());
        let mut all = Vec::new();
        let snapshot = restored(&pieces, 0).take_all();
        snapshot
            .iter()
            .for_each(|(_, bytes)| decode(bytes, |_, word, times| all.push((word.to_owned(), times))).unwrap());
        all.sort();
        assert_eq!(all, [("a".into(), 2), ("b".into(), 2), ("c".into(), 1)]);
    }

    #[test]
    fn complete_window_is_a_result_once_and_does_not_come_back() {
        let mut counts = Counts::new(0..128, 0);
        counts.apply(found(0, "a"));
        let pieces = [counts.take_changes()];
        counts.advance(WINDOW_LINES - 1);
        assert!(counts.take_results().is_empty());
        counts.advance(WINDOW_LINES);
        assert!(!counts.take_results().is_empty() && counts.take_results().is_empty());
        let mut restored = restored(&pieces, WINDOW_LINES);
        restored.advance(u64::MAX);
        assert!(restored.take_results().is_empty());
    }
}
