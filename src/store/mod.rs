//! The store: wires the paths, decides nothing.
//!
//! | file | has the verbs for |
//! |---|---|
//! | this one | opening, writing, finding, space, closing |
//! | `members` | other processes that write |
//! | `keep` | keeping, changing, rolling back, throwing away |
//! | `transfer` | exporting, importing |
//! | `validate` | checking |

mod keep;
mod members;
mod transfer;
mod validate;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use crate::{
    accounts::{retention::Retention, space::SpacePolicy},
    check,
    commit::{PendingCheckpoint, sequence::Publisher, staging::Staging},
    disk::{layout, root, volume::Volume},
    error::{Error, Result},
    id::{CheckpointId, StoreId},
    manifest::Manifest,
    observe::{Event, Verb, span},
    options::{Maintenance, Options},
    read::{Checkpoint, Pin, ReadSettings},
    reclaim::{Plan, forget::Reclaimed, registry::Registry, sweep::Maintained},
    records::Journal,
    recover::{self, OpenReport, Purpose, Recovered},
    report::Usage,
    write::{allocator::Home, settings::WriteSettings},
};

/// An open checkpoint store: one directory, one writing process. Cheap to clone; clones share it, in any threads.
///
/// No thread is started and nothing runs in the background. The lock on the directory is given back when the last clone
/// is gone, and with it every pending checkpoint, everything that writes into one, [`Checkpoint`], view and reader; a crash
/// gives it back as well.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Scope, Store};
///
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let pending = store.begin_next()?;
/// let handle = pending.write(Scope::Shared, b"what must not be lost")?;
/// pending.commit(Manifest::builder().state("it", handle))?;
/// drop(store);
///
/// let store = Store::open(dir.path())?;
/// let checkpoint = store.latest()?.expect("it was committed");
/// let handle = checkpoint.manifest().state("it").expect("it was named");
/// assert_eq!(&*checkpoint.read(handle)?, b"what must not be lost");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    volume: Arc<Volume>,
    journal: Arc<Journal>,
    registry: Arc<Registry>,
    staging: Staging,
    publisher: Arc<Publisher>,
    report: OpenReport,
}

impl Options {
    /// Opens the store in this directory, or creates it, with everything above it that is missing.
    ///
    /// Takes the lock, reads the manifest log, and removes what crashed processes left behind. When it returns, every
    /// checkpoint that it found is durable, unless this store has [`Durability::None`](crate::Durability::None).
    ///
    /// # Errors
    ///
    /// `is_invalid` if an option is. `is_locked` if somebody else has it open for writing; the message names the process.
    /// `is_newer_format`, before anything was touched. `is_corrupt` if the identity is damaged, see
    /// [`rebuild_identity`](Self::rebuild_identity), if one of the store's directories has vanished, or if a file of the
    /// manifest log is lost, see [`accept_loss`](Self::accept_loss).
    /// Errors of the file system. A damaged checkpoint is no error: see [`Store::open_report`].
    pub fn open(self, root: impl AsRef<Path>) -> Result<Store> {
        self.open_to(Purpose::GoOn, root.as_ref())
    }

    fn open_to(self, purpose: Purpose, root: &Path) -> Result<Store> {
        let (_span, since) = (span!("open"), Instant::now());
        let _verb = self.observer.verb();
        let root = root::absolute(root::OPERATION, root)?;
        WriteSettings::check(&self)?;
        let policy = SpacePolicy::of(&self)?;
        let Recovered { volume, journal, registry, mut report, departing } =
            recover::open(&self, &root, policy, purpose)?;
        // What cannot be made durable here is no reason to remove anything elsewhere.
        for agreed in departing.into_iter().filter(|_| volume.syncs()) {
            report.failures.extend(transfer::see_off(&volume, &journal, agreed).err());
        }
        volume.check_writable(root::OPERATION)?;
        let home = Home { store: journal.store(), generation: journal.generation(), member: 0 };
        let write = WriteSettings::new(&registry, home, &self);
        let publisher = Arc::new(Publisher {
            volume: Arc::clone(&volume),
            registry: Arc::clone(&registry),
            journal: Arc::clone(&journal),
            write: Arc::new(write),
            retention: Retention::of(&self),
            vnode_count: self.vnode_count,
            reading: Arc::new(ReadSettings::new(Arc::clone(&volume), self.verify)),
            cannot_link: AtomicBool::new(false),
            relocation: self.relocation,
            kept_from: parking_lot::Mutex::default(),
            tends: self.maintenance == Maintenance::Inline,
            last_retention: parking_lot::Mutex::default(),
        });
        tell_opened(&publisher, &report, since);
        let staging = Staging::new(&publisher);
        Ok(Store(Arc::new(Inner { volume, journal, registry, staging, publisher, report })))
    }
}

/// What was found and done.
fn tell_opened(publisher: &Publisher, report: &OpenReport, since: Instant) {
    let Publisher { volume, registry, journal, .. } = publisher;
    let observer = volume.observer();
    observer.note(|| Event::Opened {
        root: volume.root().to_owned(),
        generation: journal.generation(),
        created: report.created,
        checkpoints: registry.ids().len(),
        removed: report.removed.len(),
        redone: report.redone,
        took: since.elapsed(),
        usage: registry.usage(),
    });
    report.healed.iter().for_each(|error| observer.note(|| Event::Healed { error: error.clone() }));
    report.lost.iter().for_each(|error| observer.note(|| Event::Lost { error: error.clone() }));
    for (id, error) in &report.damaged {
        observer.note(|| Event::Damaged { checkpoint: *id, error: error.clone() });
    }
}

impl Store {
    /// Opens or creates a store with the defaults: see [`Options::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Options::open`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(root)
    }

    /// The directory of the store, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.volume.root()
    }

    /// The random identity of the store.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.0.journal.store()
    }

    /// How often the store was opened for writing, this time included.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.journal.generation()
    }

    /// What opening found and did.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.0.report
    }

    /// The first id that no checkpoint and no attempt of this store has had. Another thread may begin it before:
    /// [`begin_next`](Self::begin_next) cannot be overtaken.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the last id, 2^63 - 1, was used.
    pub fn next_id(&self) -> Result<CheckpointId> {
        self.0.registry.next_id()
    }

    /// How many virtual nodes the engine spreads its keys over ([`Options::vnode_count`]).
    #[must_use]
    pub fn vnode_count(&self) -> u16 {
        self.0.publisher.vnode_count
    }

    /// Begins a checkpoint. Nothing touches the disk yet. Several may be pending at the same time; once one is committed,
    /// those with lower ids cannot be any more, unless they are savepoints ([`CheckpointKind`](crate::CheckpointKind)).
    ///
    /// # Errors
    ///
    /// `is_conflict` if the id is committed, or was begun before, by another thread perhaps; `is_invalid` if it is not above
    /// every committed one; `is_poisoned` if the store must be reopened.
    pub fn begin(&self, id: CheckpointId) -> Result<PendingCheckpoint> {
        self.0.staging.drop_outdated();
        self.0.publisher.begin(Some(id))
    }

    /// Begins a checkpoint with the next id, like [`begin`](Self::begin). Threads that call it at once get an id each.
    ///
    /// # Errors
    ///
    /// `is_poisoned` if the store must be reopened; `is_invalid` if the last id was used.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options};
    ///
    /// let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// assert_eq!(pending.id().get(), 1);
    /// pending.commit(Manifest::builder())?;
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn begin_next(&self) -> Result<PendingCheckpoint> {
        self.0.staging.drop_outdated();
        self.0.publisher.begin(None)
    }

    /// The newest valid checkpoint, or `None` if there is none. Those that were [rolled back](Self::rollback_to) are
    /// passed over.
    ///
    /// Damaged ones are skipped; [`damaged`](Self::damaged) tells which, and why. Whether every state is whole is found
    /// out when it is read; a checkpoint that is found damaged then is skipped from then on.
    ///
    /// # Errors
    ///
    /// The damage of the newest one if there are checkpoints and none is valid: that is not the same as `None`.
    /// `is_not_found` if all that are left were rolled back.
    /// `is_newer_format` if a newer version of this crate wrote the newest one: it is not damaged, only not for us. Errors
    /// of the file system other than a bad medium.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        check::latest("open the newest checkpoint", || Ok(self.ids()), |id| self.checkpoint(id).map(Some))
    }

    /// All ids, ascending, each with whether it was rolled back, as they are at one moment.
    fn ids(&self) -> check::Ids {
        self.0.registry.ids_and_roll_backs()
    }

    /// The checkpoint with this id.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none. `is_corrupt`, with the file, if its record is lost, or if opening the store
    /// or reading found other damage: a data file that is missing, too short, or has wrong bytes.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint> {
        let hold = self.0.registry.open(id);
        let hold = hold.ok_or_else(|| no_such_checkpoint("open", id))?;
        if let Some(damage) = self.0.registry.status(id).and_then(|status| status.damage) {
            return Err(damage);
        }
        Ok(Checkpoint::new(self.load(id)?, &self.0.publisher.reading, Pin::Registered(hold)))
    }

    /// What a checkpoint consists of now.
    fn load(&self, id: CheckpointId) -> Result<Manifest> {
        self.0.journal.manifest(id)?.ok_or_else(|| no_such_checkpoint("open", id))
    }

    /// The ids of all checkpoints, ascending, damaged ones included.
    #[must_use]
    pub fn checkpoint_ids(&self) -> Vec<CheckpointId> {
        self.0.registry.ids()
    }

    /// The checkpoints that are known to be damaged, ascending, and why.
    #[must_use]
    pub fn damaged(&self) -> Vec<(CheckpointId, Error)> {
        self.0.registry.damaged()
    }

    /// The checkpoint with this id, if there is one.
    pub(crate) fn find(&self, id: CheckpointId) -> Result<Option<Checkpoint>> {
        match self.checkpoint(id) {
            Err(error) if error.is_not_found() => Ok(None),
            checkpoint => checkpoint.map(Some),
        }
    }

    /// Whether the store must be reopened before anything can be written, as far as is known.
    pub(crate) fn check_writable(&self, operation: &str) -> Result<()> {
        self.0.volume.check_writable(operation)
    }

    /// Checkpoints in the making that are addressed by their ids.
    pub(crate) fn staging(&self) -> &Staging {
        &self.0.staging
    }

    /// The epochs of all checkpoints that could be read, by id.
    pub(crate) fn epochs(&self) -> Vec<(CheckpointId, u64)> {
        self.0.registry.epochs()
    }

    /// What the store holds in data files, and what they take. No call to the disk is made.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, Scope};
    ///
    /// let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// let states = [1, 2, 3].map(|n| pending.write(Scope::Shared, &[n; 4096]).unwrap());
    /// pending.commit(Manifest::builder().state("kept", states[0].clone()))?;
    ///
    /// let usage = store.usage();
    /// assert_eq!((usage.logical_files, usage.logical_bytes), (1, 4096));
    /// assert_eq!(usage.physical_files, 1); // the three share it; two of them nobody refers to
    /// assert!(usage.dead_bytes > 2 * 4096);
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.registry.usage()
    }

    /// Gives space back, as much as the budget says, in bytes: removes files that nobody refers to, punches holes, marks
    /// files for rewriting. Beyond the budget it keeps the manifest log in order: it makes the files that the log goes on
    /// to, and sums the log up when it is long. With [`Maintenance::Manual`](crate::Maintenance) nothing else does,
    /// but that a commit makes a log that it needs, and opening a store may sum the log up; with `Inline` little is left to
    /// do. No writer and no commit waits for it.
    ///
    /// Logs that it made are durable on return. The space that came back is not: what a power cut undoes is done again by
    /// the next open, or by the next call.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`. What merely could not be done is in the report.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Maintenance, Options};
    ///
    /// let store = Options::memory().maintenance(Maintenance::Manual).retain(3).open("state")?;
    /// // On a thread that has time for it, a bit at a time:
    /// while store.maintain(64 << 20)?.more {}
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn maintain(&self, budget: u64) -> Result<Maintained> {
        let _verb = self.verb();
        self.0.volume.check_writable("maintain")?;
        self.0.journal.check_not_fenced("maintain")?;
        self.0.registry.recheck_links();
        let mut done = self.0.registry.maintain(budget);
        done.failures.extend(self.0.publisher.tend().err());
        self.0.publisher.close_removed();
        Ok(done)
    }

    /// Closes this clone of the store: seals the segments that states were appended to, remembers durably which ids
    /// attempts have had, and removes the files that nobody refers to, also with
    /// [`Maintenance::Manual`](crate::Maintenance). Dropping a store without this only gives back the lock: ids of aborted
    /// attempts may be given out again. Other clones go on, with fresh segments. What was saved by id for a checkpoint that was never saved itself is
    /// given up when the last clone goes.
    ///
    /// # Errors
    ///
    /// `is_poisoned`, `is_fenced`, and those of the file system. Committed checkpoints are not affected.
    pub fn close(self) -> Result<()> {
        self.wind_up(&Plan::Nothing)?.failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Closes it, and forgets these checkpoints with that: their data can go because nothing is appended to any more. What
    /// merely could not be done is in the report, first of all that ids may be given out again.
    fn wind_up(&self, plan: &Plan) -> Result<Reclaimed> {
        let _verb = self.verb();
        self.0.volume.check_writable("close")?;
        self.0.publisher.write.seal();
        let mut report = self.forget_planned(plan)?;
        // Whoever does the maintenance: after this nobody can. Data that could not be removed is tried again.
        report.failures.retain(|error| !error.path().is_some_and(layout::is_segment));
        let removed = self.0.registry.remove_dead();
        report.files += removed.files;
        report.bytes += removed.bytes;
        report.failures.extend(removed.failures);
        match self.note_ids() {
            Ok(()) => Ok(report),
            Err(error) if error.needs_reopen() => Err(error),
            Err(error) => {
                report.failures.insert(0, error);
                Ok(report)
            }
        }
    }
}

impl Store {
    /// To be called before any lock is taken: what happens meanwhile is told when the answer is dropped.
    fn verb(&self) -> Verb {
        self.0.volume.observer().verb()
    }

    /// Remembers which ids attempts have had, if no record says so.
    fn note_ids(&self) -> Result<()> {
        let mut turn = self.0.journal.turn();
        let floor = self.0.registry.id_floor().map_or(0, CheckpointId::get);
        if turn.look(|history| history.id_floor() >= floor) { Ok(()) } else { turn.use_ids(floor) }
    }
}

fn no_such_checkpoint(operation: &str, id: CheckpointId) -> Error {
    Error::not_found(format!("{operation} checkpoint {id}"), "there is no such checkpoint")
}
