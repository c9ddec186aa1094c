//! A checkpoint of another store as one of this store.

use std::{collections::BTreeMap, sync::Arc};

use super::files::{Needed, Transferred, by_file, bytes_of, moved, progress_of, report};
use crate::{
    commit::PendingCheckpoint,
    disk::{FileKind, layout, link::Way, volume::cannot_be_synced},
    error::{Error, Malformed, Result},
    handle::FileRef,
    id::FileId,
    manifest::{CheckpointKind, FileOrigin, Lender, Lent, ManifestContent},
    observe::Task,
    read::Checkpoint,
};

/// Whose the files of an imported checkpoint are: see [`Store::import`](crate::Store::import).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Ours, and the source keeps its own: they are linked where that is possible, and independent of each other.
    Copy,
    /// Ours alone: the checkpoint is gone from the source when the import returns, and with its last checkpoint the source
    /// itself. Names in its directory that are not piton's stay.
    Move,
    /// The source's: they are referred to where they are, and never removed or changed.
    ///
    /// [`reuse`](crate::PendingCheckpoint::reuse) copies such states, unless
    /// [`relocation`](crate::Options::relocation) is off, and
    /// [`could_reuse`](crate::PendingCheckpoint::could_reuse) says that they should be written anew. Once a checkpoint was
    /// committed that does without one, no later one can refer to it, unless one that has it is rolled back to. As long as
    /// [`Store::lenders`](crate::Store::lenders) names the source it must stay where it is; its checkpoint is pinned while
    /// this store is open, so that whoever writes there keeps it. One that cannot be had makes what borrows from it
    /// [unavailable](crate::Error::is_unavailable) for as long.
    Borrow,
}

/// What [`Store::import`](crate::Store::import) did.
#[must_use = "it says what could not be done"]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Imported {
    /// The checkpoint as it is here.
    pub checkpoint: Checkpoint,
    /// What became of each data file; of a borrowed one, where it is.
    pub files: Vec<Transferred>,
    /// Why the source of a [`Claim::Move`] is not gone yet; the next open tries again.
    pub failures: Vec<Error>,
}

impl Imported {
    /// How much of the medium the data files take that was free before.
    #[must_use]
    pub fn space(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.space))
    }
}

/// How the files of a source are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Linked, unless somebody may still append to them.
    Own {
        may_link: bool,
    },
    Borrow,
}

/// Steps 2 of the import: returns what the new checkpoint consists of.
pub(crate) fn import(
    pending: &PendingCheckpoint,
    source: &Checkpoint,
    take: Take,
) -> Result<(ManifestContent, Vec<Transferred>)> {
    let manifest = source.manifest();
    let needed = by_file(manifest.all_states().map(|state| state.handle));
    let store = pending.publisher().journal.store();
    let (mut taken, mut files, mut progress) = (BTreeMap::new(), Vec::new(), progress_of(Task::Import, &needed));
    for (file, extents) in needed {
        let data = manifest.data_file(file);
        let needed = Needed { volume: source.reading().volume(), data: &data, extents: &extents };
        let len = needed.check()?;
        let (ours, report) = match take {
            Take::Own { may_link } => adopt(pending, &needed, may_link)?,
            Take::Borrow => borrow(pending, &needed, source, len)?,
        };
        taken.insert(file, Arc::new(FileRef { store, file: ours }));
        files.push(report);
        progress.done(bytes_of(&extents));
        pending.publisher().volume.observer().progress(progress);
    }
    let mut content = manifest.content.clone();
    content.change_handles(|handle| {
        *handle = moved(handle, &taken);
    });
    // Ids of another store mean nothing here; and here it is a checkpoint to go on from.
    (content.parent, content.kind) = (None, CheckpointKind::Checkpoint);
    Ok((content, files))
}

fn adopt(pending: &PendingCheckpoint, needed: &Needed<'_>, may_link: bool) -> Result<(FileId, Transferred)> {
    let volume = &pending.publisher().volume;
    let Needed { data, extents, .. } = *needed;
    pending.batch().adopt(data.id.scope, data.id.lane, extents, |name| {
        let way = needed.place(volume, name, || may_link.then_some(()))?;
        if way == Way::Linked {
            // Nobody knows whether the source has synced it.
            volume.open(name)?.sync()?;
        }
        Ok((report(volume, name, way)?, data.as_origin()))
    })
}

fn borrow(
    pending: &PendingCheckpoint,
    needed: &Needed<'_>,
    source: &Checkpoint,
    len: u64,
) -> Result<(FileId, Transferred)> {
    let Needed { volume, data, extents } = *needed;
    let lent = data.lent.clone().unwrap_or_else(|| {
        let by = Lender { root: volume.root().to_owned(), checkpoint: source.id() };
        Lent { by: Arc::new(by), file: data.id }
    });
    if lent.by.root == pending.publisher().volume.root() {
        let operation = format!("borrow from {}", volume.root().display());
        return Err(Error::invalid(operation, "it borrows from this store itself; import with Claim::Copy"));
    }
    let path = lent.by.root.join(layout::segment(lent.file));
    // The store there may not have synced it yet.
    match volume.open(&path).and_then(|file| file.sync()) {
        // Of a file system that is only read nothing can be made durable.
        Err(error) if error.io_kind().is_some_and(cannot_be_synced) => {}
        synced => synced.map_err(|error| data.blame(error))?,
    }
    let found = volume.metadata(&path)?.filter(|found| found.kind == FileKind::File);
    let found = found.ok_or_else(|| Malformed::new(0, "the data file is missing").at("borrow", &path))?;
    let origin = FileOrigin { lent: Some(lent), ..data.as_origin() };
    let ours = pending.batch().borrow(data.id, found, origin, extents)?;
    Ok((ours, Transferred { path, way: Way::Borrowed, len, space: 0 }))
}
