//! The commit: the steps of this folder's page, one function each, in order.

use std::sync::{Arc, atomic::AtomicBool};

use parking_lot::Mutex;

use super::{PendingCheckpoint, kept, meter::Meter};
use crate::{
    accounts::{
        retention::{Facts, Retention},
        space::LEAST_PUNCHED,
    },
    disk::volume::Volume,
    error::{Error, Result},
    handle::StateHandle,
    id::CheckpointId,
    manifest::{CheckpointKind, Manifest, ManifestBuilder, ManifestContent},
    observe::Event,
    read::{Checkpoint, Pin, ReadSettings},
    reclaim::{
        forget::{self, Reclaimed, Unread},
        registry::{Compared, Registry},
    },
    records::Journal,
    write::{
        batch::Batch,
        settings::WriteSettings,
        unsynced::{Named, Unsynced},
    },
};

/// What every commit of an open store needs.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) volume: Arc<Volume>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) journal: Arc<Journal>,
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
    /// Whether a commit keeps the log in order, because no other thread does.
    pub(crate) tends: bool,
    /// What the last automatic retention did.
    pub(crate) last_retention: Mutex<Reclaimed>,
}

/// A checkpoint that may be published, as far as can be told without touching the disk.
pub(super) struct Prepared {
    manifest: Manifest,
    /// With the newest checkpoint.
    compared: Compared,
    unsynced: Unsynced,
    meter: Meter,
}

/// Steps 1 and 2. Nothing was tried before they succeed: if one fails the pending checkpoint is as it was.
pub(super) fn prepare(publisher: &Publisher, batch: &Arc<Batch>, mut manifest: ManifestBuilder) -> Result<Prepared> {
    let (id, mut meter) = (batch.id(), Meter::start(publisher.volume.observer()));
    publisher.admit(id, manifest.content.kind)?;
    batch.close_to_writers("commit")?;
    kept::relocate_kept(publisher, batch, &mut manifest)
        .and_then(|()| compare(publisher, batch, manifest))
        .and_then(|(content, compared)| Ok((publisher.name(id, content)?, compared)))
        .map(|(manifest, compared)| {
            meter.times.prepare = meter.lap();
            Prepared { manifest, compared, unsynced: batch.seal(), meter }
        })
        .inspect_err(|_| batch.reopen())
}

/// Steps 3 to 7.
pub(super) fn commit(publisher: &Publisher, batch: &Batch, prepared: Prepared) -> Result<Checkpoint> {
    let Prepared { manifest, compared, unsynced, mut meter } = prepared;
    let (id, kind) = (batch.id(), manifest.kind());
    meter.count(compared.changes.added_extents());
    // What the newest checkpoint names is durable, or in the log.
    let waiting = &publisher.write.waiting;
    let written = unsynced.named_by(compared.changes.added_extents(), waiting);
    let written = written.and_then(|written| written.sync_data(waiting).map(|()| written));
    let written = written.inspect_err(|error| batch.note_failed(error))?;
    sync_dirs(&publisher.volume, &written)?;
    let copies = written.into_copies();
    meter.times.sync = meter.lap();
    let (checkpoint, report) = {
        let mut turn = publisher.journal.turn();
        publisher.admit(id, kind)?;
        if publisher.registry.borrows() {
            // What is lent may be referred to only as long as the newest checkpoint does, which may be another one now.
            refer_to_all(publisher, batch, &manifest.content)?;
        }
        let (unread, report) = publisher.plan_retention(&manifest);
        turn.publish(&manifest, &unread.ids, &copies.redo())?;
        // At every moment there is a newest one, and it can be opened.
        publisher.registry.publish(batch.hold(), &manifest, compared);
        let checkpoint = publisher.open(manifest)?;
        publisher.registry.forget(&unread.ids);
        drop(turn.drop_forgotten(&unread.ids));
        (checkpoint, report)
    };
    meter.times.publish = meter.lap();
    batch.note_committed();
    // Retention may have given up the checkpoint that this one was compared with.
    batch.hold().let_go();
    publisher.tidy(report, batch.written());
    meter.times.tidy = meter.lap();
    meter.tell(publisher, batch, kind);
    Ok(checkpoint)
}

impl Publisher {
    /// Begins a checkpoint with this id, or with the next one. Nothing touches the disk yet.
    pub(crate) fn begin(self: &Arc<Self>, id: Option<CheckpointId>) -> Result<PendingCheckpoint> {
        self.volume.check_writable("begin a checkpoint in")?;
        let (id, hold) = self.registry.begin(id)?;
        let batch = Batch::new(id, Arc::clone(&self.write), hold);
        self.volume.observer().note(|| Event::Begun { checkpoint: id });
        Ok(PendingCheckpoint::new(batch, Arc::clone(self)))
    }

    /// Step 1. It runs again directly before publishing: a concurrent commit may have failed or taken a higher id.
    fn admit(&self, id: CheckpointId, kind: CheckpointKind) -> Result<()> {
        let operation = operation("commit", id);
        self.volume.check_writable(&operation)?;
        self.registry.check_new(id, kind, &operation)
    }

    /// What a content is as a checkpoint of this store.
    pub(super) fn name(&self, id: CheckpointId, mut content: ManifestContent) -> Result<Manifest> {
        if *content.epoch.get_or_insert(id.get()) == 0 {
            return Err(Error::invalid(operation("commit", id), "epochs begin with 1"));
        }
        content.vnode_count.get_or_insert(self.vnode_count);
        let files = content.handles().filter_map(StateHandle::extent).map(|extent| extent.file);
        let (store, generation) = (self.journal.store(), self.journal.generation());
        let mut origins = self.registry.origins(files);
        // An old copy of this store may have had a file that now has its very name here: that needs no saying.
        origins.retain(|file, origin| origin.lent.is_some() || (origin.store, origin.file) != (store, *file));
        Ok(Manifest { store, id, generation, origins, content })
    }

    pub(super) fn open(&self, manifest: Manifest) -> Result<Checkpoint> {
        let hold = self.registry.open(manifest.id);
        let hold = hold.ok_or_else(|| Error::not_found(operation("open", manifest.id), "it was just forgotten"))?;
        Ok(Checkpoint::new(manifest, &self.reading, Pin::Registered(hold)))
    }

    /// Step 5: the checkpoints that retention gives up with this one, and those that stay because another process reads
    /// them. If locking them fails, none goes now, and the next commit plans again.
    fn plan_retention(&self, manifest: &Manifest) -> (Unread, Reclaimed) {
        let mut report = Reclaimed::default();
        if self.retention.is_off() {
            return (Unread::default(), report);
        }
        let planned = self.registry.planned_with(self.retention, manifest.id, Facts::of(manifest));
        let unread = forget::lock_unread(&self.volume, planned).unwrap_or_else(|error| {
            report.failures.push(error);
            Unread::default()
        });
        (report.checkpoints, report.in_use) = (unread.ids.clone(), unread.in_use.clone());
        (unread, report)
    }

    /// Keeps the log in order.
    pub(crate) fn tend(&self) -> Result<()> {
        self.journal.tend(|| self.write.waiting.sync())
    }

    /// Closes files that were removed.
    pub(crate) fn close_removed(&self) {
        self.write.waiting.let_go(|file| self.registry.knows(file));
    }

    /// Step 7: the checkpoint is committed whatever happens here.
    fn tidy(&self, mut report: Reclaimed, written: u64) {
        report.failures.extend(self.volume.retry_leftovers());
        if !report.checkpoints.is_empty() {
            self.registry.recheck_links();
        }
        forget::sweep(&self.registry, written.max(LEAST_PUNCHED), &mut report);
        if self.tends && self.journal.needs_tending() {
            let failed = self.tend().inspect_err(|error| self.volume.note_left_over(error));
            report.failures.extend(failed.err());
        }
        self.close_removed();
        if !report.checkpoints.is_empty() || !report.in_use.is_empty() {
            let (forgotten, in_use) = (report.checkpoints.clone(), report.in_use.clone());
            self.volume.observer().note(|| Event::Retained { forgotten, in_use });
        }
        *self.last_retention.lock() = report;
    }
}

fn operation(what: &str, id: CheckpointId) -> String {
    format!("{what} checkpoint {id}")
}

/// Step 2: the pending checkpoint holds all that this content names from now on: the newest checkpoint, and what differs
/// from it. Nothing else is looked at.
fn compare(publisher: &Publisher, batch: &Batch, named: ManifestBuilder) -> Result<(ManifestContent, Compared)> {
    let ManifestBuilder { content, base, .. } = named;
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
    let (store, operation) = (publisher.journal.store(), operation("commit", batch.id()));
    let mut is_ours = Ok(());
    let ours = handles.map_while(|handle| {
        is_ours = handle.check_store(store, &operation);
        is_ours.is_ok().then(|| handle.extent())
    });
    let referred = batch.refer_sealed(ours.flatten(), "commit");
    is_ours.and(referred)
}

/// Step 4.
fn sync_dirs(volume: &Volume, written: &Named) -> Result<()> {
    written.dirs().try_for_each(|dir| volume.sync_dir(dir))?;
    written.note_named();
    Ok(())
}
