//! Checkpoints that move to another directory, and those that come from one.

use std::{path::Path, sync::Arc, time::Instant};

use super::{Inner, Store};
use crate::{
    disk::{is_this_host_s_and_dead, layout, member, root, volume::Volume},
    error::{Error, Result},
    format::source::Source,
    id::CheckpointId,
    manifest::Lender,
    observe::{Event, span},
    options::Options,
    read::Checkpoint,
    read_only::ReadOnlyStore,
    records::Journal,
    recover::Purpose,
    transfer::{self, Capabilities, Claim, Departing, Exported, Imported, Take},
};

impl Store {
    /// Makes a store of its own of one checkpoint, in another directory: one that can be moved, copied, archived, and
    /// opened anywhere, also for reading alone ([`Options::open_read_only`]). The directory must be empty, or not be there.
    ///
    /// Data files are linked where that is possible, so that an export within a file system takes next to no space and
    /// time; else they are reflinked; else what the checkpoint needs of them is copied, and compared with its checksums. What
    /// became of each is in the answer. Nothing that this store does later can change the export, nor the other way
    /// round: bytes that both have never change. The export has an id of its own.
    ///
    /// When it returns the export is durable, whatever [`Durability`](crate::Durability) is set. One that was interrupted
    /// cannot be opened; to export to the same directory again, or to remove it, is safe.
    ///
    /// # Errors
    ///
    /// Those of [`checkpoint`](Self::checkpoint). `is_invalid` if there is something in the directory, `is_locked` if
    /// somebody else exports to it. `is_corrupt` if a data file is missing, too short, or found to be damaged while it is
    /// copied; `is_fenced`; `is_no_space` and other errors of the file system. Nothing is left then but the directory, with a
    /// lock file in it, unless the error `is_indeterminate`: then the export is there or not, as opening it tells. This store
    /// goes on in either case, unless it must be reopened because a data file could not be synced.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, Scope, Store};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path().join("state"))?;
    /// let pending = store.begin_next()?;
    /// let weights = pending.write(Scope::Shared, &[7; 5000])?;
    /// let id = pending.commit(Manifest::builder().state("weights", weights))?.id();
    ///
    /// let exported = store.export(id, dir.path().join("savepoint"))?;
    /// println!("{} files, {} bytes more are in use", exported.files.len(), exported.space());
    ///
    /// let savepoint = Options::new().open_read_only(&exported.root)?;
    /// assert_eq!(savepoint.latest()?.expect("it has one").id(), id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export(&self, id: CheckpointId, dir: impl AsRef<Path>) -> Result<Exported> {
        let (_span, since) = (span!("export", checkpoint = id.get()), Instant::now());
        let _verb = self.verb();
        let root = root::absolute("export to", dir.as_ref())?;
        let exported = transfer::export(&self.0.publisher, &self.checkpoint(id)?, root)?;
        let (root, bytes, took) = (exported.root.clone(), exported.space(), since.elapsed());
        self.0.volume.observer().note(|| Event::Exported { checkpoint: id, root, bytes, took });
        Ok(exported)
    }

    /// Makes a checkpoint of this store of the newest one of another: of an export, or of any store. Whose its files are
    /// then says the [`Claim`].
    ///
    /// It has the next id of this store, is no savepoint, and has no parent; all else of it stays as it was. The handles
    /// are new ones: take them from its manifest. Commit nothing else meanwhile: ids only grow.
    ///
    /// When it returns the checkpoint is durable, and so is what became of the source. After a crash before, nothing was
    /// imported, or all; a source that was being moved is there as a whole, or goes with the next open of this store, unless
    /// its owner opened it for writing before: then it stays.
    ///
    /// A store that another process writes is not linked, but reflinked or copied. Its lock file says whether one does; no lock
    /// that a writer could want is taken.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is no store or no checkpoint in it. `is_corrupt` if the newest one is damaged: import an
    /// older one by [rolling back](Self::rollback_to) there first. `is_locked` if the source is to be moved and somebody
    /// writes there; `is_invalid` if this store syncs nothing and is to take one over, or is to borrow from itself;
    /// `is_unavailable` if what is to be borrowed cannot be kept from being removed. Those of
    /// [`PendingCheckpoint::commit`](crate::PendingCheckpoint::commit); errors of the file system. The checkpoints of the source are as they were then.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Claim, Manifest, Scope, Store};
    ///
    /// let dir = tempfile::tempdir()?;
    /// # let old = Store::open(dir.path().join("old"))?;
    /// # let pending = old.begin_next()?;
    /// # let weights = pending.write(Scope::Shared, &[7; 5000])?;
    /// # let id = pending.commit(Manifest::builder().state("weights", weights))?.id();
    /// # old.export(id, dir.path().join("savepoint"))?;
    /// let store = Store::open(dir.path().join("state"))?;
    /// let imported = store.import(dir.path().join("savepoint"), Claim::Copy)?;
    /// let weights = imported.checkpoint.manifest().state("weights").expect("it was named");
    /// assert_eq!(imported.checkpoint.read(weights)?.len(), 5000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn import(&self, dir: impl AsRef<Path>, claim: Claim) -> Result<Imported> {
        let since = Instant::now();
        let _verb = self.verb();
        let source = self.elsewhere().open_read_only(dir)?;
        let imported = self.import_from(&source, claim)?;
        let (checkpoint, took) = (imported.checkpoint.id(), since.elapsed());
        let bytes = imported.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.space));
        self.0.volume.observer().note(|| Event::Imported { checkpoint, bytes, took });
        Ok(imported)
    }

    fn import_from(&self, source: &ReadOnlyStore, claim: Claim) -> Result<Imported> {
        match claim {
            Claim::Copy => {
                let checkpoint = newest(source)?;
                // Asked when it is known which files there are: nobody appends to them later who does not now.
                let may_link = is_quiet(source.volume());
                self.take(&checkpoint, Take::Own { may_link }, |_| Ok(()))
            }
            Claim::Borrow if source.id() == self.id() => Err(Error::invalid(
                format!("import from {}", self.root().display()),
                "a store borrows nothing from itself",
            )),
            Claim::Borrow => self.take(&newest(source)?, Take::Borrow, |_| Ok(())),
            Claim::Move => self.take_over(source),
        }
    }

    /// Makes a checkpoint of ours of that of another store; `prepare` is called directly before the commit.
    fn take(
        &self,
        source: &Checkpoint,
        take: Take,
        prepare: impl FnOnce(CheckpointId) -> Result<()>,
    ) -> Result<Imported> {
        let pending = self.begin_next()?;
        let (content, files) = transfer::import(&pending, source, take)?;
        prepare(pending.id())?;
        let checkpoint = pending.commit(content.into())?;
        Ok(Imported { checkpoint, files, failures: Vec::new() })
    }

    /// Has the source open for writing until it is gone, so that nobody else goes on with it.
    fn take_over(&self, reader: &ReadOnlyStore) -> Result<Imported> {
        let Inner { volume, registry, journal, .. } = &*self.0;
        if !volume.syncs() {
            let why = "a store that syncs nothing must not be the only one that has it; import with Claim::Copy";
            return Err(Error::invalid(format!("take over {}", reader.root().display()), why));
        }
        let source = self.elsewhere().open(reader.root())?;
        let checkpoint = source.checkpoint(newest(reader)?.id())?;
        let mut noted = None;
        // A member that lives on finds out only with its next part, and appends until then.
        let may_link = member::are_all_ended(&source.0.volume).unwrap_or(false);
        let imported = self.take(&checkpoint, Take::Own { may_link }, |id| {
            let (ours, theirs) = ((self.id(), id), (source.id(), checkpoint.id()));
            let agreed = Source { ours, generation: self.generation(), theirs, root: reader.root().to_owned() };
            // Who has taken the source over goes on with it.
            source.0.journal.check_not_fenced("take over")?;
            transfer::mark(&source.0.volume, &agreed)?;
            source.0.journal.check_not_fenced("take over")?;
            journal.turn().note_departing(&agreed)?;
            noted = Some(agreed);
            Ok(())
        });
        drop(checkpoint);
        let mut imported = imported.inspect_err(|error| {
            // Without a checkpoint it means nothing, and the next open takes it back as well.
            if let Some(agreed) = noted.as_ref().filter(|_| !error.needs_reopen()) {
                let _ = journal.turn().note_departed(agreed.ours.1);
            }
        })?;
        let gone = noted.map_or(Ok(()), |agreed| {
            let id = agreed.ours.1;
            Departing::noted(volume, agreed)
                .and_then(|departing| depart(&source, departing))
                .and_then(|()| journal.turn().note_departed(id))
        });
        imported.failures.extend(gone.err());
        registry.recheck_links();
        Ok(imported)
    }

    /// For opening another store on the same disk.
    fn elsewhere(&self) -> Options {
        elsewhere(&self.0.volume).vnode_count(self.vnode_count())
    }

    /// The stores that lend this one files ([`Claim::Borrow`]), because a checkpoint, a pending one or a reader here
    /// refers to them. They must stay where they are.
    #[must_use]
    pub fn lenders(&self) -> Vec<Lender> {
        self.0.registry.lenders()
    }

    /// What the file system that the store is on can do, found out by trying it with a file of 64 KiB in the root, which is
    /// gone when this returns.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`; `is_no_space` and other errors of the file system.
    ///
    /// # Examples
    ///
    /// ```
    /// let store = piton::Options::memory().open("state")?;
    /// assert!(store.capabilities()?.hard_links);
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn capabilities(&self) -> Result<Capabilities> {
        let _verb = self.verb();
        self.0.volume.check_writable("try what can be done in")?;
        self.0.journal.check_not_fenced("try what can be done in")?;
        transfer::probe(&self.0.volume)
    }
}

fn elsewhere(volume: &Volume) -> Options {
    Options { disk: Arc::clone(volume.disk()), ..Options::new() }
}

fn newest(source: &ReadOnlyStore) -> Result<Checkpoint> {
    source.newest()?.ok_or_else(|| {
        let operation = format!("import from {}", source.root().display());
        Error::not_found(operation, "there is no checkpoint in it")
    })
}

/// Whether no process writes to a store, and no member does, as far as its lock files say: then nothing is ever appended to
/// the files that it has. To try the lock itself would keep a writer from it that comes at that moment.
fn is_quiet(volume: &Volume) -> bool {
    has_no_writer(volume) && member::are_all_ended(volume).unwrap_or(false)
}

fn has_no_writer(volume: &Volume) -> bool {
    match volume.read_if_there(layout::LOCK) {
        Ok(None) => true,
        Ok(Some(owner)) => {
            let owner = String::from_utf8_lossy(&owner);
            owner.is_empty() || is_this_host_s_and_dead(owner.trim())
        }
        Err(_) => false,
    }
}

/// Removes the store that a checkpoint was taken over from, if both still agree.
pub(super) fn see_off(volume: &Arc<Volume>, journal: &Journal, agreed: Source) -> Result<()> {
    let id = agreed.ours.1;
    let departing = Departing::noted(volume, agreed)?;
    if departing.agreed().ours.0 == journal.store() && departing.is_marked()? {
        if departing.is_store()? {
            let source = elsewhere(volume).open_to(Purpose::SeeOff, departing.root())?;
            depart(&source, departing)?;
        } else {
            departing.lock()?;
            if departing.is_marked()? && !departing.is_store()? {
                departing.remove_skeleton()?;
            }
        }
    }
    journal.turn().note_departed(id)
}

/// Removes what was taken of a store, and with its last checkpoint the store itself. It is open, and so locked, until then.
fn depart(source: &Store, departing: Departing) -> Result<()> {
    let departing = departing.opened(&source.0.volume);
    let (store, taken) = departing.agreed().theirs;
    if source.id() != store || !departing.is_marked()? {
        return Ok(());
    }
    if source.checkpoint_ids().contains(&taken) {
        let left = source.forget(taken)?.failures;
        left.into_iter().next().map_or(Ok(()), Err)?;
    }
    if source.checkpoint_ids().is_empty() { departing.remove_skeleton() } else { departing.unmark() }
}
