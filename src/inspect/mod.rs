//! Looking into a store: everything that its files say, damaged or not, without changing any of them.
//!
//! # Who owns what
//!
//! An [`Inspection`] owns what was read of the identity and of the manifest log, at one moment. It takes no lock, needs no
//! identity, and passes over damage, which it lists. Data files are looked at on request: how long they are
//! ([`Inspection::files`]), and which of their bytes are alive ([`Inspection::extents`]).
//!
//! A writer may be at work meanwhile. It deletes logs only once a base has taken their place; then the log is read again.
//!
//! | file | is |
//! |---|---|
//! | `checkpoints` | every checkpoint that the log knows, whatever is wrong with it |
//! | `log` | the records themselves |
//! | `files` | the data files |
//! | `extents` | the states in them, and who keeps each |
//! | `verify` | whether their bytes are right |

mod checkpoints;
mod extents;
mod files;
mod log;
mod verify;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use checkpoints::InspectedCheckpoint;
pub use extents::{CheckpointBytes, Extents, InspectedState};
pub use files::{InspectedFile, InspectedMember};
pub use log::{LogRecord, RecordKind};
pub use verify::{DamagedState, Verified};

use crate::{
    disk::{layout, root, volume::Volume},
    error::{Error, Malformed, Result},
    handle::StateHandle,
    id::{FileId, StoreId},
    manifest::{DataFile, Manifest},
    options::Options,
    records::{Survey, identity, unreadable},
};

const OPERATION: &str = "inspect the store in";
/// How often the log is read, at most, because a writer deletes files meanwhile.
const MOST_READS: u32 = 20;
const READ_INTERVAL: Duration = Duration::from_millis(5);

/// Everything that the files of a store say, as they were at one moment: [`Options::inspect`].
#[derive(Debug)]
pub struct Inspection {
    volume: Arc<Volume>,
    /// Of the identity, or else of the log.
    store: Option<StoreId>,
    generation: u64,
    /// Whether there are logs.
    has_log: bool,
    checkpoints: Vec<InspectedCheckpoint>,
    /// How far checkpoints say that data files reach.
    ends: HashMap<FileId, u64>,
    lost: Vec<Error>,
    healed: Vec<Error>,
}

impl Options {
    /// Reads everything that the files of a store say, in whatever condition they are, and changes none of them. It takes no
    /// lock, so another process may write the store meanwhile. Of the options only [`disk`](Self::disk) and
    /// [`progress`](Self::progress) count.
    ///
    /// An engine opens a store with [`open`](Self::open) or [`open_read_only`](Self::open_read_only). This is for tools.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is no store in the directory, nor any part of one. `is_newer_format` if a newer version of this
    /// crate wrote the log. Errors of the file system. Damage is no error: see [`Inspection::lost`].
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, Scope, Store};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let pending = store.begin_next()?;
    /// let weights = pending.write(Scope::Shared, &[7; 5000])?;
    /// let first = pending.commit(Manifest::builder().state("weights", weights))?;
    /// store.pin(first.id())?;
    ///
    /// let inspection = Options::new().inspect(dir.path())?;
    /// assert_eq!(inspection.store(), Some(store.id()));
    /// let checkpoint = &inspection.checkpoints()[0];
    /// assert!(checkpoint.id == first.id() && checkpoint.pinned);
    /// assert!(inspection.lost().is_empty());
    /// assert_eq!(inspection.extents().by_checkpoint()[&checkpoint.id].unique, 5000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inspect(self, root: impl AsRef<Path>) -> Result<Inspection> {
        let root = root::absolute(OPERATION, root.as_ref())?;
        let volume = Arc::new(Volume::new(Arc::clone(&self.disk), root, false).observed_by(&self.observer));
        volume.open_root()?;
        let mut lost = Vec::new();
        let identity = identity::read(&volume);
        let healed = identity.as_ref().ok().and_then(|found| found.healed.clone()).into_iter().collect();
        let store = match &identity {
            Ok(found) => Some(found.identity.store),
            Err(error) if error.is_not_found() || error.is_damage() => {
                lost.push(error.clone());
                store_of_files(&volume)?
            }
            Err(error) => return Err(error.clone()),
        };
        let generation = identity.map_or(0, |found| found.identity.generation);
        let (has_log, checkpoints, ends) = Default::default();
        let mut inspection = Inspection { volume, store, generation, has_log, checkpoints, ends, lost, healed };
        match store {
            Some(store) => inspection.read_log(store)?,
            None if inspection.lost.iter().all(Error::is_not_found) => {
                let why = "there is no store: neither an identity nor a manifest log";
                let operation = format!("{OPERATION} {}", inspection.root().display());
                return Err(Error::not_found(operation, why));
            }
            None => {}
        }
        Ok(inspection)
    }
}

/// The store that the log belongs to, if there is one.
fn store_of_files(volume: &Volume) -> Result<Option<StoreId>> {
    if root::is_there(volume, layout::MANIFESTS)? { Survey::store_of_files(volume) } else { Ok(None) }
}

impl Inspection {
    /// The directory of the store, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.volume.root()
    }

    /// The identity of the store: of its file, or else of the log. `None` if both are lost.
    #[must_use]
    pub fn store(&self) -> Option<StoreId> {
        self.store
    }

    /// How often the store was opened for writing; 0 if the identity is lost.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every checkpoint that the log knows, in the order in which they were published.
    #[must_use]
    pub fn checkpoints(&self) -> &[InspectedCheckpoint] {
        &self.checkpoints
    }

    /// What is gone for good: the identity, files of the log, records. Each error names the file.
    #[must_use]
    pub fn lost(&self) -> &[Error] {
        &self.lost
    }

    /// What is damaged and there once more. The next open for writing mends it.
    #[must_use]
    pub fn healed(&self) -> &[Error] {
        &self.healed
    }

    /// The file that has the bytes of a state, and where in it they begin; `None` if the state travels in its handle. The path
    /// is absolute. The manifest that names the state says whether it is in a file of another store.
    #[must_use]
    pub fn place(&self, manifest: &Manifest, handle: &StateHandle) -> Option<(PathBuf, u64)> {
        let extent = handle.extent()?;
        let data = DataFile::of(manifest.store, extent.file, manifest.origins.get(&extent.file));
        Some((self.volume.path(layout::data_file(data.id, data.lent())), extent.offset))
    }

    fn read_log(&mut self, store: StoreId) -> Result<()> {
        if !root::is_there(&self.volume, layout::MANIFESTS)? {
            let what = "the directory is missing, and the manifest log with it: bring it back";
            let path = self.volume.path(layout::MANIFESTS);
            self.lost.push(Malformed::new(0, what).at(OPERATION, &path));
            return Ok(());
        }
        for read in 1..=MOST_READS {
            let survey = Survey::read_steady(&self.volume, store)?;
            let told = survey.tell(&self.volume, true)?;
            // A writer may just have deleted a log that was to be read.
            if read < MOST_READS && !told.missing.is_empty() {
                drop(told);
                std::thread::sleep(READ_INTERVAL);
                continue;
            }
            self.checkpoints = checkpoints::of(&told.history, |wrong| unreadable(&self.volume, wrong));
            self.healed.extend(told.healed.iter().cloned());
            self.lost.extend(told.gone().cloned());
            drop(told);
            drop(survey);
            self.ends = extents::sum_up(&mut self.checkpoints);
            self.has_log = true;
            return Ok(());
        }
        Ok(())
    }
}
