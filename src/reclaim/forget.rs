//! Taking checkpoints back: the steps in the order of this folder's page.

use std::sync::Arc;

use super::{published::Plan, registry::Registry, sweep::Maintained};
use crate::{
    disk::{
        spare,
        volume::{ReadersLocked, Volume},
    },
    error::{Error, Result},
    id::CheckpointId,
    records::Journal,
};

const OPERATION: &str = "forget checkpoints in";

/// What forgetting and pruning did.
#[must_use = "it says what could not be done"]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The checkpoints that are gone, ascending.
    pub checkpoints: Vec<CheckpointId>,
    /// The checkpoints that stay for now because another process reads them, ascending; the next call tries again.
    pub in_use: Vec<CheckpointId>,
    /// How many data files were removed. Files that others still refer to, readers among them, are not.
    pub files: u64,
    /// How many bytes those files had.
    pub bytes: u64,
    /// How many bytes came back from holes in files that stay.
    pub punched_bytes: u64,
    /// What could not be done. Data files are tried again at the next sweep.
    pub failures: Vec<Error>,
}

/// Checkpoints that no other process can open until this is dropped: those that it had open are not among them.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    pub(crate) ids: Vec<CheckpointId>,
    /// Those that other processes read.
    pub(crate) in_use: Vec<CheckpointId>,
    locks: Vec<ReadersLocked>,
}

/// Step 2.
pub(crate) fn lock_unread(volume: &Arc<Volume>, ids: Vec<CheckpointId>) -> Result<Unread> {
    let mut unread = Unread::default();
    for id in ids {
        let could_lock = match unread.locks.last_mut() {
            Some(locks) => locks.lock_more(id.get())?,
            None => None,
        };
        let is_unread = match could_lock {
            Some(could_lock) => could_lock,
            None => volume.lock_exclusive(id.get())?.map(|lock| unread.locks.push(lock)).is_some(),
        };
        if is_unread { unread.ids.push(id) } else { unread.in_use.push(id) }
    }
    Ok(unread)
}

/// Forgets these checkpoints, durably: all of them, or none.
pub(crate) fn forget(registry: &Registry, journal: &Journal, plan: &Plan) -> Result<Reclaimed> {
    let volume = registry.volume();
    let mut report = Reclaimed { failures: volume.retry_leftovers(), ..Reclaimed::default() };
    let mut turn = journal.turn();
    volume.check_writable(OPERATION)?;
    journal.check_not_fenced(OPERATION)?;
    // What goes is planned while no other thread can publish, pin, or roll back.
    let unread = lock_unread(volume, registry.planned(plan))?;
    // The turn ends here either way: no commit waits while data is removed.
    if unread.ids.is_empty() {
        drop(turn);
    } else {
        turn.forget(&unread.ids)?;
        registry.forget(&unread.ids);
        drop(turn.drop_forgotten(&unread.ids));
    }
    (report.checkpoints, report.in_use) = (unread.ids.clone(), unread.in_use.clone());
    drop(unread);
    sweep(registry, u64::MAX, &mut report);
    spare::keep(volume);
    Ok(report)
}

/// Step 4.
pub(crate) fn sweep(registry: &Registry, budget: u64, report: &mut Reclaimed) {
    let Maintained { files, bytes, punched_bytes, failures, .. } = registry.tidy(budget);
    report.files += files;
    report.bytes += bytes;
    report.punched_bytes += punched_bytes;
    report.failures.extend(failures);
}
