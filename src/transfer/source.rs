//! A store that is to go because its checkpoint was taken over.

use std::{path::Path, sync::Arc};

use crate::{
    disk::{layout, publish::TempFile, volume::Volume},
    error::Result,
    format::source::{self, Source},
    id::{CheckpointId, StoreId},
    identity,
};

/// Notes durably which store is to go: before the checkpoint that was taken over from it is committed.
pub(crate) fn note_source(volume: &Arc<Volume>, source: &Source) -> Result<()> {
    let bytes = source::encode(source);
    let temp = TempFile::write(volume, layout::MANIFESTS.as_ref(), &bytes)?;
    temp.replace(&layout::source(source.ours.1), &bytes)?;
    volume.sync_dir(layout::MANIFESTS)
}

/// A store that is to go, as it is found.
#[derive(Debug)]
pub(crate) struct Departing {
    volume: Volume,
    theirs: (StoreId, CheckpointId),
}

/// What is there of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// The store, with this checkpoint perhaps among others.
    Store(CheckpointId),
    /// What was left when its identity was removed; or nothing.
    Skeleton,
    /// A store that somebody else has made there since.
    Foreign,
}

impl Departing {
    /// What is noted for a checkpoint, if anything is.
    pub(crate) fn read(volume: &Volume, store: StoreId, id: CheckpointId) -> Result<Option<Self>> {
        let head = (source::HEAD_LEN, source::check_head as _);
        let noted = match volume.parse(layout::source(id), "read source", head, source::decode) {
            Err(error) if error.is_not_found() => return Ok(None),
            noted => noted?,
        };
        // One that was copied here from elsewhere says nothing of ours.
        let ours = noted.ours == (store, id);
        Ok(ours.then(|| Self { volume: volume.elsewhere(noted.root), theirs: noted.theirs }))
    }

    pub(crate) fn root(&self) -> &Path {
        self.volume.root()
    }

    pub(crate) fn look(&self) -> Result<Remains> {
        match identity::read(&self.volume) {
            Ok(found) if found.store == self.theirs.0 => Ok(Remains::Store(self.theirs.1)),
            Ok(_) => Ok(Remains::Foreign),
            Err(error) if error.is_not_found() => Ok(Remains::Skeleton),
            Err(error) => Err(error),
        }
    }

    /// Removes what is left of a store without checkpoints: first what makes it one, at last what is empty then.
    pub(crate) fn remove_skeleton(&self) -> Result<()> {
        let volume = &self.volume;
        if volume.metadata("")?.is_none() {
            return Ok(());
        }
        // What was removed from its directories must not come back once nobody can tell whose it was.
        for dir in layout::DIRS {
            if volume.metadata(dir)?.is_some() {
                volume.sync_dir(dir)?;
            }
        }
        volume.remove(layout::IDENTITY.as_ref())?;
        volume.sync_dir("")?;
        layout::DIRS.iter().try_for_each(|dir| volume.remove_dir(dir))?;
        volume.remove(layout::LOCK.as_ref())?;
        volume.sync_dir("")?;
        volume.remove_dir("")?;
        volume.sync_above_root()
    }
}
