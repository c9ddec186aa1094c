//! The identity file of an open store.
//!
//! `piton.store` is replaced as a whole, by rename, each time something in it changes: its generation at each open for
//! writing, so that a writer that was stalled while another one took over finds out before it publishes; what was there
//! at the last take-over, so that what it publishes nevertheless counts for nothing; its id floor before the newest
//! checkpoint is deleted, so that the id never comes back; and what was rolled back.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;

use crate::{
    disk::{layout, publish::TempFile, spare, volume::Volume},
    error::{Cause, Error, Malformed, Result},
    format::identity::{self, Identity, RollBacks, TakeOver},
    id::{CheckpointId, LAST, StoreId},
};

#[derive(Debug)]
pub(crate) struct IdentityFile {
    volume: Arc<Volume>,
    store: StoreId,
    generation: u64,
    /// What is on disk; held while it is changed.
    on_disk: Mutex<Identity>,
}

const OPERATION: &str = "read store identity";

/// The identity on disk. Its absence is an error, `is_not_found`; that of an export that was not completed is damage.
pub(crate) fn read(volume: &Volume) -> Result<Identity> {
    let found = volume.parse(layout::IDENTITY, OPERATION, (identity::LEN, identity::check_head), identity::decode);
    match found {
        Err(error) if error.is_not_found() && is_partial(volume)? => {
            let what = "this is an export that was not completed; remove the directory, or export to it again";
            Err(Malformed::new(0, what).at(OPERATION, &volume.path(layout::PARTIAL)))
        }
        found => found,
    }
}

/// Whether this is an export that was not completed: there is the mark of one, and no identity.
pub(crate) fn is_partial(volume: &Volume) -> Result<bool> {
    Ok(volume.metadata(layout::PARTIAL)?.is_some() && volume.metadata(layout::IDENTITY)?.is_none())
}

/// A random id for a new store.
pub(crate) fn fresh_id() -> Result<StoreId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::invalid("make a store id", e.to_string()))?;
    Ok(StoreId(id))
}

/// Replaces the identity, durably: temporary file, sync, a last look whether it may be replaced, rename, sync of the root.
pub(crate) fn write(volume: &Arc<Volume>, identity: &Identity, admit: impl Fn() -> Result<()>) -> Result<()> {
    let bytes = identity::encode(identity);
    spare::even_if_full(volume, || {
        let temp = TempFile::write(volume, Path::new(""), &bytes)?;
        admit()?;
        temp.replace(Path::new(layout::IDENTITY), &bytes)
    })?;
    volume.settle_dir("")
}

impl IdentityFile {
    /// Takes over the store: writes this identity, whose generation must be new.
    pub(crate) fn take_over(volume: &Arc<Volume>, identity: Identity) -> Result<Self> {
        write(volume, &identity, || Ok(()))?;
        let Identity { store, generation, .. } = identity;
        Ok(Self { volume: Arc::clone(volume), store, generation, on_disk: Mutex::new(identity) })
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What is on disk, as far as we know.
    pub(crate) fn on_disk(&self) -> Identity {
        *self.on_disk.lock()
    }

    /// Refuses if another process has opened the store for writing since, or if its directory was exchanged.
    pub(crate) fn check_not_fenced(&self, operation: &str) -> Result<()> {
        self.volume.check_in_place(operation)?;
        let found = read(&self.volume)?.generation;
        let ours = self.generation;
        if found == ours {
            return Ok(());
        }
        Err(Error::at(operation, self.volume.root(), Cause::Fenced { ours, found }))
    }

    /// Remembers durably that every id up to this one was used.
    pub(crate) fn raise_floor(&self, id: CheckpointId) -> Result<()> {
        self.change("raise the id floor of", |identity| identity.id_floor = identity.id_floor.max(id.get()))
    }

    /// Remembers durably that the last checkpoints are about to go, up to this id: that none is there later is no loss.
    pub(crate) fn note_empty(&self, id: CheckpointId) -> Result<()> {
        self.change("forget the last checkpoints of", |identity| {
            identity.id_floor = identity.id_floor.max(id.get());
            identity.populated = false;
        })
    }

    /// Remembers durably, when the store is closed, which ids were used, and whether there are checkpoints.
    pub(crate) fn note_end(&self, floor: Option<CheckpointId>, populated: bool) -> Result<()> {
        self.change("close", |identity| {
            identity.id_floor = identity.id_floor.max(floor.map_or(0, CheckpointId::get));
            identity.populated = populated;
        })
    }

    /// Remembers durably what was there when the store was taken over: what an older writer publishes above it does not
    /// count. If files are there of a generation that this identity knows nothing of, because it is an old copy, ours
    /// becomes a later one.
    ///
    /// While something is there that an older writer published so, what was remembered before stays: else nobody would know
    /// what it is.
    pub(crate) fn settle(mut self, newest: Option<CheckpointId>, found: u64, stale: bool) -> Result<Self> {
        let generation = if found < self.generation { self.generation } else { found.saturating_add(1) };
        if generation > LAST {
            let what = format!("a file of generation {found} is there, the last one");
            return Err(Malformed::new(0, what).at("take over", self.volume.root()));
        }
        let newest = newest.map_or(0, CheckpointId::get);
        let take_over = if stale { self.on_disk().take_over } else { TakeOver { generation, newest } };
        let populated = newest > 0;
        self.change("take over", |identity| *identity = Identity { generation, populated, take_over, ..*identity })?;
        self.generation = generation;
        Ok(self)
    }

    /// Remembers durably which checkpoints were rolled back.
    pub(crate) fn roll_back(&self, roll_backs: RollBacks) -> Result<()> {
        self.change("roll back", |identity| identity.roll_backs = roll_backs)
    }

    fn change(&self, operation: &str, change: impl FnOnce(&mut Identity)) -> Result<()> {
        let mut on_disk = self.on_disk.lock();
        let mut changed = *on_disk;
        change(&mut changed);
        if changed != *on_disk {
            write(&self.volume, &changed, || self.check_not_fenced(operation))?;
            *on_disk = changed;
        }
        Ok(())
    }
}
