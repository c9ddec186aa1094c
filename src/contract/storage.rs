//! Kinds of storage, as values that a configuration can have.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::pointer::{self, CheckpointPointer};
use crate::{
    disk::Disk,
    error::{Error, Result},
    options::{MEMORY_STATE_LIMIT, Options},
    read::Checkpoint,
    store::Store,
    write::settings::WriteSettings,
};

/// What setting a storage is called in errors.
const SET: &str = "set checkpoint_storage";
/// The largest state that memory storage can have: records are read whole.
const MAX_MEMORY_STATE: usize = 64 << 20;

/// Where an engine's checkpoints go: a small value that says so, and opens the store.
///
/// # Examples
///
/// A kind of one's own, for tests; [`CustomStorage`] does for most:
///
/// ```
/// use std::path::Path;
/// use piton::{Options, Result, contract::CheckpointStorage, disk::MemoryDisk};
///
/// #[derive(Debug)]
/// struct Shared(MemoryDisk);
///
/// impl CheckpointStorage for Shared {
///     fn root(&self) -> &Path { "/shared".as_ref() }
///     fn options(&self) -> Result<Options> { Ok(Options::new().disk(self.0.clone())) }
/// }
///
/// let storage: &dyn CheckpointStorage = &Shared(MemoryDisk::new());
/// let store = storage.open()?;
/// let id = store.begin_next()?.commit(piton::Manifest::builder())?.id();
/// assert_eq!(storage.resolve("/shared/".as_ref())?.id, id);
/// # Ok::<(), piton::Error>(())
/// ```
pub trait CheckpointStorage: fmt::Debug + Send + Sync {
    /// The directory of the store.
    fn root(&self) -> &Path;

    /// How the store is opened. An engine may go on from these, and open the [root](Self::root) itself.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the value says what no store can be.
    fn options(&self) -> Result<Options>;

    /// Opens the store, or creates it.
    ///
    /// # Errors
    ///
    /// Those of [`options`](Self::options) and of [`Options::open`].
    fn open(&self) -> Result<Store> {
        self.options()?.open(self.root())
    }

    /// What a pointer leads to: the directory of a store or of an [export](Store::export), with or without a slash at its
    /// end, stands for the newest valid checkpoint in it; `<root>/<id>`, as [`CheckpointPointer::path`] makes it, for that
    /// checkpoint. Relative ones are relative to the current directory.
    ///
    /// # Errors
    ///
    /// One of three if the pointer leads nowhere, which [`Error::pointer_fault`] tells apart: it is empty; it is no pointer
    /// (`is_invalid`, both); there is no checkpoint (`is_not_found`). `is_not_found` alone if all that are left were rolled
    /// back. `is_corrupt` if there are checkpoints and none is valid, or if something of the store has vanished. Errors of the
    /// file system.
    fn resolve(&self, pointer: &Path) -> Result<CheckpointPointer> {
        pointer::resolve(self.options()?, pointer)
    }

    /// The checkpoint that a pointer leads to, for reading: of whatever store, which another process may be writing.
    ///
    /// # Errors
    ///
    /// Those of [`resolve`](Self::resolve) and of [`ReadOnlyStore::checkpoint`](crate::ReadOnlyStore::checkpoint).
    fn restore(&self, pointer: &Path) -> Result<Checkpoint> {
        pointer::restore(self.options()?, pointer)
    }
}

/// States inside the records, and those in memory, or in a directory: for tests, and for jobs with little state.
///
/// # Examples
///
/// ```
/// use piton::contract::{CheckpointStorage, MemoryStorage};
///
/// let store = MemoryStorage::default().open()?;
/// let pending = store.begin_next()?;
/// let error = pending.write(piton::Scope::Shared, &vec![0; 5 * 1024 * 1024 + 1]).unwrap_err();
/// assert!(error.is_invalid()); // and says both sizes
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryStorage {
    /// A larger state is refused, in bytes; 5 MiB = 5,242,880 by default, at most 64 MiB.
    pub max_state_size: usize,
    /// Where the manifest log goes, durably; its records have all states that are written here. `None`: into memory, for
    /// as long as the store that was opened is there. Each [`open`](CheckpointStorage::open) makes a new one then.
    pub directory: Option<PathBuf>,
}

/// Files in a directory.
///
/// # Examples
///
/// ```
/// use piton::contract::{CheckpointStorage, FilesystemStorage};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("state");
/// let storage = FilesystemStorage { write_buffer: 64 * 1024, ..FilesystemStorage::new(path) };
/// let store = storage.options()?.retain(3).open(storage.root())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesystemStorage {
    /// The directory of the store.
    pub root: PathBuf,
    /// States of at most so many bytes travel inside the record; see [`Options::inline_threshold`].
    /// `None` for the defaults.
    #[serde(default)]
    pub inline_threshold: Option<usize>,
    /// See [`Options::write_buffer`], in bytes.
    #[serde(default = "default_write_buffer")]
    pub write_buffer: usize,
}

/// Any [`Disk`]: files that are encrypted, compressed, elsewhere. `examples/custom_disk.rs` has one.
///
/// A disk is no value that could be written down, so only its name and its settings are. One that was read back has none
/// until it is [attached](Self::attach) again; to open it before is an error that says so.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use piton::{contract::{CheckpointStorage, CustomStorage}, disk::MemoryDisk};
///
/// let disk = Arc::new(MemoryDisk::new());
/// let storage = CustomStorage::new("memory", "/state", disk.clone());
/// let json = serde_json::to_string(&storage)?;
///
/// let mut storage: CustomStorage = serde_json::from_str(&json)?;
/// assert!(storage.open().unwrap_err().is_invalid());
/// storage.attach(disk);
/// storage.open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomStorage {
    /// What the engine calls this kind of disk.
    pub name: String,
    /// The directory of the store on it.
    pub root: PathBuf,
    /// What whoever makes the disk needs to know.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(skip)]
    disk: Option<Arc<dyn Disk>>,
}

/// Any of the kinds, as a configuration has it.
///
/// # Examples
///
/// ```
/// use piton::contract::{FilesystemStorage, Storage};
///
/// let storage: Storage = serde_json::from_str(r#"{ "filesystem": { "root": "/var/state" } }"#)?;
/// assert_eq!(storage, FilesystemStorage::new("/var/state").into());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// States inside the records.
    Memory(MemoryStorage),
    /// Files in a directory.
    Filesystem(FilesystemStorage),
    /// An own disk.
    Custom(CustomStorage),
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self { max_state_size: MEMORY_STATE_LIMIT, directory: None }
    }
}

impl CheckpointStorage for MemoryStorage {
    fn root(&self) -> &Path {
        self.directory.as_deref().unwrap_or("memory".as_ref())
    }

    fn options(&self) -> Result<Options> {
        let size = self.max_state_size;
        if size == 0 || size > MAX_MEMORY_STATE {
            let why = format!("max_state_size is {size} bytes; it is at least 1 and at most {MAX_MEMORY_STATE}");
            return Err(Error::invalid(SET, why));
        }
        let options = if self.directory.is_some() { Options::new() } else { Options::memory() };
        let options = Options { max_inline_threshold: MAX_MEMORY_STATE, ..options };
        Ok(options.inline_threshold(size).max_state_size(Some(size as u64)))
    }

    /// On the real file system, where others have their checkpoints.
    fn resolve(&self, pointer: &Path) -> Result<CheckpointPointer> {
        pointer::resolve(Options::new(), pointer)
    }

    fn restore(&self, pointer: &Path) -> Result<Checkpoint> {
        pointer::restore(Options::new(), pointer)
    }
}

impl FilesystemStorage {
    /// Files in this directory, with the defaults of [`Options::new`].
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), inline_threshold: None, write_buffer: default_write_buffer() }
    }
}

fn default_write_buffer() -> usize {
    Options::new().write_buffer
}

impl CheckpointStorage for FilesystemStorage {
    fn root(&self) -> &Path {
        &self.root
    }

    fn options(&self) -> Result<Options> {
        let options = Options::new().write_buffer(self.write_buffer);
        Ok(self.inline_threshold.map_or(options.clone(), |bytes| options.inline_threshold(bytes)))
    }
}

impl CustomStorage {
    /// A store in this directory of a disk.
    pub fn new(name: impl Into<String>, root: impl Into<PathBuf>, disk: Arc<dyn Disk>) -> Self {
        Self { name: name.into(), root: root.into(), settings: BTreeMap::new(), disk: Some(disk) }
    }

    /// Gives it the disk that its name and settings stand for.
    pub fn attach(&mut self, disk: Arc<dyn Disk>) {
        self.disk = Some(disk);
    }

    /// Whether it has a disk.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.disk.is_some()
    }
}

impl PartialEq for CustomStorage {
    /// Whether they are written down alike.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.root, &self.settings) == (&other.name, &other.root, &other.settings)
    }
}

impl Eq for CustomStorage {}

impl CheckpointStorage for CustomStorage {
    fn root(&self) -> &Path {
        &self.root
    }

    fn options(&self) -> Result<Options> {
        let disk = self.disk.as_ref().ok_or_else(|| {
            let why = format!("it has no disk yet: attach the one that {:?} stands for", self.name);
            Error::invalid(SET, why)
        })?;
        Ok(Options { disk: Arc::clone(disk), ..Options::new() })
    }
}

impl Storage {
    /// Refuses what no store can be opened with, as far as that can be told without a disk.
    pub(crate) fn check(&self) -> Result<()> {
        if self.root().as_os_str().is_empty() {
            return Err(Error::invalid(SET, "its directory has no name"));
        }
        match self {
            Self::Custom(_) => Ok(()),
            _ => WriteSettings::check(&self.options()?),
        }
    }

    fn kind(&self) -> &dyn CheckpointStorage {
        match self {
            Self::Memory(storage) => storage,
            Self::Filesystem(storage) => storage,
            Self::Custom(storage) => storage,
        }
    }
}

impl CheckpointStorage for Storage {
    fn root(&self) -> &Path {
        self.kind().root()
    }

    fn options(&self) -> Result<Options> {
        self.kind().options()
    }

    fn open(&self) -> Result<Store> {
        self.kind().open()
    }

    fn resolve(&self, pointer: &Path) -> Result<CheckpointPointer> {
        self.kind().resolve(pointer)
    }

    fn restore(&self, pointer: &Path) -> Result<Checkpoint> {
        self.kind().restore(pointer)
    }
}

impl From<MemoryStorage> for Storage {
    fn from(storage: MemoryStorage) -> Self {
        Self::Memory(storage)
    }
}

impl From<FilesystemStorage> for Storage {
    fn from(storage: FilesystemStorage) -> Self {
        Self::Filesystem(storage)
    }
}

impl From<CustomStorage> for Storage {
    fn from(storage: CustomStorage) -> Self {
        Self::Custom(storage)
    }
}
