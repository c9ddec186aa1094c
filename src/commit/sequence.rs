//! The commit: the steps of this folder's page, one function each, in order.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::Mutex;

use super::{PendingCheckpoint, kept};
use crate::{
    accounts::{
        catalog::Retired,
        retention::{Facts, Retention},
        space::LEAST_PUNCHED,
    },
    disk::{FileKind, layout, publish::TempFile, volume::Volume},
    error::{Cause, Error, Result},
    format,
    handle::StateHandle,
    id::CheckpointId,
    identity::IdentityFile,
    manifest::{Manifest, ManifestBuilder, ManifestContent},
    manifests,
    read::{Checkpoint, Pin, ReadSettings},
    reclaim::{
        Plan,
        forget::{self, Reclaimed},
        registry::{Compared, Registry},
    },
    write::{
        batch::{Batch, WriteSettings},
        unsynced::{Named, Unsynced},
    },
};

/// What every commit of an open store needs.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) volume: Arc<Volume>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identity: Arc<IdentityFile>,
    pub(crate) write: Arc<WriteSettings>,
    pub(crate) retention: Retention,
    /// What a manifest gets that does not say how many virtual nodes there are.
    pub(crate) vnode_count: u16,
    pub(crate) reading: Arc<ReadSettings>,
    /// Whether the file system was found to link no files.
    pub(crate) cannot_link: AtomicBool,
    /// Whether `reuse` may copy states out of files that should go.
    pub(crate) relocation: bool,
    /// Where the search for kept states in files that should go continues.
    pub(crate) kept_from: Mutex<kept::Cursor>,
    /// What the last automatic retention did.
    pub(crate) last_retention: Mutex<Reclaimed>,
}

/// A checkpoint that may be published, as far as can be told without touching the disk.
pub(super) struct Prepared {
    manifest: Manifest,
    /// With the newest checkpoint.
    compared: Compared,
    unsynced: Unsynced,
}

/// Steps 1 and 2. Nothing was tried before they succeed: if one fails the pending checkpoint is as it was.
pub(super) fn prepare(publisher: &Publisher, batch: &Arc<Batch>, mut manifest: ManifestBuilder) -> Result<Prepared> {
    let id = batch.id();
    publisher.admit(id)?;
    batch.close_to_writers()?;
    kept::relocate_kept(publisher, batch, &mut manifest)
        .and_then(|()| compare(publisher, batch, manifest))
        .and_then(|(content, compared)| Ok((publisher.name(id, content)?, compared)))
        .map(|(manifest, compared)| Prepared { manifest, compared, unsynced: batch.seal() })
        .inspect_err(|_| batch.reopen())
}

/// Steps 3 to 8.
pub(super) fn commit(publisher: &Publisher, batch: &Batch, prepared: Prepared) -> Result<Checkpoint> {
    let Prepared { manifest, compared, unsynced } = prepared;
    let id = batch.id();
    // What the newest checkpoint names is durable.
    let written = unsynced.named_by(compared.changes.added_extents());
    written.sync_data()?;
    sync_dirs(&publisher.volume, &written)?;
    // What is durable need not stay open: the manifest takes a descriptor as well.
    drop(written);
    let bytes = encode(&manifest)?;
    let (checkpoint, retired) = {
        let _names = publisher.registry.lock_manifests();
        publisher.admit(id)?;
        if publisher.registry.borrows() {
            // What is lent may be referred to only as long as the newest checkpoint does, which may be another one now.
            refer_to_all(publisher, batch, &manifest.content)?;
        }
        let temp = write_manifest(&publisher.volume, &bytes)?;
        publisher.identity.check_not_fenced(&operation("commit", id))?;
        let unknown = PoisonOnPanic(&publisher.volume);
        publish(&publisher.volume, temp, id, &bytes).inspect_err(|error| publisher.note_stranger(id, error))?;
        drop(bytes);
        let retired = publisher.registry.take_retired();
        publisher.reach_commit_point(id)?;
        publisher.registry.publish(batch.hold(), &manifest, compared);
        drop(unknown);
        (publisher.open(manifest)?, retired)
    };
    batch.note_committed();
    publisher.apply_retention(retired, batch.written());
    Ok(checkpoint)
}

impl Publisher {
    /// Begins a checkpoint with this id, or with the next one. Nothing touches the disk yet.
    pub(crate) fn begin(self: &Arc<Self>, id: Option<CheckpointId>) -> Result<PendingCheckpoint> {
        self.volume.check_writable("begin a checkpoint in")?;
        let (id, hold) = self.registry.begin(id)?;
        let batch = Batch::new(id, Arc::clone(&self.write), hold);
        Ok(PendingCheckpoint::new(batch, Arc::clone(self)))
    }

    /// Step 1. It runs again directly before publishing: a concurrent commit may have failed or taken a higher id.
    fn admit(&self, id: CheckpointId) -> Result<()> {
        let operation = operation("commit", id);
        self.volume.check_writable(&operation)?;
        self.registry.check_new(id, &operation)
    }

    /// What a content is as a checkpoint of this store.
    pub(super) fn name(&self, id: CheckpointId, mut content: ManifestContent) -> Result<Manifest> {
        if *content.epoch.get_or_insert(id.get()) == 0 {
            return Err(Error::invalid(operation("commit", id), "epochs begin with 1"));
        }
        content.vnode_count.get_or_insert(self.vnode_count);
        let files = content.handles().filter_map(StateHandle::extent).map(|extent| extent.file);
        let (store, generation) = (self.identity.store(), self.identity.generation());
        let mut origins = self.registry.origins(files);
        // An old copy of this store may have had a file that now has its very name here: that needs no saying.
        origins.retain(|file, origin| origin.lent.is_some() || (origin.store, origin.file) != (store, *file));
        Ok(Manifest { store, id, generation, origins, content })
    }

    /// A checkpoint that we do not know of has the id. If it is of a writer that had lost the store, nobody may use it.
    fn note_stranger(&self, id: CheckpointId, error: &Error) {
        if !error.is_conflict() || self.registry.is_published(id) {
            return;
        }
        let Ok(found) = manifests::peek(&self.volume, id) else { return };
        if found.generation < self.identity.generation() {
            let damage = manifests::stale(&self.volume, &found, self.identity.generation());
            self.registry.enter_stranger(id, Facts::of(&found), damage);
        }
    }

    /// Step 7: the commit point. Whoever took the store over before it may not have seen the manifest.
    fn reach_commit_point(&self, id: CheckpointId) -> Result<()> {
        self.volume.settle_dir(layout::MANIFESTS)?;
        self.identity.check_not_fenced(&operation("commit", id)).map_err(|error| self.volume.in_doubt(error))
    }

    pub(super) fn open(&self, manifest: Manifest) -> Result<Checkpoint> {
        let hold = self.registry.open(manifest.id);
        let hold = hold.ok_or_else(|| Error::not_found(operation("open", manifest.id), "it was just forgotten"))?;
        Ok(Checkpoint::new(manifest, &self.reading, Pin::Registered(hold)))
    }

    /// Step 8, second half: the checkpoint is committed whatever happens here. The sync of step 7 made durable what the
    /// last retention removed, so that its data can go; what goes now waits for the next commit.
    fn apply_retention(&self, retired: Retired, written: u64) {
        let mut report = Reclaimed { failures: self.volume.retry_leftovers(), ..Reclaimed::default() };
        if !retired.is_empty() {
            self.registry.recheck_links();
        }
        forget::sweep(&self.registry, retired, written.max(LEAST_PUNCHED), &mut report);
        if !self.retention.is_off() {
            let plan = &Plan::Retention(self.retention, BTreeSet::new());
            if self.registry.planned(plan).is_empty() {
                return *self.last_retention.lock() = report;
            }
            // What could not be forgotten now is planned again by the next commit.
            if let Err(error) = forget::forget_with_next_commit(&self.registry, &self.identity, plan, &mut report) {
                report.failures.push(error);
            }
        }
        *self.last_retention.lock() = report;
    }
}

/// From the publication on until the registry knows of it: a disk that panics leaves it unknown what is published, and
/// nothing of it may be removed.
struct PoisonOnPanic<'a>(&'a Volume);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(&Error::invalid("commit a checkpoint", "the disk panicked while it was published"));
        }
    }
}

fn operation(what: &str, id: CheckpointId) -> String {
    format!("{what} checkpoint {id}")
}

/// Step 2: the pending checkpoint holds all that this content names from now on: the newest checkpoint, and what differs
/// from it. Nothing else is looked at.
fn compare(publisher: &Publisher, batch: &Batch, named: ManifestBuilder) -> Result<(ManifestContent, Compared)> {
    let ManifestBuilder { content, base } = named;
    let compared = Compared::with(batch.hold().hold_newest(), &content);
    if compared.base.whole {
        refer_to(publisher, batch, compared.changes.added.iter())?;
    } else {
        refer_to_all(publisher, batch, &content)?;
    }
    let newest = &compared.base.content;
    // What began as the newest one shares with it what was not touched.
    let shares =
        |base: &ManifestContent| base.states.is_same(&newest.states) && base.operators.is_same(&newest.operators);
    let content = if base.as_ref().is_some_and(shares) { content } else { content.sharing(newest) };
    Ok((content, compared))
}

/// Each state by itself.
fn refer_to_all(publisher: &Publisher, batch: &Batch, content: &ManifestContent) -> Result<()> {
    refer_to(publisher, batch, content.handles())
}

fn refer_to<'a>(publisher: &Publisher, batch: &Batch, handles: impl Iterator<Item = &'a StateHandle>) -> Result<()> {
    let (store, operation) = (publisher.identity.store(), operation("commit", batch.id()));
    let mut is_ours = Ok(());
    let ours = handles.map_while(|handle| {
        is_ours = handle.check_store(store, &operation);
        is_ours.is_ok().then(|| handle.extent())
    });
    let referred = batch.refer_sealed(ours.flatten(), "commit");
    is_ours.and(referred)
}

fn encode(manifest: &Manifest) -> Result<Vec<u8>> {
    format::manifest::encode(manifest)
        .ok_or_else(|| Error::invalid(operation("commit", manifest.id), "its states are in more than 2^32 files"))
}

/// Step 4.
fn sync_dirs(volume: &Volume, written: &Named) -> Result<()> {
    written.dirs().try_for_each(|dir| volume.sync_dir(dir))?;
    written.note_named();
    Ok(())
}

/// Step 5.
fn write_manifest(volume: &Arc<Volume>, bytes: &[u8]) -> Result<TempFile> {
    TempFile::write(volume, layout::MANIFESTS.as_ref(), bytes)
}

/// Step 6. After a failure the name tells: a call may fail that took effect (a link that was sent twice to NFS).
fn publish(volume: &Volume, temp: TempFile, id: CheckpointId, bytes: &[u8]) -> Result<()> {
    let name = layout::manifest(id);
    let Err(error) = temp.publish(&name) else { return Ok(()) };
    match volume.read_if_there(&name) {
        Ok(Some(found)) if found == bytes => Ok(()),
        Ok(Some(_)) => Err(Error::at(operation("commit", id), &volume.path(name), Cause::Conflict(id))),
        Ok(None) if error.is_no_space() => Err(error),
        Err(_) if volume.metadata(&name)?.is_some_and(|found| found.kind == FileKind::Dir) => Err(error),
        Ok(None) | Err(_) => Err(volume.in_doubt(error)),
    }
}
