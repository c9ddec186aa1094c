//! Data files that were not written under their own names: linked, copied, or somebody else's.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Manifest;
use crate::{
    error::Error,
    id::{CheckpointId, FileId, StoreId},
};

/// What is to be known of such files, by name.
pub(crate) type Origins = BTreeMap<FileId, FileOrigin>;

/// As what a file was written: its header says so for ever, whatever its name is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileOrigin {
    pub(crate) store: StoreId,
    pub(crate) file: FileId,
    /// Where it is, if it is not ours.
    pub(crate) lent: Option<Lent>,
}

/// A file in somebody else's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) by: Arc<Lender>,
    /// Its name there.
    pub(crate) file: FileId,
}

/// A checkpoint of another store, some of whose files are [borrowed](crate::Claim::Borrow): they must stay where they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lender {
    pub(crate) root: PathBuf,
    pub(crate) checkpoint: CheckpointId,
}

impl Lender {
    /// The directory of the other store, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The id of the checkpoint there.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {} of {}", self.checkpoint, self.root.display())
    }
}

/// A data file as a reader needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Its name.
    pub(crate) id: FileId,
    /// The store and the file that its header names.
    pub(crate) store: StoreId,
    pub(crate) written_as: FileId,
    pub(crate) lent: Option<Lent>,
}

impl DataFile {
    /// A file of this store, and where it came from if it was not written there.
    pub(crate) fn of(store: StoreId, id: FileId, origin: Option<&FileOrigin>) -> Self {
        match origin.cloned() {
            Some(FileOrigin { store, file, lent }) => Self { id, store, written_as: file, lent },
            None => Self { id, store, written_as: id, lent: None },
        }
    }

    /// The directory that is not ours, and its name there.
    pub(crate) fn lent(&self) -> Option<(&Path, FileId)> {
        self.lent.as_ref().map(|lent| (lent.by.root(), lent.file))
    }

    /// Whatever is wrong with a borrowed file, nothing of ours is damaged. What this process may not or cannot do now says
    /// nothing of the file.
    pub(crate) fn blame(&self, error: Error) -> Error {
        match &self.lent {
            Some(lent) if !error.is_of_this_process() => {
                let path = error.path().unwrap_or(lent.by.root()).to_owned();
                Error::unavailable("read", &path, &error.to_string())
            }
            _ => error,
        }
    }

    /// The origin that a file of ours has that is the same, or has the same bytes.
    pub(crate) fn as_origin(&self) -> FileOrigin {
        FileOrigin { store: self.store, file: self.written_as, lent: None }
    }
}

impl Manifest {
    /// A data file that this manifest names.
    pub(crate) fn data_file(&self, id: FileId) -> DataFile {
        DataFile::of(self.store, id, self.origins.get(&id))
    }

    /// Whose files this checkpoint refers to in place, if it does: see [`Claim::Borrow`](crate::Claim::Borrow).
    pub fn lenders(&self) -> impl Iterator<Item = &Lender> {
        let lenders: std::collections::BTreeSet<_> =
            self.origins.values().filter_map(|origin| origin.lent.as_ref().map(|lent| &*lent.by)).collect();
        lenders.into_iter()
    }
}
