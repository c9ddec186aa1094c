//! The accounts behind a lock: whoever changes what is referred to says it here.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::hold::Hold;
use crate::{
    accounts::{Accounts, Base, Changes, FileRecord, Found, retention::Facts, space::SpacePolicy},
    disk::{Metadata, SharedGuard, layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::record::RolledBack,
    handle::Extent,
    id::{CheckpointId, FileId, StoreId},
    manifest::{DataFile, Lender, Manifest, ManifestContent, Origins},
    options::Maintenance,
    report::Usage,
};

#[derive(Debug)]
pub(crate) struct Registry {
    pub(super) volume: Arc<Volume>,
    pub(super) maintenance: Maintenance,
    /// Whether the disk was found to punch no holes.
    pub(super) cannot_punch: AtomicBool,
    pub(super) accounts: Mutex<Accounts>,
    /// How many bytes are in the lengths of files, and still in memory.
    gathered: AtomicU64,
    /// Held while holes are punched into a file, and while a file is given another name: nobody punches what has two.
    linking: Mutex<()>,
    /// What keeps lenders from removing what they lend.
    pub(super) pins: Mutex<HashMap<Lender, SharedGuard>>,
}

/// How a content differs from a checkpoint that the pending one holds.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) base: Base,
    pub(crate) changes: Changes,
}

impl Compared {
    pub(crate) fn with(base: Base, content: &ManifestContent) -> Self {
        Self { changes: Changes::between(&base.content, content), base }
    }
}

impl Registry {
    /// Knows of no checkpoint yet, and that every id up to the floor was used.
    pub(crate) fn new(
        volume: Arc<Volume>,
        generation: u64,
        (id_floor, rolled_back): (u64, RolledBack),
        (policy, maintenance): (SpacePolicy, Maintenance),
    ) -> Self {
        let accounts = Mutex::new(Accounts::new(policy, generation, (id_floor, rolled_back)));
        let cannot_punch = AtomicBool::new(!policy.punch);
        let (linking, pins) = (Mutex::default(), Mutex::default());
        Self { volume, maintenance, cannot_punch, accounts, gathered: AtomicU64::new(0), linking, pins }
    }

    /// That of a member: it knows of no checkpoints, and removes only files of which no part has a state.
    pub(crate) fn of_member(volume: Arc<Volume>, generation: u64, policy: SpacePolicy) -> Self {
        Self::new(volume, generation, (0, RolledBack::default()), (policy, Maintenance::Inline))
    }

    /// Whether this process is a child of the one that opened the store. Destructors do nothing there: a thread that the
    /// child has not may have held any lock when the process was forked.
    pub(crate) fn is_in_child(&self) -> bool {
        self.volume.opener().is_another()
    }

    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Held by whoever gives a data file another name, or punches holes into one.
    pub(crate) fn lock_linking(&self) -> MutexGuard<'_, ()> {
        self.linking.lock()
    }

    /// Starts an attempt at a checkpoint: with this id, or with the next one.
    pub(crate) fn begin(self: &Arc<Self>, id: Option<CheckpointId>) -> Result<(CheckpointId, Hold)> {
        let (id, holder) = self.accounts.lock().begin(id)?;
        Ok((id, Hold::new(self, holder)))
    }

    /// Keeps a published checkpoint for a reader.
    pub(crate) fn open(self: &Arc<Self>, id: CheckpointId) -> Option<Hold> {
        let holder = self.accounts.lock().open(id)?;
        Some(Hold::new(self, holder))
    }

    /// Enters a checkpoint whose record was just published, as it was compared with the newest one then. The pending
    /// checkpoint holds everything that it names, and nobody else publishes meanwhile.
    pub(crate) fn publish(&self, pending: &Hold, manifest: &Manifest, mut compared: Compared) {
        let facts = Facts::of(manifest);
        loop {
            let mut accounts = self.accounts.lock();
            if accounts.newest_number() == compared.base.number {
                accounts.publish(manifest.id(), facts, manifest.content.clone(), &compared.changes);
                return;
            }
            drop(accounts);
            compared = Compared::with(pending.hold_newest(), &manifest.content);
        }
    }

    /// Enters a checkpoint that was found on disk and cannot be read: nobody knows what it refers to.
    pub(crate) fn enter_unknown(&self, id: CheckpointId, facts: Facts, damage: Error) {
        let mut accounts = self.accounts.lock();
        accounts.enter_alone(id, facts, damage.clone());
        accounts.catalog.mark_unknown(id, damage);
    }

    /// Enters a checkpoint that was found on disk, with what is known of the files that its states are in. `unseen` are the
    /// lenders with a file that cannot be looked at now.
    pub(crate) fn enter(
        &self,
        manifest: &Manifest,
        facts: Facts,
        file: impl Fn(FileId) -> Option<Metadata>,
        unseen: &BTreeSet<Lender>,
        damage: Option<Error>,
    ) -> Result<()> {
        let (id, origins) = (manifest.id(), &manifest.origins);
        let (pins, denied) = self.pin_lenders(origins)?;
        let missing = || manifest.lenders().find(|lender| !pins.contains_key(*lender)).map(super::lenders::not_lent);
        let damage = damage.or(denied).or_else(missing);
        let found = |id: FileId| {
            file(id).map(|found| Found { len: found.len, allocated: found.allocated, origin: origins.get(&id) })
        };
        let mut accounts = self.accounts.lock();
        let content = (manifest.content.clone(), damage.is_none());
        let contradicted = accounts.enter(id, facts, content, !origins.is_empty(), found);
        for lender in manifest.lenders() {
            accounts.note_lender(id, lender, unseen.contains(lender));
        }
        let disputed = contradicted.map(|extent| {
            let what = "two manifests say that different states are here, or of different origins";
            Malformed::new(extent.offset, what).at("check", &self.volume.path(layout::segment(extent.file)))
        });
        if let Some(damage) = damage.or(disputed) {
            accounts.catalog.mark_damaged(id, damage);
        }
        Ok(())
    }

    /// Whether anything here is somebody else's.
    pub(crate) fn borrows(&self) -> bool {
        self.accounts.lock().borrows()
    }

    /// A data file, as a reader needs to know it.
    pub(crate) fn data_file(&self, store: StoreId, file: FileId) -> DataFile {
        DataFile::of(store, file, self.accounts.lock().files.get(file).and_then(FileRecord::origin))
    }

    /// The origins of those of these files that have one. Mostly none has, which costs nothing.
    pub(crate) fn origins(&self, files: impl Iterator<Item = FileId>) -> Origins {
        if self.accounts.lock().files.all_written_here() {
            return Origins::new();
        }
        // There may be as many as states: sorted out before the lock is taken.
        let files: BTreeSet<_> = files.collect();
        let accounts = self.accounts.lock();
        let origin = |file| Some((file, accounts.files.get(file)?.origin()?.clone()));
        files.into_iter().filter_map(origin).collect()
    }

    /// Whether anybody refers to anything in this file.
    pub(crate) fn knows(&self, file: FileId) -> bool {
        self.accounts.lock().files.get(file).is_some()
    }

    /// Enters a file that is about to be created, for appending: it is not removed until it is sealed. It gets its number
    /// while nobody can ask which files there are.
    pub(crate) fn create(&self, own: bool, number: impl FnOnce() -> FileId) -> FileId {
        let mut accounts = self.accounts.lock();
        let file = number();
        accounts.create(file, own);
        file
    }

    /// The file has this many bytes now, whatever they are.
    pub(crate) fn note_len(&self, file: FileId, len: u64) {
        self.accounts.lock().files.change(file, |record| record.grow(len));
    }

    /// The file ends here: the bytes behind it were counted and will never be written.
    pub(crate) fn note_cut(&self, file: FileId, len: u64) {
        self.accounts.lock().files.change(file, |record| record.cut(len));
    }

    /// Nothing is appended to this file any more: if nobody refers to anything in it, it is dead.
    pub(crate) fn seal(&self, file: FileId) {
        self.accounts.lock().files.change(file, FileRecord::seal);
    }

    /// What has this file's name is somebody else's.
    pub(crate) fn disown(&self, file: FileId) {
        self.accounts.lock().files.disown(file);
    }

    /// A file that was found on disk and that nobody refers to.
    pub(crate) fn bury(&self, file: FileId, len: u64) {
        self.accounts.lock().files.bury(file, len);
    }

    /// Whether the states of this file should be written anew.
    pub(crate) fn is_marked(&self, file: FileId) -> bool {
        self.accounts.lock().is_marked(file)
    }

    /// The files of which the states should be written anew.
    pub(crate) fn marked(&self) -> HashSet<FileId> {
        self.accounts.lock().files.marked()
    }

    /// Whether this file is somebody else's.
    pub(crate) fn is_lent(&self, file: FileId) -> bool {
        self.accounts.lock().is_lent(file)
    }

    /// Whether a state can be referred to, and does not stand in the way of giving space back.
    pub(crate) fn could_reuse(&self, extent: &Extent) -> bool {
        self.accounts.lock().could_reuse(extent)
    }

    /// Counts bytes that are in the length of a file, and still in memory.
    pub(crate) fn note_gathered(&self, len: usize) {
        self.gathered.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// These bytes are not in memory any more.
    pub(crate) fn note_written(&self, len: usize) {
        self.gathered.fetch_sub(len as u64, Ordering::Relaxed);
    }

    /// What the store holds and takes.
    pub(crate) fn usage(&self) -> Usage {
        let usage = self.accounts.lock().usage();
        Usage { gathered_bytes: self.gathered.load(Ordering::Relaxed), ..usage }
    }

    /// These checkpoints are gone for good: what nobody else refers to is dead.
    pub(crate) fn forget(&self, ids: &[CheckpointId]) {
        let gone = self.accounts.lock().forget(ids);
        drop(gone);
    }
}
