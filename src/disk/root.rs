//! The root and the directories under it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{DirEntry, FileKind, layout, publish::TempFile, spare, volume::Volume};
use crate::error::{Error, Malformed, Result};

/// What opening a store is called in errors.
pub(crate) const OPERATION: &str = "open store in";

/// The directory, absolute, in one spelling: it goes into records, and is compared.
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

/// The directories that are not there. What has the name of one and is something else is an error.
pub(crate) fn missing_dirs(volume: &Volume) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for dir in layout::DIRS {
        if !is_there(volume, dir)? {
            missing.push(dir);
        }
    }
    Ok(missing)
}

/// Whether one of the directories is there. What has its name and is something else is an error.
pub(crate) fn is_there(volume: &Volume, dir: &str) -> Result<bool> {
    match volume.metadata(dir)? {
        Some(found) if found.kind == FileKind::Dir => Ok(true),
        Some(_) => Err(Error::io(OPERATION, &volume.path(dir), ErrorKind::NotADirectory.into())),
        None => Ok(false),
    }
}

/// The names in one of the directories; none if it is not there.
pub(crate) fn list_if_there(volume: &Volume, dir: &str) -> Result<Vec<DirEntry>> {
    match volume.list(dir) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        entries => entries,
    }
}

/// Makes the file that readers of checkpoints lock, if it is missing. It has no content, so it need not be durable.
pub(crate) fn ensure_readers(volume: &Arc<Volume>) -> Result<()> {
    let name = Path::new(layout::READERS);
    let is_there = || match volume.metadata(name)? {
        Some(found) if found.kind != FileKind::File => {
            Err(Malformed::new(0, "it is not a regular file").at(OPERATION, &volume.path(name)))
        }
        found => Ok(found.is_some()),
    };
    if is_there()? {
        return Ok(());
    }
    let made = spare::even_if_full(volume, || TempFile::create(volume, Path::new(""))?.publish(name).map(drop));
    // A reader may have made it at the same moment.
    made.or_else(|error| if is_there()? { Ok(()) } else { Err(error) })
}
