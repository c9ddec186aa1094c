//! What one pending checkpoint has written, and what of it still waits for a sync.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{allocator::Allocator, segment::Written};
use crate::{
    disk::{
        layout,
        volume::{Volume, VolumeFile},
    },
    error::{Error, Result},
    handle::Extent,
    id::{CheckpointId, FileId, Scope, StoreId},
    options::{Durability, MAX_INLINE_THRESHOLD, Options},
    reclaim::registry::Hold,
};

/// How many files of one pending checkpoint stay open to be synced at the commit. Beyond that a file is synced when
/// it is whole: descriptors are few, and closing an unsynced file could hide its write error.
const MAX_UNSYNCED: usize = 64;

/// What every pending checkpoint of an open store needs for writing.
#[derive(Debug)]
pub(crate) struct WriteSettings {
    pub(crate) volume: Arc<Volume>,
    pub(crate) store: StoreId,
    pub(crate) allocator: Allocator,
    pub(crate) durability: Durability,
    pub(crate) inline_threshold: usize,
    pub(crate) write_buffer: usize,
    pub(crate) max_state_size: Option<u64>,
}

/// The write side of one pending checkpoint.
#[derive(Debug)]
pub(crate) struct Batch {
    id: CheckpointId,
    settings: Arc<WriteSettings>,
    hold: Hold,
    /// Set under the lock of `state`, looked at without it by writers between their writes.
    closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writers: usize,
    unsynced: Vec<VolumeFile>,
    dirs: BTreeSet<Scope>,
}

/// What must be synced before a manifest may name what was written.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    pub(crate) files: Vec<VolumeFile>,
    pub(crate) dirs: BTreeSet<Scope>,
}

/// Counts a writer as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenWriter(Arc<Batch>);

impl WriteSettings {
    /// Refuses what no store can be opened with.
    pub(crate) fn check(options: &Options) -> Result<()> {
        if options.inline_threshold > MAX_INLINE_THRESHOLD {
            let why = format!("{} bytes are above the largest, {MAX_INLINE_THRESHOLD}", options.inline_threshold);
            return Err(Error::invalid("set inline_threshold", why));
        }
        Ok(())
    }

    pub(crate) fn new(volume: Arc<Volume>, store: StoreId, generation: u64, options: &Options) -> Self {
        Self {
            volume,
            store,
            allocator: Allocator::new(generation),
            durability: options.durability,
            inline_threshold: options.inline_threshold,
            write_buffer: options.write_buffer.max(options.inline_threshold),
            max_state_size: options.max_state_size,
        }
    }
}

impl Batch {
    pub(crate) fn new(id: CheckpointId, settings: Arc<WriteSettings>, hold: Hold) -> Self {
        Self { id, settings, hold, closed: AtomicBool::new(false), state: Mutex::default() }
    }

    pub(crate) fn id(&self) -> CheckpointId {
        self.id
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(super) fn settings(&self) -> &WriteSettings {
        &self.settings
    }

    pub(super) fn new_file(&self, scope: Scope) -> FileId {
        self.settings.allocator.file(scope)
    }

    /// Counts a new writer, unless nothing can be written any more.
    pub(super) fn open_writer(self: &Arc<Self>) -> Result<OpenWriter> {
        self.settings.volume.check_writable("write a state in")?;
        let mut state = self.state.lock();
        self.check_open()?;
        state.writers += 1;
        Ok(OpenWriter(Arc::clone(self)))
    }

    /// Takes over a whole file: to be synced at the commit, unless it is durable already.
    pub(super) fn accept(&self, written: Written) -> Result<()> {
        let Written { extent, file, file_len } = written;
        if self.settings.durability == Durability::PerState {
            self.settings.volume.sync_dir(layout::scope_dir(extent.file.scope))?;
            return self.register(None, &extent, file_len);
        }
        if self.state.lock().unsynced.len() >= MAX_UNSYNCED {
            file.sync()?;
            return self.register(None, &extent, file_len);
        }
        self.register(Some(file), &extent, file_len)
    }

    fn register(&self, unsynced: Option<VolumeFile>, extent: &Extent, file_len: u64) -> Result<()> {
        let mut state = self.state.lock();
        self.check_open()?;
        state.unsynced.extend(unsynced);
        if self.settings.durability != Durability::PerState {
            state.dirs.insert(extent.file.scope);
        }
        self.hold.add(extent, file_len);
        Ok(())
    }

    /// Fails once the pending checkpoint has ended.
    pub(super) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let why = "the pending checkpoint was aborted or committed";
            return Err(Error::invalid(format!("write a state of checkpoint {}", self.id), why));
        }
        Ok(())
    }

    /// Ends writing for the commit; refuses while a writer is open.
    pub(crate) fn seal(&self) -> Result<Unsynced> {
        let mut state = self.state.lock();
        if state.writers > 0 {
            let why = format!("{} of its writers are still open: finish or drop them first", state.writers);
            return Err(Error::invalid(format!("commit checkpoint {}", self.id), why));
        }
        self.closed.store(true, Ordering::Release);
        Ok(Unsynced { files: std::mem::take(&mut state.unsynced), dirs: std::mem::take(&mut state.dirs) })
    }

    /// Ends writing for an abort: writers that are still open fail from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        state.unsynced.clear();
    }
}

impl Unsynced {
    /// The directories that gained names.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &'static Path> {
        self.dirs.iter().map(|scope| layout::scope_dir(*scope))
    }
}

impl Drop for OpenWriter {
    fn drop(&mut self) {
        self.0.state.lock().writers -= 1;
    }
}

impl OpenWriter {
    pub(super) fn batch(&self) -> &Arc<Batch> {
        &self.0
    }
}
