//! Giving space back: dead files are removed, holes are punched, files are marked. All calls to the disk are made outside
//! of every lock.

use std::sync::atomic::Ordering;

use super::{file::FileRecord, files::Holes, registry::Registry};
use crate::{
    disk::layout,
    error::{Error, Result},
    id::FileId,
    options::Maintenance,
};

/// So many bytes may be punched out at the end of whatever gave space back, however little it wrote.
pub(crate) const LEAST_PUNCHED: u64 = 1 << 20;

/// What [`Store::maintain`](crate::Store::maintain) did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Maintained {
    /// How many data files were removed.
    pub files: u64,
    /// How many bytes those files had.
    pub bytes: u64,
    /// How many bytes came back from holes in files that stay.
    pub punched_bytes: u64,
    /// Whether there is more to do than the budget allowed.
    pub more: bool,
    /// What could not be done; it is tried again.
    pub failures: Vec<Error>,
}

impl Registry {
    /// At the end of whatever changed who refers to what, unless the engine does this itself: marks files, removes the
    /// dead, and punches holes for about as many bytes as the budget says.
    pub(crate) fn tidy(&self, budget: u64) -> Maintained {
        if self.maintenance == Maintenance::Manual {
            return Maintained::default();
        }
        let mut done = Maintained::default();
        self.mark();
        self.sweep(u64::MAX, &mut done);
        self.punch(budget, &mut done);
        done
    }

    /// The same for an engine that does it itself: as much as the budget says, in bytes.
    pub(crate) fn maintain(&self, budget: u64) -> Maintained {
        let mut done = Maintained::default();
        self.mark();
        self.sweep(budget, &mut done);
        self.punch(budget.saturating_sub(done.bytes), &mut done);
        done.more = self.volume.is_poisoned() || self.has_more();
        done
    }

    /// Removes dead files, whoever does the maintenance.
    pub(crate) fn remove_dead(&self) -> Maintained {
        let mut done = Maintained::default();
        self.sweep(u64::MAX, &mut done);
        done
    }

    fn mark(&self) {
        self.state.lock().extents.mark();
    }

    fn has_more(&self) -> bool {
        let state = self.state.lock();
        let holes = state.extents.files.holes(state.may_touch(self.generation()));
        let punchable = !self.cannot_punch.load(Ordering::Relaxed) && holes.is_some();
        punchable || state.extents.files.dead_bytes() > 0
    }

    /// Removes dead files. Once nobody knows what is durable, nothing is removed; and while nobody knows what some
    /// checkpoint refers to, nothing that is older than this open. One that resists stays dead, for the next sweep.
    pub(crate) fn sweep(&self, budget: u64, done: &mut Maintained) -> Vec<FileId> {
        let mut removed = Vec::new();
        if self.volume.is_poisoned() {
            return removed;
        }
        for (file, len) in self.take_dead() {
            let within_budget = done.bytes < budget;
            match within_budget.then(|| self.volume.remove(&layout::segment(file))) {
                Some(Ok(())) => {
                    done.files += 1;
                    done.bytes += len;
                    removed.push(file);
                    continue;
                }
                Some(Err(error)) => done.failures.push(error),
                None => {}
            }
            self.bury(file, len);
        }
        removed
    }

    fn take_dead(&self) -> Vec<(FileId, u64)> {
        let mut state = self.state.lock();
        let may = state.may_touch(self.generation());
        state.extents.files.exhume(may)
    }

    /// Punches holes into one file after another until about as many bytes as the budget says came back.
    fn punch(&self, budget: u64, done: &mut Maintained) {
        while done.punched_bytes < budget && !self.cannot_punch.load(Ordering::Relaxed) && !self.volume.is_poisoned() {
            let holes = {
                let state = self.state.lock();
                state.extents.files.holes(state.may_touch(self.generation()))
            };
            let Some(holes) = holes else { return };
            let allocated = self.punch_into(&holes).unwrap_or_else(|error| {
                done.failures.push(error);
                holes.allocated
            });
            done.punched_bytes += holes.allocated.saturating_sub(allocated);
            let note = |file: &mut FileRecord| file.note_punched(holes.dead_blocks, allocated);
            self.state.lock().extents.files.change(holes.file, note);
        }
    }

    /// Returns what the file takes afterwards. One with another name beside ours stays whole: somebody else reads there
    /// what is dead here.
    fn punch_into(&self, holes: &Holes) -> Result<u64> {
        let name = layout::segment(holes.file);
        match self.volume.metadata(&name)? {
            Some(found) if found.links == 1 => {}
            // Somebody else has removed it just now, or reads it.
            _ => return Ok(holes.allocated),
        }
        if !self.volume.punch_holes(&name, &holes.ranges)? {
            self.cannot_punch.store(true, Ordering::Relaxed);
        }
        Ok(self.volume.metadata(&name)?.map_or(0, |found| found.allocated))
    }
}
