//! What every pending checkpoint of an open store, and every part of a member, needs for writing.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use super::{
    allocator::{Allocator, Home},
    lanes::Lanes,
    waiting::Waiting,
};
use crate::{
    disk::volume::Volume,
    error::{Error, Result},
    id::{FileId, Scope, StoreId},
    options::{Durability, Merging, Options},
    reclaim::registry::Registry,
};

/// How many segments of one pending checkpoint stay open to be synced at the commit, at most. Beyond that the oldest is
/// synced earlier: descriptors are few, and closing an unsynced file could hide its write error.
const MAX_UNSYNCED: usize = 64;
/// They take at most one in this many of the descriptors that the process may have.
const SHARE_OF_DESCRIPTORS: usize = 4;
/// What every pending checkpoint of an open store needs for writing.
#[derive(Debug)]
pub(crate) struct WriteSettings {
    pub(super) volume: Arc<Volume>,
    pub(super) allocator: Arc<Allocator>,
    pub(super) merging: Merging,
    /// Those that checkpoints share.
    pub(super) lanes: Arc<Lanes>,
    pub(super) durability: Durability,
    /// Segments that were not synced when checkpoints with states in them were committed.
    pub(crate) waiting: Waiting,
    /// How many bytes of states a record may have.
    pub(super) redo: u64,
    /// How many segments of one pending checkpoint stay open to be synced at the commit.
    pub(super) max_unsynced: usize,
    /// Of shared and of exclusive states.
    inline: (usize, usize),
    pub(super) write_buffer: usize,
    pub(super) max_state_size: Option<u64>,
    /// What the last checkpoint to be committed had written anew.
    pub(super) last_written: AtomicU64,
    /// The disk was full since the last commit: nothing is relocated, which would take what is left.
    pub(super) full: AtomicBool,
}

/// Follows what the process may have.
fn max_unsynced(open_file_limit: Option<u64>) -> usize {
    let limit = open_file_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (limit / SHARE_OF_DESCRIPTORS).clamp(1, MAX_UNSYNCED)
}

impl WriteSettings {
    /// Refuses what no store can be opened with.
    pub(crate) fn check(options: &Options) -> Result<()> {
        let Options { inline_shared, inline_exclusive, max_inline_threshold, .. } = options;
        let inline_threshold = inline_shared.max(inline_exclusive);
        if inline_threshold > max_inline_threshold {
            let why = format!("{inline_threshold} bytes are above the largest, {max_inline_threshold}");
            return Err(Error::invalid("set inline_threshold", why));
        }
        Allocator::check(options)
    }

    pub(crate) fn new(registry: &Arc<Registry>, home: Home, options: &Options) -> Self {
        let allocator = Arc::new(Allocator::new(registry, home, options));
        let max_unsynced = max_unsynced(registry.volume().disk().open_file_limit());
        Self {
            volume: Arc::clone(registry.volume()),
            lanes: Arc::new(Lanes::new(&allocator)),
            allocator,
            merging: options.merging,
            durability: options.durability,
            waiting: Waiting::new(registry.volume(), max_unsynced),
            redo: options.most_redo(),
            max_unsynced,
            inline: (options.inline_shared, options.inline_exclusive),
            write_buffer: options.write_buffer.max(options.inline_shared).max(options.inline_exclusive),
            max_state_size: options.max_state_size,
            last_written: AtomicU64::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// A state of this scope and of at most this many bytes travels inside its handle.
    pub(super) fn inline_threshold(&self, scope: Scope) -> usize {
        match scope {
            Scope::Shared => self.inline.0,
            Scope::Exclusive => self.inline.1,
        }
    }

    /// What all who write data files of a store agree on: durability, length of segments, alignment.
    pub(crate) fn shared_by_members(&self) -> (Durability, u64, u32) {
        let (segment_size, alignment) = self.allocator.shape();
        (self.durability, segment_size, alignment)
    }

    /// The sequence of the next segment.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.allocator.next_sequence()
    }

    pub(super) fn store(&self) -> StoreId {
        self.allocator.store()
    }

    /// Seals these of the segments that checkpoints share.
    pub(crate) fn seal_files(&self, files: &BTreeSet<FileId>) {
        self.lanes.seal_files(files);
    }

    /// Seals those of them to which nothing more should be appended.
    pub(crate) fn shed(&self) {
        self.lanes.shed();
    }

    /// Seals the segments that checkpoints share; whoever writes next gets fresh ones.
    pub(crate) fn seal(&self) {
        self.lanes.seal();
    }
}

impl Drop for WriteSettings {
    /// The store is closed: nothing is appended any more, and what nobody refers to goes.
    fn drop(&mut self) {
        if self.allocator.registry().is_in_child() {
            return;
        }
        self.seal();
        let _ = self.allocator.registry().tidy(0);
    }
}
