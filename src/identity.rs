//! The identity file of an open store.
//!
//! `piton.store` is the one file that is ever replaced. Its generation is raised at each open for writing, so that a
//! writer that was stalled while another one took over finds out before it publishes; its id floor is raised before the
//! newest checkpoint is deleted, so that the id never comes back.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;

use crate::{
    disk::{layout, publish::TempFile, volume::Volume},
    error::{Cause, Error, Result},
    format::identity::{self, Identity},
    id::{CheckpointId, StoreId},
};

#[derive(Debug)]
pub(crate) struct IdentityFile {
    volume: Arc<Volume>,
    store: StoreId,
    generation: u64,
    /// The floor on disk; held while it is raised.
    id_floor: Mutex<u64>,
}

/// The identity on disk. Its absence is an error, `is_not_found`.
pub(crate) fn read(volume: &Volume) -> Result<Identity> {
    volume.parse(layout::IDENTITY, "read store identity", (identity::LEN, identity::check_head), identity::decode)
}

/// Replaces the identity, durably: temporary file, sync, a last look whether it may be replaced, rename, sync of the root.
fn write(volume: &Arc<Volume>, identity: &Identity, admit: impl FnOnce() -> Result<()>) -> Result<()> {
    let temp = TempFile::write(volume, Path::new(""), &identity::encode(identity))?;
    admit()?;
    temp.replace(Path::new(layout::IDENTITY))?;
    volume.sync_dir("")
}

impl IdentityFile {
    /// Takes over the store: writes this identity, whose generation must be new.
    pub(crate) fn take_over(volume: &Arc<Volume>, identity: &Identity) -> Result<Self> {
        write(volume, identity, || Ok(()))?;
        let Identity { store, generation, id_floor } = *identity;
        Ok(Self { volume: Arc::clone(volume), store, generation, id_floor: Mutex::new(id_floor) })
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The floor that is on disk.
    pub(crate) fn id_floor(&self) -> u64 {
        *self.id_floor.lock()
    }

    /// Refuses if somebody else has opened the store for writing since.
    pub(crate) fn check_not_fenced(&self, operation: &str) -> Result<()> {
        let found = read(&self.volume)?.generation;
        let ours = self.generation;
        if found == ours {
            return Ok(());
        }
        Err(Error::at(operation, self.volume.root(), Cause::Fenced { ours, found }))
    }

    /// Remembers durably that every id up to this one was used.
    pub(crate) fn raise_floor(&self, id: CheckpointId) -> Result<()> {
        let mut id_floor = self.id_floor.lock();
        if *id_floor >= id.get() {
            return Ok(());
        }
        let raised = Identity { store: self.store, generation: self.generation, id_floor: id.get() };
        write(&self.volume, &raised, || self.check_not_fenced("raise the id floor of"))?;
        *id_floor = id.get();
        Ok(())
    }
}
