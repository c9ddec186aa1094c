//! Segments with states that were committed and not synced: the manifest log has them.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::segment::Segment;
use crate::{
    disk::volume::Volume,
    error::{Error, Result},
    id::FileId,
};

/// They are open, because closing an unsynced file could hide its write error, until they are synced: before anything is
/// removed from the log, and before anybody else gets to see the file.
#[derive(Debug)]
pub(crate) struct Waiting {
    volume: Arc<Volume>,
    /// How many there may be.
    most: usize,
    segments: Mutex<BTreeMap<FileId, Waits>>,
}

/// A segment, and how far it has such states.
#[derive(Clone, Debug)]
struct Waits {
    segment: Arc<Segment>,
    end: u64,
}

impl Waiting {
    pub(super) fn new(volume: &Arc<Volume>, most: usize) -> Self {
        Self { volume: Arc::clone(volume), most, segments: Mutex::default() }
    }

    /// From now on these wait as well; false, and nothing, if there would be too many.
    pub(super) fn add(&self, more: &[(&Arc<Segment>, u64)]) -> bool {
        let mut segments = self.segments.lock();
        let new = more.iter().filter(|(segment, _)| !segments.contains_key(&segment.id())).count();
        if segments.len() + new > self.most {
            return false;
        }
        for (segment, end) in more {
            let waits = segments.entry(segment.id()).or_insert_with(|| Waits { segment: Arc::clone(segment), end: 0 });
            waits.end = waits.end.max(*end);
        }
        true
    }

    /// Syncs all that wait now. They wait no longer, but for those that got more states meanwhile.
    ///
    /// # Errors
    ///
    /// Those of the file system. The store must be reopened then, which writes the states again from the log: the page cache
    /// may lose them at any time.
    pub(crate) fn sync(&self) -> Result<()> {
        let all: Vec<_> = self.segments.lock().values().cloned().collect();
        all.iter().try_for_each(|waits| self.sync_one(waits))
    }

    /// The same for one file.
    ///
    /// # Errors
    ///
    /// Those of [`sync`](Self::sync).
    pub(crate) fn sync_file(&self, file: FileId) -> Result<()> {
        let Some(waits) = self.segments.lock().get(&file).cloned() else { return Ok(()) };
        self.sync_one(&waits)
    }

    /// A segment could not be synced: the store must be reopened if it has states that were committed.
    pub(super) fn note_failed(&self, file: FileId, error: &Error) {
        if self.segments.lock().contains_key(&file) {
            self.volume.poison(error);
        }
    }

    fn sync_one(&self, waits: &Waits) -> Result<()> {
        waits.segment.sync_to(waits.end).inspect_err(|error| self.volume.poison(error))?;
        let mut segments = self.segments.lock();
        // It may have got more meanwhile.
        if segments.get(&waits.segment.id()).is_some_and(|now| now.end <= waits.end) {
            segments.remove(&waits.segment.id());
        }
        Ok(())
    }

    /// Lets go of files that were removed because nothing in them is alive: as long as they are open they take their room.
    pub(crate) fn let_go(&self, is_there: impl Fn(FileId) -> bool) {
        let mut segments = self.segments.lock();
        let gone: Vec<_> = segments.extract_if(.., |file, _| !is_there(*file)).collect();
        drop(segments);
        drop(gone);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.lock().is_empty()
    }
}
