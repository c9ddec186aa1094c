//! The root and the directories under it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{FileKind, layout, volume::Volume};
use crate::error::{Error, Malformed, Result};

/// What opening a store is called in errors.
pub(crate) const OPERATION: &str = "open store in";

/// The directory, absolute, in one spelling: it goes into manifests, and is compared.
pub(crate) fn absolute(operation: &str, dir: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(dir).map_err(|e| Error::io(operation, dir, e))?;
    Ok(absolute.components().collect())
}

/// Creates the root and whatever of its ancestors is missing. They become durable with the identity.
pub(crate) fn ensure(operation: &str, volume: &Volume) -> Result<()> {
    let root = volume.root();
    let mut missing = Vec::new();
    for dir in root.ancestors() {
        match volume.metadata(dir)? {
            None => missing.push(dir),
            Some(found) if found.kind == FileKind::File => {
                return Err(Error::io(operation, dir, ErrorKind::NotADirectory.into()));
            }
            Some(_) => break,
        }
    }
    missing.into_iter().rev().try_for_each(|dir| volume.ensure_dir(dir))
}

/// Creates the directories under the root, durably: they are there before an identity is.
pub(crate) fn make_dirs(volume: &Volume) -> Result<()> {
    layout::DIRS.iter().try_for_each(|dir| volume.ensure_dir(dir))?;
    volume.sync_dir("")
}

/// Where there is an identity there are the directories: one that is missing has vanished, and its files with it.
pub(crate) fn check_dirs(volume: &Volume) -> Result<()> {
    layout::DIRS.iter().try_for_each(|dir| check_dir(volume, dir))
}

/// The same of one of them.
pub(crate) fn check_dir(volume: &Volume, dir: &str) -> Result<()> {
    let path = volume.path(dir);
    match volume.metadata(dir)? {
        Some(found) if found.kind == FileKind::Dir => Ok(()),
        Some(_) => Err(Error::io(OPERATION, &path, ErrorKind::NotADirectory.into())),
        None => {
            let what = "the directory is missing; bring it back, or create it if it was empty";
            Err(Malformed::new(0, what).at(OPERATION, &path))
        }
    }
}
