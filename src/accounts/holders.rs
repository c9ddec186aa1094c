//! Who holds which checkpoints of the line, and which extents by themselves.

use std::collections::BTreeSet;

use crate::id::{CheckpointId, FileId};

use super::{line::At, lives::Number};

/// A pending checkpoint, or a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder(pub(super) u64);

/// What it holds, each once.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) checkpoints: Vec<Number>,
    pub(super) extents: BTreeSet<At>,
    /// Files that it brought in, which nobody else refers to yet.
    pub(super) adopted: Vec<FileId>,
    /// The checkpoint that it is an attempt at.
    pub(super) attempt: Option<CheckpointId>,
}
