//! The manifest log of an open store, with what it says, and the identity that fences it: whoever writes a record does it here.
//!
//! # Who owns what
//!
//! One thread at a time has the [`Turn`]: what it looks at does not change before its record is there. The history follows
//! the log under a lock of its own, so that to look something up never waits for a sync. A base is written from a copy of
//! the history, which shares the contents, while others go on.

use std::{sync::Arc, time::Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{
    adopt, base,
    blank::{Entry, Urgency},
    blanks::{Blanks, Shape},
    history::{History, Kept},
    identity::IdentityFile,
    log::{Log, Owner},
    survey::Told,
};
use crate::{
    disk::{
        layout,
        volume::{ReadersLocked, Volume},
    },
    error::{Error, Result},
    format::{
        record::{self, Changeable, Marks, Redo, RolledBack},
        source::Source,
    },
    id::{CheckpointId, StoreId},
    manifest::Manifest,
    observe::Event,
};

/// So many logs follow a base before an opener writes another one.
const MOST_LOGS: usize = 8;

/// The records of an open store.
#[derive(Debug)]
pub(crate) struct Journal {
    volume: Arc<Volume>,
    identity: Arc<IdentityFile>,
    writer: Mutex<Writer>,
    history: Mutex<History>,
    blanks: Arc<Blanks>,
    /// Held while a base is written.
    basing: Mutex<()>,
}

#[derive(Debug)]
struct Writer {
    log: Log,
    /// How many bytes of records follow the base.
    since_base: u64,
    /// How long the base is.
    base_len: u64,
    /// Something is lost: the logs that show it stay, until that is accepted.
    keeps_logs: bool,
    /// The log has states that could not be written to their segments: it stays until another open does that.
    keeps_states: bool,
}

impl Writer {
    /// Whether as much was appended as the base has, and at least half of a log. Not while something is lost: a base
    /// removes the logs that show it.
    fn needs_base(&self, half: u64) -> bool {
        !self.keeps_logs && !self.keeps_states && self.since_base >= self.base_len.max(half)
    }
}

/// The right to append the next record.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    journal: &'a Journal,
    writer: MutexGuard<'a, Writer>,
}

/// What was taken out of the history: to be dropped where no lock is held.
pub(crate) type Dropped = Vec<Kept>;

impl Journal {
    /// Goes on with what was found, or with nothing. Durable on return: from here on nothing counts that an older writer
    /// appends. The lengths are those of half a log, and of half the first one.
    ///
    /// # Errors
    ///
    /// `is_fenced` if another opener was faster. Those of the file system.
    pub(crate) fn begin(
        volume: &Arc<Volume>,
        identity: &Arc<IdentityFile>,
        told: &mut Told<'_>,
        (half, first_half): (u64, u64),
    ) -> Result<Self> {
        adopt::make_durable(volume, told)?;
        if let Some(last) = &told.last {
            adopt::make_sure(volume, last)?;
        }
        let shape = Shape { store: identity.store(), generation: identity.generation(), half, first_half };
        let log = Log::begin(volume, shape, told.end, told.history.id_floor())?;
        let blanks = Arc::clone(log.blanks());
        let keeps_logs = told.gone().next().is_some();
        let writer =
            Writer { log, since_base: told.since_base, base_len: told.base_len, keeps_logs, keeps_states: false };
        let history = std::mem::replace(&mut told.history, History::new(identity.store()));
        Ok(Self {
            volume: Arc::clone(volume),
            identity: Arc::clone(identity),
            writer: Mutex::new(writer),
            history: Mutex::new(history),
            blanks,
            basing: Mutex::default(),
        })
    }

    /// Writes a base where an opener found that one is due: if many logs follow the last one, if one of two copies of
    /// something is damaged or missing, if a loss was accepted, or if `synced`: the records call checkpoints unsynced that
    /// are durable now.
    ///
    /// # Errors
    ///
    /// Those of [`base::write`]. The store goes on without.
    pub(crate) fn settle(&self, told: &Told<'_>, synced: bool, accepts_loss: bool) -> Result<()> {
        let is_lost = told.gone().next().is_some();
        let is_due = synced || told.needs_base || told.logs >= MOST_LOGS || is_lost && accepts_loss;
        if !is_due || is_lost && !accepts_loss || self.writer.lock().keeps_states {
            return Ok(());
        }
        self.write_base(&self.basing.lock(), || Ok(()))?;
        self.writer.lock().keeps_logs = false;
        Ok(())
    }

    /// Notes of every checkpoint whether its states are durable.
    pub(crate) fn note_durable(&self, is_durable: bool) {
        self.history.lock().note_durable(is_durable);
    }

    /// Not all states that the log has could be written to their segments.
    pub(crate) fn keep_states(&self) {
        self.writer.lock().keeps_states = true;
    }

    pub(crate) fn store(&self) -> StoreId {
        self.identity.store()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.identity.generation()
    }

    /// Refuses if another process has opened the store for writing since, or if its directory was exchanged.
    pub(crate) fn check_not_fenced(&self, operation: &str) -> Result<()> {
        self.identity.check_not_fenced(operation)
    }

    /// Waits until no other thread has it.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn { journal: self, writer: self.writer.lock() }
    }

    /// Looks something up.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history.lock())
    }

    /// A checkpoint as it is now; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `is_corrupt` if its record is lost.
    pub(crate) fn manifest(&self, id: CheckpointId) -> Result<Option<Manifest>> {
        let found = self.look(|history| history.get(id).map(|kept| history.manifest(kept)));
        found.transpose().map_err(|error| self.unreadable(error))
    }

    /// A checkpoint as it was published; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `is_corrupt` if its record is lost.
    pub(crate) fn published(&self, id: CheckpointId) -> Result<Option<Manifest>> {
        let found = self.look(|history| history.get(id).map(|kept| history.published(kept)));
        found.transpose().map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: crate::error::Malformed) -> Error {
        unreadable(&self.volume, error)
    }

    /// Makes blank logs, and a base if one is due, so that no record has to wait for that. A base takes the place of records:
    /// before it is there, `sync` makes the states durable that those have.
    ///
    /// # Errors
    ///
    /// Those of the file system. The log goes on.
    pub(crate) fn tend(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        self.blanks.refill()?;
        // One thread at a time writes a base.
        let Some(basing) = self.basing.try_lock() else { return Ok(()) };
        if !self.writer.lock().needs_base(self.blanks.half()) {
            return Ok(());
        }
        self.write_base(&basing, sync)
    }

    /// Whether [`tend`](Self::tend) has something to do, at a glance.
    pub(crate) fn needs_tending(&self) -> bool {
        self.blanks.are_needed() || self.writer.try_lock().is_some_and(|writer| writer.needs_base(self.blanks.half()))
    }

    fn write_base(&self, _alone: &MutexGuard<'_, ()>, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let (header, history) = {
            let mut writer = self.writer.lock();
            // After an unknown outcome the history may lack the last record.
            self.volume.check_writable("write a base in")?;
            let history = self.history.lock().clone();
            let position = writer.log.position();
            writer.since_base = 0;
            (writer.log.next_base(position, history.id_floor())?, history)
        };
        // All states that the records up to here have.
        sync()?;
        let owner = Keeper { journal: self, operation: "write a base in", id: None, lock: Mutex::default() };
        // Where that fails, the next one is due when as much was appended again.
        let since = Instant::now();
        let len = base::write(&self.volume, &header, &history, &owner)?;
        self.volume.observer().note(|| Event::Renewed { bytes: len, took: since.elapsed() });
        self.writer.lock().base_len = len;
        Ok(())
    }
}

/// A checkpoint whose record is lost.
pub(crate) fn unreadable(volume: &Volume, error: crate::error::Malformed) -> Error {
    error.at("read manifest", &volume.path(layout::MANIFESTS))
}

impl Turn<'_> {
    /// Looks something up, which does not change before this turn ends.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        self.journal.look(look)
    }

    /// Publishes a checkpoint, and gives others up with it. This is the commit point: durable on return. `redo` are the states
    /// whose segments were not synced. The forgotten checkpoints are still to be [dropped](Self::drop_forgotten), once nothing
    /// leads to them any more.
    ///
    /// # Errors
    ///
    /// Nothing was published, unless the error `is_indeterminate`.
    pub(crate) fn publish(&mut self, manifest: &Manifest, forgotten: &[CheckpointId], redo: &[Redo<'_>]) -> Result<()> {
        let id = manifest.id;
        let operation = format!("commit checkpoint {id}");
        self.writer.log.use_id(id.get())?;
        let against = self.look(History::against);
        let against = against.as_ref().map(|(id, content)| (*id, content));
        let marks = Marks { pinned: false, unsynced: !self.journal.volume.syncs() };
        let record = record::checkpoint(manifest, marks, record::Against(against), forgotten, redo)
            .ok_or_else(|| Error::invalid(&*operation, "its states are in more than 2^32 files"))?;
        self.append(&operation, &record, Urgency::Ordinary, Some(id))?;
        let mut history = self.journal.history.lock();
        // That it is not there the caller knows.
        history.note_published(manifest, marks).map_err(|error| self.journal.unreadable(error))
    }

    /// Forgets checkpoints, durably. They are still to be [dropped](Self::drop_forgotten), once nothing leads to them any
    /// more.
    ///
    /// # Errors
    ///
    /// They are all there, unless the error `is_indeterminate`.
    pub(crate) fn forget(&mut self, ids: &[CheckpointId]) -> Result<()> {
        self.append("forget checkpoints in", &record::forgotten(ids), Urgency::GivesRoom, None)
    }

    /// Takes forgotten checkpoints out of the history, in the same turn. The answer is to be dropped where no lock is held.
    pub(crate) fn drop_forgotten(self, ids: &[CheckpointId]) -> Dropped {
        self.journal.history.lock().forget(ids)
    }

    /// Changes what may change of a checkpoint, durably.
    ///
    /// # Errors
    ///
    /// Nothing has changed, unless the error `is_indeterminate`.
    pub(crate) fn update(&mut self, operation: &str, id: CheckpointId, pinned: bool, now: &Changeable) -> Result<()> {
        let published = self.look(|history| {
            let kept = history.get(id)?;
            Some((kept.published.clone().ok()?, kept.marks.pinned))
        });
        let (published, was_pinned) = published.unwrap_or_default();
        let record = record::updated(id, pinned, &published, now);
        // A checkpoint that was pinned must be able to go when the disk is full. Other changes leave the room to that.
        let urgency = if was_pinned && !pinned { Urgency::GivesRoom } else { Urgency::Ordinary };
        self.append_and_apply(operation, &record, urgency)
    }

    /// Says which checkpoints are rolled back from now on, durably.
    ///
    /// # Errors
    ///
    /// Nothing has changed, unless the error `is_indeterminate`.
    pub(crate) fn roll_back(&mut self, ranges: &RolledBack) -> Result<()> {
        self.append_and_apply("roll back", &record::rolled_back(ranges), Urgency::Ordinary)
    }

    /// Remembers durably that every id up to this one was used.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn use_ids(&mut self, up_to: u64) -> Result<()> {
        self.journal.blanks.ensure(1, Urgency::GivesRoom)?;
        self.writer.log.use_id(up_to)?;
        self.append_and_apply("close", &record::ids_used(up_to), Urgency::GivesRoom)
    }

    /// Says durably which store is to go, before its checkpoint is taken over.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn note_departing(&mut self, source: &Source) -> Result<()> {
        self.append_and_apply("import", &record::departing(source), Urgency::Ordinary)
    }

    /// The store that a checkpoint was taken over from is gone, or stays.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn note_departed(&mut self, id: CheckpointId) -> Result<()> {
        self.append_and_apply("import", &record::departed(id), Urgency::GivesRoom)
    }

    fn append_and_apply(&mut self, operation: &str, record: &[u8], urgency: Urgency) -> Result<()> {
        self.append(operation, record, urgency, None)?;
        // The caller knows that it is of something that is there.
        self.journal.history.lock().apply(record).map_err(|error| self.journal.unreadable(error))
    }

    /// `id` is that of a checkpoint that the record publishes.
    fn append(&mut self, operation: &str, record: &[u8], urgency: Urgency, id: Option<CheckpointId>) -> Result<()> {
        let Journal { volume, identity, .. } = self.journal;
        volume.check_writable(operation)?;
        identity.check_not_fenced(operation)?;
        if u32::try_from(record.len()).is_err() {
            return Err(Error::invalid(operation, "its record is of 4 GiB or more"));
        }
        let owner = Keeper { journal: self.journal, operation, id, lock: Mutex::default() };
        let unknown = PoisonOnPanic(volume);
        let entry = Entry { record, urgency };
        let appended = self.writer.log.append(&entry, &owner);
        drop(unknown);
        self.writer.since_base += entry.room(false);
        appended
    }
}

/// The owner of the store, while a record is appended.
struct Keeper<'a> {
    journal: &'a Journal,
    operation: &'a str,
    /// The checkpoint that the record publishes.
    id: Option<CheckpointId>,
    /// Keeps readers from the checkpoint while the record is being made void.
    lock: Mutex<Option<ReadersLocked>>,
}

impl Owner for Keeper<'_> {
    fn check(&self) -> Result<()> {
        self.journal.volume.check_writable(self.operation)?;
        self.journal.identity.check_owned(self.operation)
    }

    fn may_void(&self) -> Result<()> {
        let Some(id) = self.id else { return Ok(()) };
        let lock = self.journal.volume.lock_exclusive(id.get())?;
        let lock = lock.ok_or_else(|| Error::invalid(self.operation, "another process has seen the checkpoint"))?;
        *self.lock.lock() = Some(lock);
        Ok(())
    }
}

/// While a record is appended: a disk that panics leaves it unknown whether it is there, and nothing may be removed.
struct PoisonOnPanic<'a>(&'a Volume);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(&Error::invalid("append a record", "the disk panicked while it was appended"));
        }
    }
}
