//! The root and the directories under it.

use std::path::Path;

use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Malformed, Result},
};

/// Creates the root and whatever of its ancestors is missing. They become durable with the first identity.
pub(super) fn ensure(volume: &Volume) -> Result<()> {
    let root = volume.root();
    let mut missing = Vec::new();
    for dir in root.ancestors() {
        match volume.metadata(dir)? {
            None => missing.push(dir),
            Some(found) if found.kind == crate::disk::FileKind::File => {
                return Err(Error::io("open store in", dir, std::io::ErrorKind::NotADirectory.into()));
            }
            Some(_) => break,
        }
    }
    for dir in missing.into_iter().rev() {
        volume.ensure_dir(dir)?;
    }
    Ok(())
}

/// Creates the directories under the root that are missing. They become durable with the identity. Returns that one was
/// missing, as an error: whether it is one depends on what else is there.
pub(super) fn ensure_dirs(volume: &Volume) -> Result<Option<Error>> {
    let mut missing = None;
    for dir in layout::DIRS {
        if volume.ensure_dir(Path::new(dir))? {
            missing = Some(Malformed::new(0, "the directory was missing").at("open", &volume.path(dir)));
        }
    }
    Ok(missing)
}
