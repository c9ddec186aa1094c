//! Numbers for the data files of an open store.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::{FileId, Scope};

/// Gives every file a number that no file of this store has had: the generation is new at each open, the sequence
/// counts within it.
#[derive(Debug)]
pub(crate) struct Allocator {
    generation: u64,
    next: AtomicU64,
}

impl Allocator {
    pub(crate) fn new(generation: u64) -> Self {
        Self { generation, next: AtomicU64::new(1) }
    }

    pub(crate) fn file(&self, scope: Scope) -> FileId {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        FileId { scope, generation: self.generation, lane: 0, sequence }
    }
}
