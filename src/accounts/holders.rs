//! Who holds which checkpoints of the line, and which extents by themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{CheckpointId, FileId};

use super::{line::At, lives::Number};

/// Places in files, each once.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<FileId, BTreeSet<u64>>);

impl Places {
    pub(super) fn insert(&mut self, (file, offset): At) {
        self.0.entry(file).or_default().insert(offset);
    }

    pub(super) fn contains(&self, (file, offset): At) -> bool {
        self.0.get(&file).is_some_and(|offsets| offsets.contains(&offset))
    }

    /// All places, file by file.
    pub(super) fn each(self) -> impl Iterator<Item = At> {
        self.0.into_iter().flat_map(|(file, offsets)| offsets.into_iter().map(move |offset| (file, offset)))
    }
}

/// A pending checkpoint, or a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder(pub(super) u64);

/// What it holds, each once.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) checkpoints: Vec<Number>,
    pub(super) extents: Places,
    /// Files that it brought in, which nobody else refers to yet.
    pub(super) adopted: Vec<FileId>,
    /// The checkpoint that it is an attempt at.
    pub(super) attempt: Option<CheckpointId>,
}
