//! Opening: take over, find, check, rebuild, clean up, in this order.
//!
//! # Who owns what
//!
//! The opener holds the lock of `piton.lock` from step 2 on, so that no other process changes anything; the volume keeps it.
//! Nothing is deleted before step 7: what seems an orphan before the generation is raised may be what a writer that lost its
//! lock is about to publish. On a full disk the room that is kept is given up instead (`disk/spare.rs`).
//!
//! # Opening, step by step
//!
//! 1. the root: created if it is missing, unless it must exist, and opened: from here on everything is done in that
//!    directory. A store whose identity was written by a newer version is refused here, untouched;
//! 2. the lock; then a look whether the name still leads to the directory that was locked, else steps 1 and 2 again;
//! 3. [`identity`]: the identity is read and written again with the next generation, durably: from here on a stalled
//!    writer finds out that it lost the store, and what it had published before is seen by the next step. Where there is
//!    none and nothing was ever written, one is made, after the directories were made and synced. Everything above the
//!    root is synced as well: this open or an interrupted one may have created it. An identity that is damaged, or
//!    lost while there are checkpoints, is an error with a remedy. So is it that the identity knows of checkpoints and no
//!    manifest is there, before anything is written. A directory that has vanished is made again if every manifest can be
//!    read and names nothing in it; else it is an error;
//! 4. `piton.readers`, which readers lock, is made if it is missing: before anything can be forgotten. [`scan`]: every
//!    name, sorted into ours, temporary, foreign. A store that was to be taken over by another one (`transfer`) is taken
//!    back, durably, since it goes on. [`validate`]: every manifest is read as a whole, every file it names must be there
//!    and long enough; the registry learns of each checkpoint, damaged ones included.
//!    States are verified on first use, not here;
//! 5. `manifests/` is synced, so that a checkpoint that another process had renamed and not yet synced is really there
//!    before anybody relies on it (and one that it had removed is really gone before its data goes). A crash up to here
//!    changes nothing that can be seen;
//! 6. the identity is written once more, with the highest id that was found: what a stalled writer publishes above it from
//!    now on is invalid. Not while something of that kind is there already. A crash before leaves what was recorded by the
//!    last open, which says less;
//! 7. [`clean`]: temporary names, and data files that no manifest names. Not while a manifest cannot be read: nobody
//!    knows then what it names. A crash leaves some of them to the next open;
//!    Then room is kept for when the disk is full;
//! 8. stores are removed that checkpoints were taken over from, if that was interrupted (`transfer`).

mod clean;
mod identity;
mod orphans;
mod salvage;
mod scan;
mod validate;

pub use orphans::Orphans;
pub(crate) use orphans::cleanup;
pub use salvage::{SegmentEntry, list_segment};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::identity::Claimed;
use crate::{
    accounts::space::SpacePolicy,
    disk::{DirEntry, layout, root, spare, this_process, volume::Volume},
    error::{Cause, Error, Result},
    id::CheckpointId,
    identity::IdentityFile,
    options::{Durability, Options},
    reclaim::registry::Registry,
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
    /// Names that are not ours; they are left alone.
    pub foreign: Vec<PathBuf>,
    /// Leftovers that could not be removed; the next open tries again.
    pub failures: Vec<Error>,
    /// Why leftovers were not looked for, if they were not: a manifest that cannot be read may name any of them.
    pub cleanup_skipped: Option<Error>,
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
    pub(crate) identity: Arc<IdentityFile>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) report: OpenReport,
    /// The checkpoints that were taken over from stores which are still to go, and the generations that published them.
    pub(crate) departing: Vec<(CheckpointId, u64)>,
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
        let volume = Volume::new(Arc::clone(&options.disk), root.to_owned(), options.durability != Durability::None);
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
    let is_manifest = |entry: &DirEntry| layout::parse_manifest(&entry.name).is_some();
    let exists = volume.metadata(layout::IDENTITY)?.is_some()
        || root::list_if_there(volume, layout::MANIFESTS)?.iter().any(is_manifest);
    if exists {
        return Ok(());
    }
    let missing = "there is no store here, and Options::must_exist is set; is the volume mounted?";
    Err(Error::at(root::OPERATION, volume.root(), Cause::NotFound(missing.into())))
}

/// Opens a store to go on with it, or to see it off.
pub(crate) fn open(options: &Options, root: &Path, policy: SpacePolicy, purpose: Purpose) -> Result<Recovered> {
    let volume = Arc::new(take_lock(options, root)?);
    let Claimed { identity, created, lost } = identity::claim(&volume, options)?;
    root::ensure_readers(&volume)?;
    let mut found = scan::scan(&volume)?;
    if purpose == Purpose::SeeOff {
        found.temps.retain(|name| name != Path::new(layout::DEPARTING));
    } else {
        clean::take_back(&volume, &found)?;
    }
    let registry = Registry::new(Arc::clone(&volume), &identity.on_disk(), (policy, options.maintenance));
    let registry = Arc::new(registry);
    let learned = validate::enter_all(&volume, &found, &identity.on_disk(), &registry)?;
    volume.sync_dir(layout::MANIFESTS)?;
    let newest = found.manifests.keys().next_back().copied();
    let identity = identity.settle(newest, learned.generation, learned.stale)?;
    registry.set_generation(identity.generation());
    let mut report =
        OpenReport { created, damaged: registry.damaged(), foreign: found.foreign.clone(), ..OpenReport::default() };
    clean::clean_temps(&volume, &found, &mut report);
    // What lost checkpoints referred to stays until the next open, so that it can be saved.
    match learned.unreadable.or(lost) {
        Some(error) => report.cleanup_skipped = Some(error),
        None => clean::clean_data(&found, &registry, &mut report),
    }
    report.removed.sort_unstable();
    spare::keep(&volume);
    // A checkpoint that is not whole is no reason to remove anything elsewhere.
    let is_whole = |id: &CheckpointId| registry.status(*id).is_none_or(|status| status.damage.is_none());
    let departing = learned.published_under.into_iter().filter(|(id, _)| found.sources.contains_key(id));
    let departing = departing.filter(|(id, _)| is_whole(id)).collect();
    Ok(Recovered { volume, identity: Arc::new(identity), registry, report, departing })
}
