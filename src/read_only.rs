//! A store that is only read, while another process may write it.
//!
//! # Who owns what
//!
//! Nothing is written and no lock of the store is taken, so any number of readers may come and go while one process
//! writes. Nothing is remembered either: each call looks at the directory as it is then. An open checkpoint holds a shared
//! lock of one byte of `piton.readers`: that with the number of its id. The writer locks that byte exclusively while it
//! removes the manifest. So the checkpoint stays, and with it every byte that it names.
//!
//! # Opening a checkpoint, step by step
//!
//! 1. lock the byte, without waiting. If the writer has it, the checkpoint is being forgotten: there is no such
//!    checkpoint;
//! 2. read the manifest. If it is gone, it was removed before the lock: there is no such checkpoint;
//! 3. check that its data files are there, as opening a store does.

use std::{path::Path, sync::Arc};

use crate::{
    check::{self, Issue, RecoveryReport, Severity, Validation, ValidationReport},
    disk::{DirEntry, FileKind, layout, root, volume::Volume},
    error::{Error, Malformed, Result},
    format::identity::Identity,
    id::{CheckpointId, StoreId},
    identity, manifests,
    options::Options,
    read::{Checkpoint, Pin, ReadSettings},
    reclaim::{not_lent, pin_lender},
};

/// How often the directory is looked at, at most, for a moment in which nothing newer comes.
const MOST_LOOKS: u32 = 1000;
const LATEST: &str = "open the newest checkpoint";

/// A store that is only read, from any process, also while another one writes. Cheap to clone.
///
/// What it answers is what is there at that moment: a checkpoint that is committed meanwhile can be seen at once. One that
/// is open stays readable, byte for byte, until it is dropped, whatever the writing process does: that leaves it alone
/// and says so ([`Reclaimed::in_use`](crate::Reclaimed)).
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope, Store};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let pending = store.begin_next()?;
/// let handle = pending.write(Scope::Shared, &[7; 5000])?;
/// pending.commit(Manifest::builder().state("weights", handle))?;
///
/// // In another process, or in this one:
/// let reader = Options::new().open_read_only(dir.path())?;
/// let checkpoint = reader.latest()?.expect("one was committed");
/// let handle = checkpoint.manifest().state("weights").expect("it was named");
/// assert_eq!(checkpoint.read(handle)?.len(), 5000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadOnlyStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    volume: Arc<Volume>,
    store: StoreId,
    reading: Arc<ReadSettings>,
    vnode_count: u16,
}

impl Options {
    /// Opens a store, or what [`Store::export`](crate::Store::export) made of one, for reading alone: nothing is created,
    /// changed or removed, so another process may write it, and the medium may be read-only. Of the options only those count
    /// that are about reading: [`disk`](Self::disk), [`verify`](Self::verify), [`vnode_count`](Self::vnode_count).
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is no store. `is_corrupt` if its identity is damaged or was lost, which opening it for writing
    /// can [rebuild](Self::rebuild_identity), or if the directory of its manifests was. `is_newer_format`. Errors of the file
    /// system.
    pub fn open_read_only(self, root: impl AsRef<Path>) -> Result<ReadOnlyStore> {
        let root = root::absolute(root::OPERATION, root.as_ref())?;
        let volume = Arc::new(Volume::new(Arc::clone(&self.disk), root, false));
        volume.open_root()?;
        let store = read_identity(&volume)?.store;
        // Whoever takes a store away begins with its identity.
        let is_there = root::is_there(&volume, layout::MANIFESTS)?;
        if !is_there && (read_identity(&volume)?.populated || root::has_lost_manifests(&volume)?) {
            return Err(lost_manifests(&volume));
        }
        let reading = Arc::new(ReadSettings::new(Arc::clone(&volume), self.verify));
        Ok(ReadOnlyStore(Arc::new(Inner { volume, store, reading, vnode_count: self.vnode_count })))
    }
}

/// Where there are checkpoints there is an identity, or there was: whoever makes a store writes it last.
fn read_identity(volume: &Volume) -> Result<Identity> {
    let has_checkpoints =
        |entries: Vec<DirEntry>| entries.iter().any(|entry| layout::parse_manifest(&entry.name).is_some());
    match identity::read(volume) {
        Err(error) if error.is_not_found() && volume.list(layout::MANIFESTS).is_ok_and(has_checkpoints) => {
            identity::read(volume).map_err(|error| if error.is_not_found() { lost_identity(volume) } else { error })
        }
        found => found,
    }
}

fn lost_identity(volume: &Volume) -> Error {
    let what = "the file is missing, and there are checkpoints; opening the store for writing can make a new one, see \
                Options::rebuild_identity";
    Malformed::new(0, what).at(root::OPERATION, &volume.path(layout::IDENTITY))
}

fn lost_manifests(volume: &Volume) -> Error {
    let what = "the store has checkpoints, and there is no manifest; bring the manifests back";
    Malformed::new(0, what).at(root::OPERATION, &volume.path(layout::MANIFESTS))
}

impl ReadOnlyStore {
    pub(crate) fn volume(&self) -> &Volume {
        &self.0.volume
    }

    /// The directory of the store, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.volume.root()
    }

    /// The random identity of the store.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.0.store
    }

    /// The ids of all checkpoints that are there, ascending, damaged ones included.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn checkpoint_ids(&self) -> Result<Vec<CheckpointId>> {
        self.0.volume.check_in_place("list checkpoints of")?;
        let entries = root::list_if_there(&self.0.volume, layout::MANIFESTS)?;
        let mut ids: Vec<_> = entries.iter().filter_map(|entry| layout::parse_manifest(&entry.name)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The newest valid checkpoint, or `None` if there is none. Damaged ones, and those that were rolled back, are passed
    /// over.
    ///
    /// # Errors
    ///
    /// The damage of the newest one if there are checkpoints and none is valid; `is_not_found` if all that are left were
    /// rolled back; `is_newer_format` if a newer version of this crate wrote the newest one. Errors of the file system.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        check::latest(LATEST, || self.stable_ids(), |id| self.checkpoint(id).map(Some))
    }

    /// The newest checkpoint that was not rolled back, as [`latest`](Self::latest); but one that is damaged is an error, and
    /// no older one will do. `None` if there is none.
    pub(crate) fn newest(&self) -> Result<Option<Checkpoint>> {
        loop {
            let newest = self.stable_ids()?.into_iter().rev().find(|(_, rolled_back)| !rolled_back);
            let Some((id, _)) = newest else { return Ok(None) };
            match self.checkpoint(id) {
                // It was forgotten meanwhile: another one is the newest.
                Err(error) if error.is_not_found() => {}
                checkpoint => return checkpoint.map(Some),
            }
        }
    }

    /// All ids, ascending, each with whether it was rolled back, as they were at one moment.
    ///
    /// A list of a directory that changes meanwhile may lack what was added, and what was removed: then the newest of it
    /// was never the newest. One that is followed by a list without newer ones is right.
    fn stable_ids(&self) -> Result<check::Ids> {
        let mut ids = self.checkpoint_ids()?;
        for _ in 0..MOST_LOOKS {
            let again = self.checkpoint_ids()?;
            let is_stable = again.last() <= ids.last();
            let before = std::mem::replace(&mut ids, again);
            if is_stable {
                let Identity { roll_backs, populated, .. } = self.identity()?;
                // The identity is read after the list: the writer clears the flag before the last checkpoint goes.
                if populated && before.is_empty() && self.checkpoint_ids()?.is_empty() {
                    return Err(lost_manifests(&self.0.volume));
                }
                return Ok(before.into_iter().map(|id| (id, roll_backs.skips(id))).collect());
            }
        }
        Err(Error::not_found("list checkpoints", "newer ones came faster than they could be listed"))
    }

    /// The checkpoint with this id.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none, or if it is just being forgotten. `is_corrupt`, with the file, if its manifest is
    /// damaged, or a data file is missing or too short.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint> {
        let checkpoint = self.load(id)?;
        let fatal = |issue: &Issue| issue.severity() == Severity::Fatal;
        match self.issues(&checkpoint, Validation::Quick)?.into_iter().find(fatal) {
            None => Ok(checkpoint),
            Some(Issue::State { error, .. }) => Err(error),
            Some(issue) => {
                let path = self.0.volume.path(layout::manifest(id));
                Err(Malformed::new(0, issue.to_string()).at("check", &path))
            }
        }
    }

    /// Looks at one checkpoint, and says all that is wrong with it: see [`Store::validate`](crate::Store::validate).
    ///
    /// # Errors
    ///
    /// Those of [`Store::validate`](crate::Store::validate).
    pub fn validate(&self, id: CheckpointId, depth: Validation) -> Result<ValidationReport> {
        let issues = match self.load(id) {
            Ok(checkpoint) => self.issues(&checkpoint, depth)?,
            Err(error) if error.is_not_found() => vec![Issue::Missing],
            Err(error) if error.is_damage() || error.is_newer_format() => vec![Issue::Unreadable(error)],
            Err(error) => return Err(error),
        };
        Ok(ValidationReport::new(id, issues))
    }

    /// The newest checkpoint of which every byte is what it should be: see
    /// [`Store::recover_latest_validated`](crate::Store::recover_latest_validated).
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate), and of the file system while looking for checkpoints.
    pub fn recover_latest_validated(&self) -> Result<RecoveryReport> {
        check::recover(|| self.stable_ids(), |id| self.validate(id, Validation::Full))
    }

    /// As it is now: somebody may have rolled back, or taken the store over.
    fn identity(&self) -> Result<Identity> {
        let missing = || {
            Malformed::new(0, "the file is missing").at("read store identity", &self.0.volume.path(layout::IDENTITY))
        };
        identity::read(&self.0.volume).map_err(|error| if error.is_not_found() { missing() } else { error })
    }

    /// Steps 1 and 2.
    fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
        let Inner { volume, store, reading, .. } = &*self.0;
        let name = layout::manifest(id);
        let gone = || Error::not_found(format!("open checkpoint {id}"), "there is no such checkpoint");
        volume.check_in_place("open a checkpoint of")?;
        if volume.metadata(&name)?.ok_or_else(gone)?.kind != FileKind::File {
            return Err(Malformed::new(0, "it is not a regular file").at("check", &volume.path(name)));
        }
        let lock = volume.lock_shared(layout::READERS.as_ref(), id.get())?.ok_or_else(gone)?;
        let manifest = match manifests::load(volume, *store, id) {
            Ok(loaded) => loaded.manifest,
            Err(_) if volume.metadata(&name)?.is_none() => return Err(gone()),
            Err(error) => return Err(error),
        };
        // Read after the manifest: whoever took the store over before that was published has said so by now.
        let take_over = self.identity()?.take_over;
        if take_over.outdates(id, manifest.generation) {
            return Err(manifests::stale(volume, &manifest, take_over.generation));
        }
        let lent = manifest.lenders().map(|lender| pin_lender(volume, lender)?.ok_or_else(|| not_lent(lender)));
        let locks = lent.chain([Ok(lock)]).collect::<Result<_>>()?;
        let pin = Pin::locked(&manifest, locks);
        Ok(Checkpoint::new(manifest, reading, pin))
    }

    fn issues(&self, checkpoint: &Checkpoint, depth: Validation) -> Result<Vec<Issue>> {
        check::validate(&self.0.reading, checkpoint.manifest(), (self.0.vnode_count, depth), |_, _| ())
    }
}
