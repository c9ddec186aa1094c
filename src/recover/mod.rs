//! Opening: take over, find, check, rebuild, clean up, in this order.
//!
//! # Who owns what
//!
//! The opener holds the lock of `piton.lock` from step 2 on, so that no other process changes anything; the volume
//! keeps it. No data file and no log is deleted before step 8: what seems an orphan before the generation is raised may
//! be what a writer that lost its lock is about to publish. On a full disk the room that is kept is given up instead
//! (`disk/spare.rs`).
//!
//! # Opening, step by step
//!
//! 1. the root: created if it is missing, unless it must exist, and opened: from here on everything is done in that
//!    directory. A store of which a header was written by a newer version is refused here, untouched;
//! 2. the lock; then a look whether the name still leads to the directory that was locked, else steps 1 and 2 again;
//! 3. [`identity`]: the identity is read. Where there is none and nothing was ever committed, one is made up, after the
//!    directories were made and synced; it is written in step 5. An identity that is damaged, or lost while there are
//!    checkpoints, is an error with a remedy. A directory that has vanished is made again if every checkpoint is known and
//!    names nothing in it; else it is an error. [`scan`]: every name, sorted into ours, temporary, foreign. The log is read
//!    (`records`). Files of it that are missing are an error, unless the loss is accepted. Up to here only missing
//!    directories were made;
//! 4. everything above the root is synced: this open or an interrupted one may have created it. The identity is written
//!    again with the next generation, durably: from here on a stalled writer finds out that it lost the store. What it
//!    appended since step 3 is read. `piton.readers`, which readers lock, is made if it is missing: before anything can be
//!    forgotten. A store that was to be taken over by another one (`transfer`) is taken back, durably, since it goes on;
//! 5. the last record is made sure of, and the first log of the generation is begun: from here on nothing counts that a
//!    stalled writer appends. Then a new store gets its identity. A crash up to here changes nothing that can be seen;
//! 6. [`clean`]: temporary names, and the files that stand for members that have ended. [`unsynced`]: what was
//!    committed without syncs is made durable, unless this store syncs nothing either. A crash leaves that to the next
//!    open. [`redo`]: records have states whose segments were not synced. Those that a checkpoint names are written
//!    again and synced, whatever the segments have. A crash leaves them to the next open. A checkpoint cannot be opened
//!    if a state of it could not be written, and the log stays then;
//! 7. [`validate`]: every file that a checkpoint names must be there and long enough; the registry learns of each
//!    checkpoint, damaged ones included. States are verified on first use, not here;
//! 8. [`clean`]: logs that do not count, and data files that no checkpoint names. While a record is lost, no data file is
//!    removed: the record may have named it. A crash leaves some of them to the next open. A base is
//!    written if one is due. Then room is kept for when the disk is full;
//! 9. stores are removed that checkpoints were taken over from, if that was interrupted (`transfer`).

mod clean;
mod identity;
mod orphans;
mod redo;
mod salvage;
mod scan;
mod unsynced;
mod validate;

pub use orphans::Orphans;
pub(crate) use orphans::{clean_up_after, cleanup};
pub use salvage::{SegmentEntry, list_segment};

use std::{
    cell::OnceCell,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::identity::Claimed;
use crate::{
    accounts::space::SpacePolicy,
    disk::{DirEntry, layout, root, spare, this_process, volume::Volume},
    error::{Cause, Error, Result},
    format::source::Source,
    id::CheckpointId,
    options::{Durability, Options},
    reclaim::registry::Registry,
    records::{self, History, Journal, Survey},
};

/// What opening a store found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Whether the store is new.
    pub created: bool,
    /// Checkpoints that cannot be read, ascending, and why. They stay until they are forgotten or pruned. `latest` skips
    /// damaged ones, but not one that a newer version wrote.
    pub damaged: Vec<(CheckpointId, Error)>,
    /// Leftovers of crashed processes that were removed: temporary files, data that no checkpoint refers to.
    pub removed: Vec<PathBuf>,
    /// How many states were written again from the manifest log, because their segments may not have been durable
    /// ([`Options::redo_size`]).
    pub redone: u64,
    /// How many data files were made durable that had been written without syncs ([`Durability::None`]).
    pub synced: usize,
    /// Names that are not ours; they are left alone.
    pub foreign: Vec<PathBuf>,
    /// Leftovers that could not be removed; the next open tries again.
    pub failures: Vec<Error>,
    /// Why unused data files were not removed: a record is lost, and may have named any of them. `None` if they were.
    pub cleanup_skipped: Option<Error>,
    /// Damage to the manifest log or the identity that lost nothing, because the other copy is whole. What is damaged is
    /// written anew.
    pub healed: Vec<Error>,
    /// What of the manifest log is lost for good: files, if that was accepted ([`Options::accept_loss`]), and records.
    /// Checkpoints that need them are damaged. Until an open accepts it, every open says so again.
    pub lost: Vec<Error>,
}

impl fmt::Display for OpenReport {
    /// One line for each thing that was found or done; nothing if there was nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            writeln!(f, "the store is new")?;
        }
        self.healed.iter().try_for_each(|error| writeln!(f, "healed: {error}"))?;
        self.lost.iter().try_for_each(|error| writeln!(f, "lost: {error}"))?;
        self.damaged.iter().try_for_each(|(id, error)| writeln!(f, "checkpoint {id} is damaged: {error}"))?;
        if self.redone > 0 {
            writeln!(f, "wrote {} states again from the manifest log", self.redone)?;
        }
        if self.synced > 0 {
            writeln!(f, "made {} data files durable that had been written without syncs", self.synced)?;
        }
        self.removed.iter().try_for_each(|name| writeln!(f, "removed {}", name.display()))?;
        self.foreign.iter().try_for_each(|name| writeln!(f, "left alone, not piton's: {}", name.display()))?;
        self.failures.iter().try_for_each(|error| writeln!(f, "not done: {error}"))?;
        self.cleanup_skipped.iter().try_for_each(|why| writeln!(f, "data was not cleaned up: {why}"))
    }
}

/// Why a store is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    GoOn,
    /// It was taken over, and is to be removed.
    SeeOff,
}

/// A store that is ours.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) volume: Arc<Volume>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) report: OpenReport,
    /// What is agreed with stores that are still to go, because whole checkpoints were taken over from them.
    pub(crate) departing: Vec<Source>,
}

/// How often a root is opened that is exchanged, or departs, before it can be locked.
const MOST_ATTEMPTS: usize = 8;
/// How long a lock that is held is left alone before it is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Steps 1 and 2. The root that is locked is the one that its name leads to: else it was exchanged meanwhile, or the store
/// that was there departed, and its directory with it.
fn take_lock(options: &Options, root: &Path) -> Result<Volume> {
    let (mut refused, since) = (None, Instant::now());
    let mut attempts = 0;
    while attempts < MOST_ATTEMPTS {
        let volume = Volume::new(Arc::clone(&options.disk), root.to_owned(), options.durability != Durability::None)
            .observed_by(&options.observer);
        if options.must_exist {
            check_exists(&volume)?;
        }
        root::ensure(root::OPERATION, &volume)?;
        let locked = volume.open_root().and_then(|()| {
            identity::refuse_newer(&volume)?;
            volume.keep_lock(volume.lock(layout::LOCK, &this_process())?);
            volume.check_in_place(root::OPERATION)
        });
        match locked {
            Ok(()) => return Ok(volume),
            Err(error) if error.is_not_found() || error.is_exchanged() => {
                attempts += 1;
                refused = Some(error);
            }
            Err(error) if error.is_locked() && since.elapsed() < options.wait_for_lock => {
                std::thread::sleep(LOCK_INTERVAL.min(options.wait_for_lock.saturating_sub(since.elapsed())));
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::not_found(root::OPERATION, "it vanished again and again")))
}

/// Refuses where no store ever was, as on the mount point of a volume that is not mounted.
fn check_exists(volume: &Volume) -> Result<()> {
    let is_of_log = |entry: &DirEntry| layout::is_of_log(&entry.name);
    let exists = volume.metadata(layout::IDENTITY)?.is_some()
        || root::list_if_there(volume, layout::MANIFESTS)?.iter().any(is_of_log);
    if exists {
        return Ok(());
    }
    let missing = "there is no store here, and Options::must_exist is set; is the volume mounted?";
    Err(Error::at(root::OPERATION, volume.root(), Cause::NotFound(missing.into())))
}

/// Opens a store to go on with it, or to see it off.
pub(crate) fn open(options: &Options, root: &Path, policy: SpacePolicy, purpose: Purpose) -> Result<Recovered> {
    let volume = Arc::new(take_lock(options, root)?);
    let claimed = identity::claim(&volume, options)?;
    let mut found = scan::scan(&volume)?;
    let (mut survey, second) = (&Survey::read(&volume, claimed.store())?, OnceCell::new());
    let mut told = survey.tell(&volume, !claimed.created)?;
    told.check_complete(options.accept_loss)?;
    let newest = survey.newest_generation().max(identity::newest_segment(&found));
    let identity = claimed.take_over(&volume, newest)?;
    if !told.is_all(&volume)? {
        // What a stalled writer appended before it could find out counts.
        survey = second.get_or_init(|| Survey::read(&volume, claimed.store())).as_ref().map_err(Clone::clone)?;
        told = survey.tell(&volume, !claimed.created)?;
        told.check_complete(options.accept_loss)?;
    }
    root::ensure_readers(&volume)?;
    if purpose == Purpose::SeeOff {
        found.temps.retain(|name| name != Path::new(layout::DEPARTING));
    } else {
        clean::take_back(&volume, &found)?;
    }
    let Claimed { created, healed, .. } = claimed;
    let used = (told.history.id_floor(), told.history.rolled_back().clone());
    let registry = Registry::new(Arc::clone(&volume), identity.generation(), used, (policy, options.maintenance));
    let registry = Arc::new(registry);
    let identity = Arc::new(identity);
    // At once: until then readers wait.
    let journal = Journal::begin(&volume, &identity, &mut told, (options.half_log(), options.half_first_log()))?;
    if created {
        identity.write()?;
    }
    let mut report = OpenReport { created, foreign: found.foreign.clone(), ..OpenReport::default() };
    clean::clean_temps(&volume, &found, &mut report);
    clean::clean_members(&volume, &found, &mut report);
    report.synced = unsynced::sync(&volume, &journal)?;
    let in_log = journal.look(|history| records::live(&told.redone, history));
    let redone = redo::redo(&volume, identity.store(), in_log, &mut found);
    if !redone.failed.is_empty() {
        journal.keep_states();
    }
    if !volume.syncs() && redone.states > 0 {
        // A base takes the place of the records that have them.
        journal.note_durable(false);
    }
    let enter = |history: &History| validate::enter_all(&volume, &found, history, &registry, &redone.failed);
    let unreadable = journal.look(enter)?;
    (report.damaged, report.redone) = (registry.damaged(), redone.states);
    report.failures.extend(redone.failed.into_values().map(|of| of.why));
    report.healed.extend(healed.into_iter().chain(told.healed.iter().cloned()));
    report.lost.extend(told.gone().cloned());
    // What lost checkpoints referred to stays until the next open, so that it can be saved.
    match report.lost.first().cloned() {
        Some(lost) => registry.mark_lost(lost),
        None => clean::clean_logs(&volume, survey, &mut report),
    }
    report.cleanup_skipped = registry.unknown().or(unreadable);
    if report.cleanup_skipped.is_none() {
        clean::clean_data(&found, &registry, &mut report);
    }
    let settled = journal.settle(&told, report.synced > 0, options.accept_loss);
    report.failures.extend(settled.inspect_err(|error| volume.note_left_over(error)).err());
    report.removed.sort_unstable();
    spare::keep(&volume);
    let departing = agreed(&journal, &registry)?;
    Ok(Recovered { volume, journal: Arc::new(journal), registry, report, departing })
}

/// The agreements that count still: their checkpoints were committed, and are whole. One that is not whole is no reason to
/// remove anything elsewhere. The others are taken back.
fn agreed(journal: &Journal, registry: &Registry) -> Result<Vec<Source>> {
    let is_whole = |id| registry.status(id).is_some_and(|status| status.damage.is_none());
    let noted = journal.look(|history| history.departing().clone());
    let committed = |source: &Source| {
        let kept = journal.look(|history| history.get(source.ours.1).map(|kept| kept.generation));
        kept == Some(source.generation)
    };
    let mut agreed = Vec::new();
    for (id, source) in noted {
        if committed(&source) {
            agreed.extend(is_whole(id).then_some(source));
        } else {
            journal.turn().note_departed(id)?;
        }
    }
    Ok(agreed)
}
