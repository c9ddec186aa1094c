//! A store that is only read, while another process may write it.
//!
//! # Who owns what
//!
//! Nothing is written and no lock of the store is taken, so any number of readers may come and go while one process
//! writes. What was read of the log is remembered, and each call reads on from there ([`Follower`]). An open checkpoint
//! holds a shared lock of one byte of `piton.readers`: that with the number of its id. The writer locks that byte
//! exclusively until the record is there that the checkpoint is forgotten. So the checkpoint stays, and with it every byte
//! that it names.
//!
//! # Opening a checkpoint, step by step
//!
//! 1. lock the byte, without waiting. If the writer has it, the checkpoint is being forgotten: there is no such
//!    checkpoint;
//! 2. read on in the log. If it was forgotten before the lock, there is no such checkpoint;
//! 3. check that no state of it is in the log alone, as after a power cut, and that its data files are there.

use std::{path::Path, sync::Arc};

use crate::{
    check::{self, Issue, RecoveryReport, Severity, Validation, ValidationReport},
    disk::{layout, root, volume::Volume},
    error::{Error, Malformed, Result},
    format::record::is_rolled_back,
    id::{CheckpointId, StoreId},
    options::Options,
    read::{Checkpoint, Pin, ReadSettings},
    reclaim::{not_lent, pin_lender},
    records::{Follower, Survey, identity, unreadable},
};

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
    records: Follower,
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
    /// can [rebuild](Self::rebuild_identity), or if its manifest log was. `is_newer_format`. Errors of the file
    /// system.
    pub fn open_read_only(self, root: impl AsRef<Path>) -> Result<ReadOnlyStore> {
        let root = root::absolute(root::OPERATION, root.as_ref())?;
        // What is new in the log is made durable before it is given out.
        let volume = Arc::new(Volume::new(Arc::clone(&self.disk), root, true).observed_by(&self.observer));
        volume.open_root()?;
        let records = Follower::new(read_identity(&volume)?);
        if !root::is_there(&volume, layout::MANIFESTS)? {
            // When a store is taken away, its identity goes first.
            read_identity(&volume)?;
            return Err(lost_log(&volume));
        }
        let reading = Arc::new(ReadSettings::new(Arc::clone(&volume), self.verify));
        Ok(ReadOnlyStore(Arc::new(Inner { volume, records, reading, vnode_count: self.vnode_count })))
    }
}

/// Where there are checkpoints there is an identity, or there was: a store that is made gets it last.
fn read_identity(volume: &Volume) -> Result<StoreId> {
    let read = || identity::read(volume).map(|found| found.identity.store);
    match read() {
        Err(error) if error.is_not_found() && has_checkpoints(volume)? => {
            read().map_err(|error| if error.is_not_found() { lost_identity(volume) } else { error })
        }
        found => found,
    }
}

/// Whether the log has checkpoints, whatever store it belongs to.
fn has_checkpoints(volume: &Volume) -> Result<bool> {
    if !root::is_there(volume, layout::MANIFESTS)? {
        return Ok(false);
    }
    let Some(store) = Survey::store_of_files(volume)? else { return Ok(false) };
    let survey = Survey::read(volume, store)?;
    let told = survey.tell(volume, true)?;
    Ok(told.history.kept().next().is_some())
}

fn lost_identity(volume: &Volume) -> Error {
    let what = "the file is missing, and there are checkpoints; opening the store for writing can make a new one, see \
                Options::rebuild_identity";
    Malformed::new(0, what).at(root::OPERATION, &volume.path(layout::IDENTITY))
}

fn lost_log(volume: &Volume) -> Error {
    let what = "the directory is missing, and the manifest log with it; bring it back";
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
        self.0.records.store()
    }

    /// The ids of all checkpoints that are there, ascending, damaged ones included.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn checkpoint_ids(&self) -> Result<Vec<CheckpointId>> {
        Ok(self.ids()?.into_iter().map(|(id, _)| id).collect())
    }

    /// The newest valid checkpoint, or `None` if there is none. Damaged ones, and those that were rolled back, are passed
    /// over.
    ///
    /// # Errors
    ///
    /// The damage of the newest one if there are checkpoints and none is valid; `is_not_found` if all that are left were
    /// rolled back; `is_newer_format` if a newer version of this crate wrote the newest one. Errors of the file system.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        check::latest(LATEST, || self.ids(), |id| self.checkpoint(id).map(Some))
    }

    /// The newest checkpoint that was not rolled back, as [`latest`](Self::latest); but one that is damaged is an error, and
    /// no older one will do. `None` if there is none.
    pub(crate) fn newest(&self) -> Result<Option<Checkpoint>> {
        loop {
            let newest = self.ids()?.into_iter().rev().find(|(_, rolled_back)| !rolled_back);
            let Some((id, _)) = newest else { return Ok(None) };
            match self.checkpoint(id) {
                // It was forgotten meanwhile: another one is the newest.
                Err(error) if error.is_not_found() => {}
                checkpoint => return checkpoint.map(Some),
            }
        }
    }

    /// All ids, ascending, each with whether it was rolled back, as they were at one moment.
    fn ids(&self) -> Result<check::Ids> {
        self.0.volume.check_in_place("list checkpoints of")?;
        self.0.records.look(&self.0.volume, |history| {
            let mut ids: Vec<_> =
                history.kept().map(|kept| (kept.id, is_rolled_back(history.rolled_back(), kept.id))).collect();
            ids.sort_unstable();
            ids
        })
    }

    /// The checkpoint with this id.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none, or if it is just being forgotten. `is_corrupt`, with the file, if its record is
    /// lost, or a data file is missing or too short.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint> {
        let checkpoint = self.load(id)?;
        let fatal = |issue: &Issue| issue.severity() == Severity::Fatal;
        match self.issues(&checkpoint, Validation::Quick)?.into_iter().find(fatal) {
            None => Ok(checkpoint),
            Some(Issue::State { error, .. }) => Err(error),
            Some(issue) => {
                let path = self.0.volume.path(layout::MANIFESTS);
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
        check::recover(|| self.ids(), |id| self.validate(id, Validation::Full))
    }

    /// Steps 1 and 2.
    fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
        let Inner { volume, records, reading, .. } = &*self.0;
        let gone = || Error::not_found(format!("open checkpoint {id}"), "there is no such checkpoint");
        volume.check_in_place("open a checkpoint of")?;
        if !records.look(volume, |history| history.get(id).is_some())? {
            return Err(gone());
        }
        let lock = volume.lock_shared(layout::READERS.as_ref(), id.get())?.ok_or_else(gone)?;
        let found = records.look(volume, |history| history.get(id).map(|kept| history.manifest(kept)))?;
        let manifest = found.ok_or_else(gone)?;
        let manifest = manifest.map_err(|error| unreadable(volume, error))?;
        records.check_recovered(volume, &manifest)?;
        let lent = manifest.lenders().map(|lender| pin_lender(volume, lender)?.ok_or_else(|| not_lent(lender)));
        let locks = lent.chain([Ok(lock)]).collect::<Result<_>>()?;
        let pin = Pin::locked(&manifest, locks);
        Ok(Checkpoint::new(manifest, reading, pin))
    }

    fn issues(&self, checkpoint: &Checkpoint, depth: Validation) -> Result<Vec<Issue>> {
        check::validate(&self.0.reading, checkpoint.manifest(), (self.0.vnode_count, depth), |_, _| ())
    }
}
