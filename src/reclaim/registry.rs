//! Which checkpoints are published, and who refers to which extent: the knowledge behind a lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use super::extents::{DeadFile, Extents, Group, Holder};
use crate::{
    disk::{LockGuard, layout, volume::Volume},
    error::{Cause, Error, Result},
    handle::Extent,
    id::{CheckpointId, FileId},
};

#[derive(Debug)]
pub(crate) struct Registry {
    volume: Arc<Volume>,
    /// That of the open store.
    generation: u64,
    state: Mutex<State>,
    manifests: Mutex<()>,
    /// Held for as long as anybody writes or reads: a reader's files must not be cleaned up by another process.
    _lock: Box<dyn LockGuard>,
}

#[derive(Debug, Default)]
struct State {
    extents: Extents,
    published: BTreeMap<CheckpointId, Group>,
    damaged: BTreeMap<CheckpointId, Error>,
    /// Published, and nobody knows what they refer to: their manifests could not be read.
    unknown: BTreeSet<CheckpointId>,
    /// Their manifests were removed, and may come back until the removal is durable.
    retired: Vec<(CheckpointId, Group)>,
    /// The highest id that was ever begun or found.
    id_floor: u64,
    /// The highest id that was ever committed, as far as is known; its checkpoint may be gone.
    committed: u64,
    /// Numbers for groups and readers.
    next: u64,
}

/// Keeps a group: the pending checkpoint's or a reader's. Dropped, it removes the files that nobody else refers to.
#[derive(Debug)]
pub(crate) struct Hold {
    registry: Arc<Registry>,
    group: Group,
    holder: Holder,
}

/// Checkpoints whose manifests were removed before a sync of `manifests/`.
#[derive(Debug)]
pub(crate) struct Retired(Vec<(CheckpointId, Group)>);

impl Retired {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What became of files that nobody refers to.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) failures: Vec<Error>,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Registry {
    /// Knows of no checkpoint yet, and that every id up to the floor was used.
    pub(crate) fn new(volume: Arc<Volume>, lock: Box<dyn LockGuard>, generation: u64, id_floor: u64) -> Self {
        let state = Mutex::new(State { id_floor, committed: id_floor, ..State::default() });
        Self { volume, generation, state, manifests: Mutex::default(), _lock: lock }
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Held by whoever changes names in `manifests/`, so that ids are published in order.
    pub(crate) fn lock_manifests(&self) -> MutexGuard<'_, ()> {
        self.manifests.lock()
    }

    /// The first id that no attempt has had.
    pub(crate) fn next_id(&self) -> CheckpointId {
        CheckpointId::new(self.state.lock().id_floor).map_or(CheckpointId::FIRST, CheckpointId::next)
    }

    /// Every id up to this one was used.
    pub(crate) fn id_floor(&self) -> Option<CheckpointId> {
        CheckpointId::new(self.state.lock().id_floor)
    }

    /// Starts an attempt at a checkpoint.
    pub(crate) fn begin(self: &Arc<Self>, id: CheckpointId) -> Result<Hold> {
        let mut state = self.state.lock();
        if state.published.contains_key(&id) {
            return Err(Error::new(format!("begin checkpoint {id}"), Cause::Conflict(id)));
        }
        if id.get() <= state.id_floor {
            let why = format!("ids only grow, and {} was used already; take next_id()", state.id_floor);
            return Err(Error::invalid(format!("begin checkpoint {id}"), why));
        }
        state.id_floor = id.get();
        let group = Group(state.number());
        state.extents.hold(group, Holder::Pending);
        Ok(Hold { registry: Arc::clone(self), group, holder: Holder::Pending })
    }

    /// Fails unless the id is above every one that was ever committed.
    pub(crate) fn check_new(&self, id: CheckpointId, operation: &str) -> Result<()> {
        let state = self.state.lock();
        if state.published.contains_key(&id) {
            return Err(Error::new(operation, Cause::Conflict(id)));
        }
        if id.get() <= state.committed {
            let why = format!("checkpoint {} was committed already, and ids only grow", state.committed);
            return Err(Error::invalid(operation, why));
        }
        Ok(())
    }

    /// Enters a checkpoint whose manifest was just published; the pending checkpoint refers to all of its extents.
    pub(crate) fn publish<'a>(&self, id: CheckpointId, pending: &Hold, extents: impl Iterator<Item = &'a Extent>) {
        let mut state = self.state.lock();
        let group = Group(state.number());
        state.extents.hold(group, Holder::Manifest);
        for extent in extents {
            state.extents.inherit(group, pending.group, extent);
        }
        state.published.insert(id, group);
        state.committed = state.committed.max(id.get());
    }

    /// Enters a checkpoint that was found on disk and cannot be read: nobody knows what it refers to.
    pub(crate) fn enter_unknown(&self, id: CheckpointId, damage: Error) {
        self.enter(id, std::iter::empty(), Some(damage));
        self.state.lock().unknown.insert(id);
    }

    /// Enters a checkpoint that was found on disk, with what is known of its extents and the lengths of their files.
    pub(crate) fn enter(&self, id: CheckpointId, extents: impl Iterator<Item = (Extent, u64)>, damage: Option<Error>) {
        let mut state = self.state.lock();
        let group = Group(state.number());
        state.extents.hold(group, Holder::Manifest);
        for (extent, file_len) in extents {
            state.extents.add(group, &extent, file_len);
        }
        state.published.insert(id, group);
        state.damaged.extend(damage.map(|error| (id, error)));
        state.id_floor = state.id_floor.max(id.get());
        state.committed = state.committed.max(id.get());
    }

    /// Keeps a published checkpoint for a reader.
    pub(crate) fn open(self: &Arc<Self>, id: CheckpointId) -> Option<Hold> {
        let mut state = self.state.lock();
        let group = *state.published.get(&id)?;
        let holder = Holder::Reader(state.number());
        state.extents.hold(group, holder);
        Some(Hold { registry: Arc::clone(self), group, holder })
    }

    pub(crate) fn is_published(&self, id: CheckpointId) -> bool {
        self.state.lock().published.contains_key(&id)
    }

    /// Remembers that a checkpoint is damaged. One that was forgotten meanwhile is not.
    pub(crate) fn mark_damaged(&self, id: CheckpointId, error: Error) {
        let mut state = self.state.lock();
        if state.published.contains_key(&id) {
            state.damaged.insert(id, error);
        }
    }

    /// What is wrong with a checkpoint, as far as is known.
    pub(crate) fn damage(&self, id: CheckpointId) -> Option<Error> {
        self.state.lock().damaged.get(&id).cloned()
    }

    /// The newest published id, or the newest below another.
    pub(crate) fn newest_below(&self, bound: Option<CheckpointId>) -> Option<CheckpointId> {
        let state = self.state.lock();
        match bound {
            Some(bound) => state.published.range(..bound).next_back(),
            None => state.published.last_key_value(),
        }
        .map(|(id, _)| *id)
    }

    /// All published ids, ascending, damaged ones included.
    pub(crate) fn ids(&self) -> Vec<CheckpointId> {
        self.state.lock().published.keys().copied().collect()
    }

    /// The checkpoints that are known to be damaged, ascending, and why.
    pub(crate) fn damaged(&self) -> Vec<(CheckpointId, Error)> {
        self.state.lock().damaged.iter().map(|(id, error)| (*id, error.clone())).collect()
    }

    /// Whether anybody refers to anything in this file.
    pub(crate) fn knows(&self, file: FileId) -> bool {
        self.state.lock().extents.knows(file)
    }

    /// Takes back checkpoints whose manifests were removed. Until that is durable, they may come back: what they refer
    /// to stays.
    pub(crate) fn retire(&self, ids: &[CheckpointId]) {
        let mut state = self.state.lock();
        for id in ids {
            state.damaged.remove(id);
            if let Some(group) = state.published.remove(id) {
                state.extents.hold(group, Holder::Removed);
                state.extents.release(group, Holder::Manifest);
                state.retired.push((*id, group));
            }
        }
    }

    /// The checkpoints whose removal the next sync of `manifests/` makes durable. Taken before it, and given back to
    /// [`settle`](Self::settle) after it.
    pub(crate) fn take_retired(&self) -> Retired {
        Retired(std::mem::take(&mut self.state.lock().retired))
    }

    /// It is still not certain that they are gone for good.
    pub(crate) fn give_back(&self, retired: Retired) {
        self.state.lock().retired.extend(retired.0);
    }

    /// These checkpoints are gone for good: returns the files that nobody refers to any more.
    pub(crate) fn settle(&self, retired: Retired) -> Vec<DeadFile> {
        let mut dead = Vec::new();
        let mut state = self.state.lock();
        for (id, group) in retired.0 {
            state.unknown.remove(&id);
            dead.extend(state.extents.release(group, Holder::Removed));
        }
        dead
    }

    /// Removes dead files. Once nobody knows what is durable, nothing is removed; and while nobody knows what some
    /// checkpoint refers to, nothing that is older than this open. The next open decides.
    pub(crate) fn sweep(&self, dead: &[DeadFile]) -> Swept {
        let mut swept = Swept::default();
        if self.volume.is_poisoned() {
            return swept;
        }
        let older_too = self.state.lock().unknown.is_empty();
        for DeadFile { file, len } in dead.iter().filter(|dead| older_too || dead.file.generation == self.generation) {
            match self.volume.discard(&layout::segment(*file)) {
                Ok(()) => {
                    swept.files += 1;
                    swept.bytes += len;
                }
                Err(error) => swept.failures.push(error),
            }
        }
        swept
    }
}

impl Hold {
    /// Adds an extent that was just written.
    pub(crate) fn add(&self, extent: &Extent, file_len: u64) {
        self.registry.state.lock().extents.add(self.group, extent, file_len);
    }

    /// Refers to extents that somebody refers to already; returns the first that nobody does.
    pub(crate) fn refer<'a>(&self, extents: impl Iterator<Item = &'a Extent>) -> std::result::Result<(), Extent> {
        let mut state = self.registry.state.lock();
        for extent in extents {
            if !state.extents.refer(self.group, extent) {
                return Err(*extent);
            }
        }
        Ok(())
    }

    /// Remembers that a state was found to be damaged while it was read: for every checkpoint that refers to it.
    pub(crate) fn mark_damaged(&self, extent: &Extent, error: &Error) {
        let mut state = self.registry.state.lock();
        let groups = state.extents.mark_bad(extent);
        let ids = state.published.iter().filter(|(_, group)| groups.contains(group)).map(|(id, _)| *id);
        let damaged: Vec<_> = ids.map(|id| (id, error.clone())).collect();
        state.damaged.extend(damaged);
    }

    /// Whether the group refers to exactly this extent.
    pub(crate) fn refers(&self, extent: &Extent) -> bool {
        self.registry.state.lock().extents.refers(self.group, extent)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let dead = self.registry.state.lock().extents.release(self.group, self.holder);
        // What cannot be removed is remembered by the volume and tried again at the next sweep.
        self.registry.sweep(&dead);
    }
}
