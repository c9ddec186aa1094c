//! A file that appears under its final name whole or not at all.
//!
//! It is written under a temporary name, and then renamed. Who needs it durable syncs the file before the rename and
//! the directory after it. Dropped before, the file is removed; a crash leaves a temporary name, which the next open
//! removes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{file::VolumeFile, volume::Volume};
use crate::error::Result;

/// A file under a temporary name.
#[derive(Debug)]
pub(crate) struct TempFile {
    file: VolumeFile,
    name: TempName,
}

/// Removes the temporary name, unless the file has got its final one.
#[derive(Debug)]
struct TempName {
    volume: Arc<Volume>,
    name: Option<PathBuf>,
}

impl TempFile {
    /// An empty file in this directory of the store.
    pub(crate) fn create(volume: &Arc<Volume>, dir: &Path) -> Result<Self> {
        let (file, name) = volume.create_temp(dir)?;
        Ok(Self { file, name: TempName { volume: Arc::clone(volume), name: Some(name) } })
    }

    /// A synced file with these bytes.
    pub(crate) fn write(volume: &Arc<Volume>, dir: &Path, bytes: &[u8]) -> Result<Self> {
        let temp = Self::create(volume, dir)?;
        temp.file.write_all_at(bytes, 0)?;
        temp.file.sync()?;
        Ok(temp)
    }

    /// The temporary name, relative to the root.
    pub(crate) fn name(&self) -> Option<&Path> {
        self.name.name.as_deref()
    }

    pub(super) fn volume(&self) -> &Volume {
        &self.name.volume
    }

    pub(crate) fn file(&self) -> &VolumeFile {
        &self.file
    }

    /// Gives the file, which has these bytes, its final name, in place of what has that name. After a failure the name
    /// tells: a call may fail that took effect.
    pub(crate) fn replace(self, name: &Path, bytes: &[u8]) -> Result<()> {
        let volume = Arc::clone(&self.name.volume);
        let Err(error) = self.rename(name, Volume::rename) else { return Ok(()) };
        match volume.read_if_there(name) {
            Ok(Some(found)) if found == bytes => Ok(()),
            Ok(_) => Err(error),
            Err(_) => Err(volume.in_doubt(error)),
        }
    }

    /// Gives the file a final name that nobody else has.
    pub(crate) fn publish(self, name: &Path) -> Result<VolumeFile> {
        self.rename(name, Volume::rename_new)
    }

    fn rename(mut self, to: &Path, how: fn(&Volume, &Path, &Path) -> Result<()>) -> Result<VolumeFile> {
        if let Some(from) = &self.name.name {
            how(&self.name.volume, from, to)?;
        }
        self.name.name = None;
        self.file.renamed(self.name.volume.path(to));
        Ok(self.file)
    }
}

impl Drop for TempName {
    fn drop(&mut self) {
        // In a child of a fork it is the parent's.
        if let Some(name) = self.name.as_ref().filter(|_| !self.volume.opener().is_another()) {
            // What cannot be removed is remembered by the volume, and a temporary name is removed at the next open.
            let _ = self.volume.discard(name);
        }
    }
}
