//! Giving space back: dead files are removed, holes are punched, files are marked. All calls to the disk are made outside
//! of every lock.

use std::sync::atomic::Ordering;

use super::registry::Registry;
use crate::{
    accounts::{Accounts, FileRecord, Holes},
    disk::{FileKind, layout},
    error::{Error, Result},
    id::FileId,
    observe::{Event, Progress, Task},
    options::Maintenance,
};

/// To remove fewer files takes no time worth mentioning.
const WORTH_TELLING: u64 = 100;

/// What [`Store::maintain`](crate::Store::maintain) did.
#[must_use = "it says what could not be done"]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Maintained {
    /// How many data files were removed.
    pub files: u64,
    /// How many bytes those files had.
    pub bytes: u64,
    /// How many bytes came back from holes in files that stay.
    pub punched_bytes: u64,
    /// Whether there is more that could be done than the budget allowed.
    pub more: bool,
    /// What could not be done; it is tried again.
    pub failures: Vec<Error>,
}

impl Registry {
    /// At the end of whatever changed who refers to what, unless the engine does this itself: removes the dead, punches
    /// holes for about as many bytes as the budget says, and marks files if that was not enough.
    pub(crate) fn tidy(&self, budget: u64) -> Maintained {
        self.unpin_lenders();
        let mut done = Maintained::default();
        if self.maintenance == Maintenance::Inline {
            self.sweep(u64::MAX, &mut done);
            self.punch(budget, &mut done);
            self.mark();
        }
        done
    }

    /// The same for an engine that does it itself: as much as the budget says, in bytes.
    pub(crate) fn maintain(&self, budget: u64) -> Maintained {
        self.unpin_lenders();
        let mut done = Maintained::default();
        self.sweep(budget, &mut done);
        self.punch(budget.saturating_sub(done.bytes), &mut done);
        self.mark();
        done
    }

    /// Lets the next attempt find out which files still have other names.
    pub(crate) fn recheck_links(&self) {
        self.accounts.lock().files.recheck_links();
    }

    /// Removes dead files, whoever does the maintenance.
    pub(crate) fn remove_dead(&self) -> Maintained {
        let mut done = Maintained::default();
        self.sweep(u64::MAX, &mut done);
        done
    }

    fn mark(&self) {
        self.accounts.lock().files.mark();
    }

    /// Looks at what may be touched, while nobody changes who refers to what. Nothing, once nobody knows what is durable:
    /// whoever finds that out says so before letting go of what it referred to. And nothing that is older than this open,
    /// while nobody knows what some checkpoint refers to.
    fn look<T>(&self, look: impl FnOnce(&mut Accounts, &dyn Fn(FileId) -> bool) -> T) -> Option<T> {
        let mut accounts = self.accounts.lock();
        let may = accounts.may_touch();
        (!self.volume.is_poisoned()).then(|| look(&mut accounts, &may))
    }

    /// Removes dead files. One that resists stays dead, for the next sweep.
    pub(crate) fn sweep(&self, budget: u64, done: &mut Maintained) -> Vec<FileId> {
        let mut removed = Vec::new();
        let dead = self.look(|accounts, may| accounts.files.exhume(may, budget));
        let Some((dead, more)) = dead else { return removed };
        done.more |= more;
        let (observer, before) = (self.volume.observer(), (done.files, done.bytes));
        let mut progress = Progress::new(Task::RemoveFiles, dead.len(), 0);
        for (file, len) in dead {
            match self.volume.remove(&layout::segment(file)) {
                Ok(()) => {
                    done.files += 1;
                    done.bytes = done.bytes.saturating_add(len);
                    removed.push(file);
                }
                Err(error) => {
                    self.volume.note_left_over(&error);
                    done.failures.push(error);
                    self.bury(file, len);
                }
            }
            progress.done(0);
            if progress.all_items >= WORTH_TELLING {
                observer.progress(progress);
            }
        }
        if done.files > before.0 {
            observer.note(|| Event::Removed { files: done.files - before.0, bytes: done.bytes - before.1 });
        }
        removed
    }

    /// Punches holes into one file after another until about as many bytes as the budget says came back.
    fn punch(&self, budget: u64, done: &mut Maintained) {
        while !self.cannot_punch.load(Ordering::Relaxed)
            && let Some(Some(holes)) = self.look(|accounts, may| accounts.files.holes(may))
        {
            if done.punched_bytes >= budget {
                done.more = true;
                return;
            }
            match self.punch_into(&holes) {
                Ok(None) => self.accounts.lock().files.change(holes.file, |file| file.linked = true),
                Ok(Some(allocated)) => {
                    let bytes = holes.allocated.saturating_sub(allocated);
                    done.punched_bytes += bytes;
                    let file = || self.volume.path(layout::segment(holes.file));
                    self.volume.observer().note(|| Event::Punched { file: file(), bytes });
                    let note = |file: &mut FileRecord| file.note_punched(holes.dead_blocks, allocated);
                    self.accounts.lock().files.change(holes.file, note);
                }
                // The next one would fail as well, most likely; and this one is tried again by the next call.
                Err(error) => {
                    self.volume.note_left_over(&error);
                    return done.failures.push(error);
                }
            }
        }
    }

    /// Returns what the file takes afterwards. One with another name beside ours stays whole (`None`): somebody else reads
    /// there what is dead here.
    fn punch_into(&self, holes: &Holes) -> Result<Option<u64>> {
        let name = layout::segment(holes.file);
        let _alone = self.lock_linking();
        match self.volume.metadata(&name)? {
            Some(found) if found.kind == FileKind::File && found.links == 1 => {}
            Some(found) if found.kind == FileKind::File => return Ok(None),
            // Somebody else has removed it just now.
            _ => return Ok(Some(holes.allocated)),
        }
        match self.volume.punch_holes(&name, &holes.ranges) {
            Ok(true) => {}
            Ok(false) => self.cannot_punch.store(true, Ordering::Relaxed),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(Some(self.volume.metadata(&name)?.map_or(0, |found| found.allocated)))
    }
}
