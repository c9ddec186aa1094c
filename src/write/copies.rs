//! Copies of what a pending checkpoint has written, as long as it is little: its record has them, and the segments need no
//! sync of their own.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    format::record::{Redo, redo_len},
    handle::Extent,
    id::FileId,
};

/// The states that went to lanes.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// How much of a record they may take.
    most: u64,
    taken: u64,
    bytes: Vec<u8>,
    states: BTreeMap<(FileId, u64), Copied>,
}

#[derive(Debug)]
struct Copied {
    extent: Extent,
    place: Range<usize>,
    is_named: bool,
}

impl Copies {
    /// Of at most so many bytes; of none with 0.
    pub(super) fn new(most: u64) -> Self {
        Self { most, ..Self::default() }
    }

    /// Copies a state, or gives all copies up if they are too many by now.
    pub(super) fn add(&mut self, extent: &Extent, payload: &[u8]) {
        self.taken = self.taken.saturating_add(redo_len(extent.len));
        if self.taken > self.most {
            (self.bytes, self.states) = Default::default();
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        let place = start..self.bytes.len();
        self.states.insert((extent.file, extent.offset), Copied { extent: *extent, place, is_named: false });
    }

    /// Whether there is a copy of this state, which the manifest names.
    pub(super) fn name(&mut self, extent: &Extent) -> bool {
        let copied = self.states.get_mut(&(extent.file, extent.offset));
        copied.map(|copied| copied.is_named = true).is_some()
    }

    /// Keeps those that are named, in these files.
    pub(super) fn retain(&mut self, keep: impl Fn(FileId) -> bool) {
        self.states.retain(|(file, _), copied| copied.is_named && keep(*file));
    }

    /// What the record has.
    pub(crate) fn redo(&self) -> Vec<Redo<'_>> {
        let states = self.states.values();
        states
            .map(|Copied { extent, place, .. }| Redo {
                extent: *extent,
                bytes: self.bytes.get(place.clone()).unwrap_or_default(),
            })
            .collect()
    }
}
