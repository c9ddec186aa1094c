//! The identity file of an open store, and the claim to write that goes with it.
//!
//! `piton.store` is the one file that is ever replaced. Its generation is raised at each open for writing, so that a
//! writer that was stalled while another one took over finds out before it publishes; its id floor is raised before the
//! newest checkpoint is deleted, so that the id never comes back.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;

use crate::{
    disk::{LockGuard, layout, publish::TempFile, volume::Volume},
    error::{Cause, Error, Result},
    format::identity::{self, Identity},
    id::{CheckpointId, StoreId},
};

/// More than the identity of any version has.
const MAX_LEN: u64 = 4096;

#[derive(Debug)]
pub(crate) struct IdentityFile {
    volume: Arc<Volume>,
    current: Mutex<Identity>,
    /// Held for as long as anybody may write.
    _lock: Box<dyn LockGuard>,
}

/// The identity on disk. Its absence is an error, `is_not_found`.
pub(crate) fn read(volume: &Volume) -> Result<Identity> {
    volume.parse(layout::IDENTITY, "read store identity", MAX_LEN, identity::decode)
}

/// Replaces the identity, durably: temporary file, sync, rename, sync of the root.
fn write(volume: &Arc<Volume>, identity: &Identity) -> Result<()> {
    TempFile::write(volume, Path::new(""), &identity::encode(identity))?
        .replace(Path::new(layout::IDENTITY))?;
    volume.sync_dir("")
}

impl IdentityFile {
    /// Takes over the store: writes this identity, whose generation must be new.
    pub(crate) fn take_over(
        volume: &Arc<Volume>,
        lock: Box<dyn LockGuard>,
        identity: Identity,
    ) -> Result<Self> {
        write(volume, &identity)?;
        Ok(Self { volume: Arc::clone(volume), current: Mutex::new(identity), _lock: lock })
    }

    pub(crate) fn store(&self) -> StoreId {
        self.current.lock().store
    }

    pub(crate) fn generation(&self) -> u64 {
        self.current.lock().generation
    }

    /// Refuses if somebody else has opened the store for writing since.
    pub(crate) fn check_not_fenced(&self, operation: &str) -> Result<()> {
        let found = read(&self.volume)?.generation;
        let ours = self.generation();
        if found == ours {
            return Ok(());
        }
        Err(Error::at(operation, self.volume.root(), Cause::Fenced { ours, found }))
    }

    /// Remembers durably that every id up to this one was used.
    pub(crate) fn raise_floor(&self, id: CheckpointId) -> Result<()> {
        let mut current = self.current.lock();
        if current.id_floor >= id.get() {
            return Ok(());
        }
        let raised = Identity { id_floor: id.get(), ..*current };
        write(&self.volume, &raised)?;
        *current = raised;
        Ok(())
    }
}
