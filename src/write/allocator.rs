//! Where a state goes: a segment of its own, or a lane that it shares.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::segment::Appender;
use crate::{
    disk::{layout, publish::TempFile, volume::Volume},
    error::{Error, Result},
    format::segment::{HEADER_LEN, TRAILER_LEN, encode_header, tag},
    handle::FileRef,
    id::{FileId, NO_LANE, Scope, StoreId},
    options::Options,
    reclaim::registry::Registry,
};

/// No more bytes than these gather in a lane before they are written.
const MOST_GATHERED: usize = 256 << 10;

/// Whose segments they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    pub(crate) store: StoreId,
    pub(crate) generation: u64,
    /// 0 for the store itself.
    pub(crate) member: u32,
}

/// Makes the segments of an open store. Every file has a number that no file of this store has had: the generation is
/// new at each open, the sequence counts within it.
#[derive(Debug)]
pub(crate) struct Allocator {
    volume: Arc<Volume>,
    registry: Arc<Registry>,
    store: StoreId,
    generation: u64,
    next: AtomicU64,
    pub(super) segment_size: u64,
    pub(super) lanes: u16,
    alignment: u64,
    /// How many bytes of small states are written together.
    gathers: usize,
}

impl Allocator {
    /// Refuses what no store can be opened with.
    pub(crate) fn check(options: &Options) -> Result<()> {
        if options.lanes == 0 {
            return Err(Error::invalid("set lanes", "a scope has at least 1 lane"));
        }
        Ok(())
    }

    pub(crate) fn new(registry: &Arc<Registry>, home: Home, options: &Options) -> Self {
        let Home { store, generation, member } = home;
        Self {
            volume: Arc::clone(registry.volume()),
            registry: Arc::clone(registry),
            store,
            generation,
            next: AtomicU64::new(FileId::first_of(member)),
            segment_size: options.segment_size,
            lanes: options.lanes,
            alignment: u64::from(options.alignment),
            gathers: options.write_buffer.min(MOST_GATHERED),
        }
    }

    /// The sequence of the next segment. To be asked while no segment can get a number.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The length of segments, and how states are aligned.
    pub(super) fn shape(&self) -> (u64, u32) {
        (self.segment_size, u32::try_from(self.alignment).unwrap_or(u32::MAX))
    }

    pub(super) fn store(&self) -> StoreId {
        self.store
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Whether a state of this length may share a segment with others.
    pub(super) fn merges(&self, len: u64) -> bool {
        let first = HEADER_LEN.next_multiple_of(self.alignment);
        first.saturating_add(len).saturating_add(TRAILER_LEN) <= self.segment_size
    }

    /// Creates a segment. The registry knows of it before the disk does, so that nothing is left behind whatever fails.
    pub(super) fn create(&self, scope: Scope, lane: u16) -> Result<Appender> {
        let mut attempt = self.attempt(scope, lane);
        let id = attempt.id;
        let temp = TempFile::create(&self.volume, layout::scope_dir(scope))?;
        temp.file().write_all_at(&encode_header(self.store, id), 0)?;
        let file = attempt.name(|name| temp.publish(name))?;
        attempt.succeed();
        self.registry.note_len(id, HEADER_LEN);
        let home = FileRef { store: self.store, file: id };
        Ok(Appender::new(home, file, &self.registry, (tag(self.store, id), self.alignment, self.gathers)))
    }

    /// Begins to create a data file, which no other has the name of.
    pub(super) fn attempt(&self, scope: Scope, lane: u16) -> Attempt<'_> {
        let number = || {
            let sequence = self.next.fetch_add(1, Ordering::Relaxed);
            FileId { scope, generation: self.generation, lane, sequence }
        };
        let id = self.registry.create(lane == NO_LANE, number);
        Attempt { registry: &self.registry, id, named: false }
    }
}

/// A segment that may not come into being: by an error, or by a panic of the disk.
pub(super) struct Attempt<'a> {
    registry: &'a Registry,
    pub(super) id: FileId,
    /// Something of ours may have its name.
    named: bool,
}

impl Attempt<'_> {
    /// Gives it its name.
    pub(super) fn name<T>(&mut self, give: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        // From here on there may be such a name, whatever the disk says; but never one of somebody else.
        self.named = true;
        give(&layout::segment(self.id)).inspect_err(|error| self.named &= !error.is_taken_name())
    }

    /// It has come into being.
    pub(super) fn succeed(self) {
        std::mem::forget(self);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let give_up = if self.named { Registry::seal } else { Registry::disown };
        give_up(self.registry, self.id);
    }
}
