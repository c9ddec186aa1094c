//! Texts that lead to a checkpoint.

use std::{
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{At, Disk, FileKind, layout, root},
    error::{Cause, Error, PointerFault, Result},
    id::CheckpointId,
    options::Options,
    read::Checkpoint,
};

const OPERATION: &str = "resolve checkpoint pointer";

/// Where a checkpoint is: the directory of its store, and its id. [`CheckpointStorage::resolve`](super::CheckpointStorage::resolve)
/// makes one; its [path](Self::path) resolves to itself again. So does its text, and it can be written down, if the path is
/// UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckpointPointer {
    /// The directory of the store, absolute.
    pub root: PathBuf,
    /// The checkpoint in it.
    pub id: CheckpointId,
}

impl CheckpointPointer {
    /// The path of the manifest.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join(layout::manifest(self.id))
    }
}

impl fmt::Display for CheckpointPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// What a path stands for.
enum Target {
    Checkpoint(CheckpointPointer),
    /// The newest checkpoint in this directory.
    Store(PathBuf),
}

/// What a pointer leads to on the disk of these options.
pub(super) fn resolve(options: Options, pointer: &Path) -> Result<CheckpointPointer> {
    match target(&*options.disk, pointer)? {
        Target::Checkpoint(found) => Ok(found),
        Target::Store(root) => {
            let id = newest(options, &root)?.id();
            Ok(CheckpointPointer { root, id })
        }
    }
}

/// The same, opened. The newest one is the one that was found: by its id it may be forgotten in favour of a newer one.
pub(super) fn restore(options: Options, pointer: &Path) -> Result<Checkpoint> {
    match target(&*options.disk, pointer)? {
        Target::Checkpoint(found) => options.open_read_only(found.root)?.checkpoint(found.id),
        Target::Store(root) => newest(options, &root),
    }
}

fn target(disk: &dyn Disk, pointer: &Path) -> Result<Target> {
    check_text(pointer)?;
    let path = root::absolute(OPERATION, pointer)?;
    match (manifest_pointer(&path), kind_at(disk, &path)?) {
        (_, None) | (Some(_), Some(FileKind::Dir)) => Err(fault(&path, PointerFault::Missing)),
        (Some(found), Some(FileKind::File)) => Ok(Target::Checkpoint(found)),
        // A name of ours that is none of our files.
        (Some(_), Some(FileKind::Other)) | (None, Some(FileKind::File)) => Err(fault(&path, PointerFault::Malformed)),
        // A link perhaps, and to a directory.
        (None, Some(FileKind::Dir | FileKind::Other)) => Ok(Target::Store(path)),
    }
}

/// Refuses what can be no path of ours, before the disk is asked.
fn check_text(pointer: &Path) -> Result<()> {
    let text = pointer.as_os_str().as_encoded_bytes();
    if text.trim_ascii().is_empty() {
        return Err(Error::new(OPERATION, Cause::Pointer(PointerFault::Empty)));
    }
    // A NUL ends a path; a scheme begins what is none.
    if text.contains(&0) || text.windows(3).any(|part| part == b"://") {
        return Err(fault(pointer, PointerFault::Malformed));
    }
    Ok(())
}

/// The path of a manifest says it all.
fn manifest_pointer(path: &Path) -> Option<CheckpointPointer> {
    let id = layout::parse_manifest(path.file_name()?)?;
    let root = path.parent().filter(|dir| dir.ends_with(layout::MANIFESTS))?.parent()?;
    Some(CheckpointPointer { root: root.to_owned(), id })
}

fn kind_at(disk: &dyn Disk, path: &Path) -> Result<Option<FileKind>> {
    match disk.metadata(At::new(path)) {
        Ok(found) => Ok(Some(found.kind)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io(OPERATION, path, error)),
    }
}

fn newest(options: Options, root: &Path) -> Result<Checkpoint> {
    let is_no_dir = |error: &Error| error.io_kind() == Some(ErrorKind::NotADirectory) && error.path() == Some(root);
    let store = options.open_read_only(root).map_err(|error| match error {
        error if is_no_dir(&error) => fault(root, PointerFault::Malformed),
        error if error.is_not_found() => fault(root, PointerFault::Missing),
        error => error,
    })?;
    store.latest()?.ok_or_else(|| fault(root, PointerFault::Missing))
}

fn fault(path: &Path, fault: PointerFault) -> Error {
    Error::at(OPERATION, path, Cause::Pointer(fault))
}
