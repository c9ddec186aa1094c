//! Texts that lead to a checkpoint.

use std::{
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{At, Disk, FileKind, layout, root},
    error::{Cause, Error, Result},
    fault::PointerFault,
    id::CheckpointId,
    options::Options,
    read::Checkpoint,
    read_only::ReadOnlyStore,
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
    /// `<root>/<id>`, the id with 20 digits. Only the root is on disk.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        layout::checkpoint(&self.root, self.id)
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
        Target::Checkpoint(found) => {
            let is_there = open(options, &found.root)?.checkpoint_ids()?.contains(&found.id);
            if is_there { Ok(found) } else { Err(fault(&found.path(), PointerFault::Missing)) }
        }
        Target::Store(root) => {
            let id = newest(options, &root)?.id();
            Ok(CheckpointPointer { root, id })
        }
    }
}

/// The same, opened. The newest one is the one that was found: by its id it may be forgotten in favour of a newer one.
pub(super) fn restore(options: Options, pointer: &Path) -> Result<Checkpoint> {
    match target(&*options.disk, pointer)? {
        Target::Checkpoint(found) => open(options, &found.root)?
            .checkpoint(found.id)
            .map_err(|error| if error.is_not_found() { fault(&found.path(), PointerFault::Missing) } else { error }),
        Target::Store(root) => newest(options, &root),
    }
}

fn target(disk: &dyn Disk, pointer: &Path) -> Result<Target> {
    check_text(pointer)?;
    let path = root::absolute(OPERATION, pointer)?;
    match (kind_at(disk, &path)?, by_id(&path)) {
        (Some(FileKind::File), _) => Err(fault(&path, PointerFault::Malformed)),
        // A link perhaps, and to a directory.
        (Some(FileKind::Dir | FileKind::Other), _) => Ok(Target::Store(path)),
        (None, Some(found)) => Ok(Target::Checkpoint(found)),
        (None, None) => Err(fault(&path, PointerFault::Missing)),
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

/// The path of a checkpoint says it all.
fn by_id(path: &Path) -> Option<CheckpointPointer> {
    let id = layout::parse_checkpoint(path.file_name()?)?;
    Some(CheckpointPointer { root: path.parent()?.to_owned(), id })
}

fn kind_at(disk: &dyn Disk, path: &Path) -> Result<Option<FileKind>> {
    match disk.metadata(At::new(path)) {
        Ok(found) => Ok(Some(found.kind)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io(OPERATION, path, error)),
    }
}

fn newest(options: Options, root: &Path) -> Result<Checkpoint> {
    open(options, root)?.latest()?.ok_or_else(|| fault(root, PointerFault::Missing))
}

fn open(options: Options, root: &Path) -> Result<ReadOnlyStore> {
    let is_no_dir = |error: &Error| error.io_kind() == Some(ErrorKind::NotADirectory) && error.path() == Some(root);
    options.open_read_only(root).map_err(|error| match error {
        error if is_no_dir(&error) => fault(root, PointerFault::Malformed),
        error if error.is_not_found() => fault(root, PointerFault::Missing),
        error => error,
    })
}

fn fault(path: &Path, fault: PointerFault) -> Error {
    Error::at(OPERATION, path, Cause::Pointer(fault))
}
