//! A store that is to go because its checkpoint was taken over.
//!
//! Both stores say so, with the same bytes: a *note* in the log of the one that takes over, a *mark* in the one that
//! departs. Neither counts without the other. The mark is written while the departing store is locked. A process that
//! opens that store for writing takes the mark back: then the store goes on, and is not removed. So nothing comes of a note
//! that was never agreed on, nor is a store removed that was put in its place, or a copy of it that was brought back.

use std::{io::ErrorKind, path::Path, sync::Arc};

use crate::{
    disk::{FileKind, layout, member, publish::TempFile, root, this_process, volume::Volume},
    error::{Error, Result},
    format::source::{self, Source},
    records::identity,
};

/// A store that departs.
#[derive(Debug)]
pub(crate) struct Departing {
    volume: Arc<Volume>,
    agreed: Source,
}

/// Says durably in the departing store, which the caller has locked, what is agreed.
pub(crate) fn mark(volume: &Arc<Volume>, agreed: &Source) -> Result<()> {
    let (name, bytes) = (Path::new(layout::DEPARTING), source::encode(agreed));
    TempFile::write(volume, Path::new(""), &bytes)?.replace(name, &bytes)?;
    volume.sync_dir("")
}

fn read(volume: &Volume, name: &Path) -> Result<Option<Source>> {
    match volume.parse(name, "read source", (source::HEAD_LEN, source::check_head), source::decode) {
        Err(error) if error.is_not_found() => Ok(None),
        read => read.map(Some),
    }
}

impl Departing {
    /// The store that is to go by what is noted, as seen by the one that takes over.
    pub(crate) fn noted(volume: &Volume, agreed: Source) -> Result<Self> {
        let theirs = Arc::new(volume.elsewhere(agreed.root.clone()));
        match theirs.open_root() {
            // Whatever is there in place of its directory is not what was agreed on.
            Err(error) if error.is_not_found() || error.io_kind() == Some(ErrorKind::NotADirectory) => {}
            opened => opened?,
        }
        Ok(Self { volume: theirs, agreed })
    }

    /// The same store, as it was opened and locked.
    pub(crate) fn opened(self, volume: &Arc<Volume>) -> Self {
        Self { volume: Arc::clone(volume), ..self }
    }

    pub(crate) fn root(&self) -> &Path {
        self.volume.root()
    }

    pub(crate) fn agreed(&self) -> &Source {
        &self.agreed
    }

    /// Whether the other store says the same. Asked again once it is locked.
    pub(crate) fn is_marked(&self) -> Result<bool> {
        // Whatever is there in place of its directory is not what was agreed on.
        if self.volume.metadata("")?.is_none_or(|found| found.kind == FileKind::File) {
            return Ok(false);
        }
        let marked = read(&self.volume, layout::DEPARTING.as_ref())?;
        Ok(marked.is_some_and(|marked| Source { root: self.agreed.root.clone(), ..marked } == self.agreed))
    }

    /// Whether it is a store still.
    pub(crate) fn is_store(&self) -> Result<bool> {
        match identity::read(&self.volume) {
            Err(error) if error.is_not_found() => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// Keeps everybody from opening it.
    pub(crate) fn lock(&self) -> Result<()> {
        self.volume.keep_lock(self.volume.lock(layout::LOCK, &this_process())?);
        self.volume.check_in_place("remove")
    }

    /// It goes on, with other checkpoints.
    pub(crate) fn unmark(&self) -> Result<()> {
        self.volume.remove(layout::DEPARTING.as_ref())?;
        self.volume.sync_dir("")
    }

    /// Removes what is left of a store without checkpoints, which is locked: first what makes it one, at last the mark, by
    /// which an interrupted removal is known. The root is empty then, and may stay: it may be a mount point, or in a
    /// directory that is not ours.
    pub(crate) fn remove_skeleton(&self) -> Result<()> {
        let volume = &self.volume;
        for dir in layout::DIRS {
            if volume.metadata(dir)?.is_none() {
                continue;
            }
            // The log goes with the identity.
            let entries = if dir == layout::MANIFESTS { Vec::new() } else { volume.list(dir)? };
            if let Some(left) = entries.iter().find(|entry| layout::is_ours(&entry.name)) {
                let path = volume.path(dir).join(&left.name);
                return Err(Error::io("remove", &path, ErrorKind::DirectoryNotEmpty.into()));
            }
            // What was removed must not come back once nobody can tell whose it was.
            volume.sync_dir(dir)?;
        }
        volume.remove(layout::IDENTITY.as_ref())?;
        volume.sync_dir("")?;
        let log = root::list_if_there(volume, layout::MANIFESTS)?;
        for entry in log.iter().filter(|entry| layout::is_ours(&entry.name)) {
            volume.remove(&Path::new(layout::MANIFESTS).join(&entry.name))?;
        }
        volume.remove(layout::SPARE.as_ref())?;
        layout::DIRS.iter().try_for_each(|dir| volume.remove_dir(dir))?;
        volume.remove(layout::READERS.as_ref())?;
        member::delete_all(volume)?;
        volume.remove(layout::LOCK.as_ref())?;
        volume.sync_dir("")?;
        volume.remove(layout::DEPARTING.as_ref())?;
        volume.sync_dir("")?;
        let _ = volume.remove_dir("").and_then(|()| volume.sync_above_root());
        Ok(())
    }
}
