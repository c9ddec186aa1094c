//! Which checkpoints are published, and who refers to which extent: the knowledge behind a lock.

use std::{
    collections::{BTreeSet, HashMap},
    io::ErrorKind,
    sync::{Arc, Weak, atomic::AtomicBool},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    catalog::{Catalog, Retired},
    extents::{Extents, Found},
    file::FileRecord,
    gauges::Usage,
    group::{Group, Holder},
    retention::Facts,
    space::{LEAST_PUNCHED, SpacePolicy},
};
use crate::{
    disk::{FileKind, LockGuard, Metadata, SharedGuard, layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::identity::Identity,
    handle::Extent,
    id::{CheckpointId, FileId, StoreId},
    manifest::{DataFile, FileOrigin, Lender, Origins},
    options::Maintenance,
};

#[derive(Debug)]
pub(crate) struct Registry {
    pub(super) volume: Arc<Volume>,
    pub(super) maintenance: Maintenance,
    /// Whether the disk was found to punch no holes.
    pub(super) cannot_punch: AtomicBool,
    pub(super) state: Mutex<State>,
    manifests: Mutex<()>,
    /// Held while holes are punched into a file, and while a file is given another name: nobody punches what has two.
    linking: Mutex<()>,
    pins: Mutex<HashMap<Lender, Weak<Box<dyn LockGuard>>>>,
}

#[derive(Debug)]
pub(super) struct State {
    /// That of the open store.
    generation: u64,
    pub(super) extents: Extents,
    catalog: Catalog,
    /// Of the checkpoints that were found on disk.
    lenders: Vec<(CheckpointId, Lender)>,
    /// Numbers for groups and readers.
    next: u64,
    /// Bytes of states, since the store was opened.
    written: u64,
    relocated: u64,
}

/// Why a state was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The engine wrote it.
    New,
    /// It is a copy of a state whose file should go.
    Relocated,
}

/// A file that was not written here.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    pub(crate) len: u64,
    pub(crate) allocated: u64,
    pub(crate) origin: FileOrigin,
    pub(crate) pin: Option<SharedGuard>,
}

type Pins = HashMap<Arc<Lender>, SharedGuard>;

/// Keeps a group: the pending checkpoint's or a reader's. Dropped, it removes the files that nobody else refers to.
#[derive(Debug)]
pub(crate) struct Hold {
    registry: Arc<Registry>,
    group: Group,
    holder: Holder,
}

impl State {
    fn new(extents: Extents, identity: &Identity) -> Self {
        let (generation, catalog) = (identity.generation, Catalog::new(identity));
        Self { generation, extents, catalog, lenders: Vec::new(), next: 0, written: 0, relocated: 0 }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// While nobody knows what some checkpoint refers to, files that are older than this open stay as they are.
    pub(super) fn may_touch(&self) -> impl Fn(FileId) -> bool + use<> {
        let (all, generation) = (!self.catalog.has_unknown(), self.generation);
        move |file| all || file.generation == generation
    }
}

impl Registry {
    /// Knows of no checkpoint yet, and that every id up to the floor was used.
    pub(crate) fn new(
        volume: Arc<Volume>,
        identity: &Identity,
        (policy, maintenance): (SpacePolicy, Maintenance),
    ) -> Self {
        let state = Mutex::new(State::new(Extents::new(policy), identity));
        let cannot_punch = AtomicBool::new(!policy.punch);
        let (manifests, linking, pins) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { volume, maintenance, cannot_punch, state, manifests, linking, pins }
    }

    /// The generation that files are written under from now on.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.state.lock().generation = generation;
    }

    /// Whether this process is a child of the one that opened the store. Destructors do nothing there: a thread that the
    /// child has not may have held any lock when the process was forked.
    pub(crate) fn is_in_child(&self) -> bool {
        self.volume.opener().is_another()
    }

    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Looks up what is published, or notes what was learned of it.
    pub(crate) fn catalog<T>(&self, act: impl FnOnce(&mut Catalog) -> T) -> T {
        act(&mut self.state.lock().catalog)
    }

    /// Held by whoever changes names in `manifests/`, so that ids are published in order.
    pub(crate) fn lock_manifests(&self) -> MutexGuard<'_, ()> {
        self.manifests.lock()
    }

    /// Held by whoever gives a data file another name, or punches holes into one.
    pub(crate) fn lock_linking(&self) -> MutexGuard<'_, ()> {
        self.linking.lock()
    }

    /// Starts an attempt at a checkpoint: with this id, or with the next one.
    pub(crate) fn begin(self: &Arc<Self>, id: Option<CheckpointId>) -> Result<(CheckpointId, Hold)> {
        let mut state = self.state.lock();
        let id = id.map_or_else(|| state.catalog.next_id(), Ok)?;
        state.catalog.begin(id)?;
        let group = Group(state.number());
        state.extents.hold(group, Holder::Pending);
        Ok((id, Hold { registry: Arc::clone(self), group, holder: Holder::Pending }))
    }

    /// Fails unless the id is above every one that was ever committed.
    pub(crate) fn check_new(&self, id: CheckpointId, operation: &str) -> Result<()> {
        self.state.lock().catalog.check_new(id, operation)
    }

    /// Enters a checkpoint whose manifest was just published; the pending checkpoint refers to all of its extents.
    pub(crate) fn publish(
        &self,
        id: CheckpointId,
        facts: Facts,
        pending: &Hold,
        extents: impl Iterator<Item = Extent>,
    ) {
        let mut state = self.state.lock();
        let group = Group(state.number());
        state.extents.hold(group, Holder::Manifest);
        for extent in extents {
            state.extents.inherit(group, pending.group, &extent);
        }
        state.catalog.publish(id, group, facts);
    }

    /// Enters a checkpoint that was found on disk and cannot be read: nobody knows what it refers to.
    pub(crate) fn enter_unknown(&self, id: CheckpointId, facts: Facts, damage: Error) -> Result<()> {
        self.enter(id, facts, (&Origins::new(), std::iter::empty()), Some(damage.clone()))?;
        self.state.lock().catalog.mark_unknown(id, damage);
        Ok(())
    }

    /// Enters a checkpoint that was found on disk, with what is known of its extents and their files: where they came from,
    /// length, and what they take.
    pub(crate) fn enter(
        &self,
        id: CheckpointId,
        facts: Facts,
        (origins, extents): (&Origins, impl Iterator<Item = (Extent, Metadata)>),
        damage: Option<Error>,
    ) -> Result<()> {
        let (pins, denied) = self.pin_lenders(origins)?;
        let damage = damage.or(denied);
        let lenders = origins.values().filter_map(|origin| Some(&*origin.lent.as_ref()?.by));
        let damage = damage.or_else(|| lenders.clone().find(|lender| !pins.contains_key(*lender)).map(not_lent));
        let mut state = self.state.lock();
        let group = Group(state.number());
        state.extents.hold(group, Holder::Manifest);
        let mut damage = damage;
        for (extent, file) in extents {
            let origin = origins.get(&extent.file);
            let pin = origin.and_then(|origin| pins.get(&*origin.lent.as_ref()?.by));
            let found = Found { len: file.len, allocated: file.allocated, origin, pin };
            if !state.extents.add_found(group, &extent, found) {
                let path = self.volume.path(layout::segment(extent.file));
                let what = "two manifests say that different states are here, or of different origins";
                damage.get_or_insert_with(|| Malformed::new(extent.offset, what).at("check", &path));
            }
        }
        state.lenders.extend(lenders.map(|lender| (id, lender.clone())));
        state.catalog.publish(id, group, facts);
        if let Some(damage) = damage {
            state.catalog.mark_damaged(id, damage);
        }
        Ok(())
    }

    /// Keeps lenders from removing their files, as far as they have not done so. Without the right to do that a checkpoint
    /// cannot be used, and is not damaged: the error is returned beside the pins.
    fn pin_lenders(&self, origins: &Origins) -> Result<(Pins, Option<Error>)> {
        let lenders: BTreeSet<_> = origins.values().filter_map(|origin| Some(&origin.lent.as_ref()?.by)).collect();
        let (mut pins, mut denied) = (Pins::new(), None);
        for lender in lenders {
            match self.pin_lender(lender) {
                Ok(pin) => pins.extend(pin.map(|pin| (Arc::clone(lender), pin))),
                Err(error) if error.io_kind() == Some(ErrorKind::PermissionDenied) => denied = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok((pins, denied))
    }

    /// Shared by all files of one lender: it is let go when the last of them is.
    pub(crate) fn pin_lender(&self, lender: &Lender) -> Result<Option<SharedGuard>> {
        let mut pins = self.pins.lock();
        if let Some(pin) = pins.get(lender).and_then(Weak::upgrade) {
            return Ok(Some(pin));
        }
        let Some(pin) = pin_lender(&self.volume, lender)?.map(Arc::new) else { return Ok(None) };
        pins.retain(|_, pin| pin.strong_count() > 0);
        pins.insert(lender.clone(), Arc::downgrade(&pin));
        Ok(Some(pin))
    }

    /// Whose files anybody here refers to, whether they can be had or not.
    pub(crate) fn lenders(&self) -> Vec<Lender> {
        let state = self.state.lock();
        let found = state.lenders.iter().filter(|(id, _)| state.catalog.is_published(*id)).map(|(_, lender)| lender);
        let all: BTreeSet<_> = found.cloned().chain(state.extents.files.lenders()).collect();
        all.into_iter().collect()
    }

    /// Whether anything here is somebody else's.
    pub(crate) fn borrows(&self) -> bool {
        self.state.lock().extents.files.totals().borrowed_files > 0
    }

    /// A data file, as a reader needs to know it.
    pub(crate) fn data_file(&self, store: StoreId, file: FileId) -> DataFile {
        DataFile::of(store, file, self.state.lock().extents.files.get(file).and_then(FileRecord::origin))
    }

    /// The origins of those of these files that have one. Mostly none has, which costs nothing.
    pub(crate) fn origins(&self, files: impl Iterator<Item = FileId>) -> Origins {
        if self.state.lock().extents.files.all_written_here() {
            return Origins::new();
        }
        // There may be as many as states: sorted out before the lock is taken.
        let files: BTreeSet<_> = files.collect();
        let state = self.state.lock();
        let origin = |file| Some((file, state.extents.files.get(file)?.origin()?.clone()));
        files.into_iter().filter_map(origin).collect()
    }

    /// Keeps a published checkpoint for a reader.
    pub(crate) fn open(self: &Arc<Self>, id: CheckpointId) -> Option<Hold> {
        let mut state = self.state.lock();
        let group = state.catalog.group(id)?;
        let holder = Holder::Reader(state.number());
        state.extents.hold(group, holder);
        Some(Hold { registry: Arc::clone(self), group, holder })
    }

    /// Whether anybody refers to anything in this file.
    pub(crate) fn knows(&self, file: FileId) -> bool {
        self.state.lock().extents.files.get(file).is_some()
    }

    /// Enters a file that is about to be created, for appending: it is not removed until it is sealed.
    pub(crate) fn create(&self, file: FileId, own: bool) {
        self.state.lock().extents.create(file, own);
    }

    /// The file has this many bytes now, whatever they are.
    pub(crate) fn note_len(&self, file: FileId, len: u64) {
        self.state.lock().extents.files.change(file, |record| record.grow(len));
    }

    /// Nothing is appended to this file any more: if nobody refers to anything in it, it is dead.
    pub(crate) fn seal(&self, file: FileId) {
        self.state.lock().extents.files.change(file, FileRecord::seal);
    }

    /// What has this file's name is somebody else's.
    pub(crate) fn disown(&self, file: FileId) {
        self.state.lock().extents.files.disown(file);
    }

    /// A file that was found on disk and that nobody refers to.
    pub(crate) fn bury(&self, file: FileId, len: u64) {
        self.state.lock().extents.files.bury(file, len);
    }

    /// Whether the states of this file should be written anew.
    pub(crate) fn is_marked(&self, file: FileId) -> bool {
        self.state.lock().extents.is_marked(file)
    }

    /// Whether this file is somebody else's.
    pub(crate) fn is_lent(&self, file: FileId) -> bool {
        self.state.lock().extents.files.get(file).is_some_and(FileRecord::is_lent)
    }

    /// Whether a state can be referred to, and does not stand in the way of giving space back.
    pub(crate) fn could_reuse(&self, extent: &Extent) -> bool {
        self.state.lock().extents.could_reuse(extent)
    }

    /// So many bytes of this file are complete and stay as they are, while what lives in it does.
    pub(crate) fn live_end(&self, file: FileId) -> u64 {
        self.state.lock().extents.files.get(file).map_or(0, FileRecord::live_end)
    }

    /// What the store holds and takes.
    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.lock();
        let totals = state.extents.files.totals();
        Usage {
            logical_files: totals.logical_files,
            logical_bytes: totals.logical_bytes,
            physical_files: totals.physical_files,
            physical_bytes: totals.physical_bytes,
            allocated_bytes: totals.allocated_bytes,
            dead_bytes: totals.dead_bytes,
            orphan_bytes: state.extents.files.dead_bytes(),
            open_files: totals.open_files,
            marked_files: totals.marked_files,
            borrowed_files: totals.borrowed_files,
            borrowed_bytes: totals.borrowed_bytes,
            written_bytes: state.written,
            relocated_bytes: state.relocated,
        }
    }

    /// Takes back checkpoints whose manifests were removed. Until that is durable, they may come back: what they refer
    /// to stays.
    pub(crate) fn retire(&self, ids: &[CheckpointId]) {
        let mut state = self.state.lock();
        for id in ids {
            if let Some(group) = state.catalog.retire(*id) {
                state.extents.hold(group, Holder::Removed);
                state.extents.release(group, Holder::Manifest);
            }
        }
    }

    /// The checkpoints whose removal the next sync of `manifests/` makes durable. Taken before it, and given back to
    /// [`settle`](Self::settle) after it.
    pub(crate) fn take_retired(&self) -> Retired {
        self.state.lock().catalog.take_retired()
    }

    /// It is still not certain that they are gone for good.
    pub(crate) fn give_back(&self, retired: Retired) {
        self.state.lock().catalog.give_back(retired);
    }

    /// These checkpoints are gone for good: what nobody else refers to is dead.
    pub(crate) fn settle(&self, retired: Retired) {
        let mut state = self.state.lock();
        for group in state.catalog.settle(retired) {
            state.extents.release(group, Holder::Removed);
        }
    }
}

/// Keeps another store from removing a checkpoint; `None` if that is gone, or cannot be had. What this process lacks says
/// nothing of it.
pub(crate) fn pin_lender(volume: &Volume, lender: &Lender) -> Result<Option<Box<dyn LockGuard>>> {
    let name = layout::lender(lender.root(), lender.checkpoint());
    let if_gone = |error: Error| if error.is_of_this_process() { Err(error) } else { Ok(None) };
    // To open anything else than a file might take for ever.
    let is_file = volume.metadata(&name).is_ok_and(|found| found.is_some_and(|found| found.kind == FileKind::File));
    if is_file { volume.pin(&name).or_else(if_gone) } else { Ok(None) }
}

/// A checkpoint that is to lend files is not there.
pub(crate) fn not_lent(lender: &Lender) -> Error {
    let path = layout::lender(lender.root(), lender.checkpoint());
    Error::unavailable("pin", &path, "the checkpoint is gone there, or cannot be locked")
}

impl Hold {
    /// Adds an extent that was just written, at the end of its file.
    pub(crate) fn add(&self, extent: &Extent, file_len: u64, origin: Origin) {
        let mut state = self.registry.state.lock();
        match origin {
            Origin::New => state.written += extent.len,
            Origin::Relocated => state.relocated += extent.len,
        }
        state.extents.add(self.group, extent, file_len);
    }

    /// Whether [`refer`](Self::refer) would succeed.
    pub(crate) fn may_refer(&self, extent: &Extent) -> bool {
        let state = self.registry.state.lock();
        state.extents.may_refer(self.group, extent, state.catalog.newest_valid())
    }

    /// Whether that is so of all of these extents of one file, which are in order; else returns the first of which it is not.
    pub(crate) fn may_refer_all(&self, extents: &[Extent]) -> std::result::Result<(), Extent> {
        let state = self.registry.state.lock();
        state.extents.may_refer_all(self.group, extents, state.catalog.newest_valid())
    }

    /// Adds more states of a file that was [adopted](Self::adopt) by this group before.
    pub(crate) fn adopt_more(&self, file: FileId, extents: &[Extent]) -> std::result::Result<(), Extent> {
        self.registry.state.lock().extents.adopt_more(self.group, file, extents)
    }

    /// Adds the states of a file that was not written here, which is complete, and seals it. They are in the order of their
    /// offsets, and may be said to be in another file.
    pub(crate) fn adopt(&self, file: FileId, adopted: &Adopted, extents: &[Extent]) -> std::result::Result<(), Extent> {
        let Adopted { len, allocated, origin, pin } = adopted;
        let found = Found { len: *len, allocated: *allocated, origin: Some(origin), pin: pin.as_ref() };
        self.registry.state.lock().extents.adopt(self.group, file, found, extents)
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Refers to extents that somebody refers to already; returns the first that nobody does.
    pub(crate) fn refer(&self, extents: impl Iterator<Item = Extent>) -> std::result::Result<(), Extent> {
        let mut state = self.registry.state.lock();
        let newest = state.catalog.newest_valid();
        for extent in extents {
            if !state.extents.refer(self.group, &extent, newest) {
                return Err(extent);
            }
        }
        Ok(())
    }

    /// Remembers that a state was found to be damaged while it was read: for every checkpoint that refers to it.
    pub(crate) fn mark_damaged(&self, extent: &Extent, error: &Error) {
        let mut state = self.registry.state.lock();
        let groups = state.extents.mark_bad(extent);
        state.catalog.mark_groups_damaged(&groups, error);
    }

    /// Whether the group refers to exactly this extent.
    pub(crate) fn refers(&self, extent: &Extent) -> bool {
        self.registry.state.lock().extents.refers(self.group, extent)
    }

    /// Lets go before the value is dropped. Again, or late, changes nothing.
    pub(crate) fn release(&self) {
        if self.registry.is_in_child() {
            return;
        }
        self.registry.state.lock().extents.release(self.group, self.holder);
        // What cannot be removed is remembered and tried again at the next sweep.
        let _ = self.registry.tidy(LEAST_PUNCHED);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}
