//! What a checkpoint consists of.

use std::collections::{BTreeMap, btree_map};

use crate::{
    handle::StateHandle,
    id::{CheckpointId, StoreId},
};

/// The content of one published checkpoint: its states by name, and the engine's own metadata.
///
/// It is a value: it was read and checked as a whole, and nothing changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) store: StoreId,
    pub(crate) id: CheckpointId,
    pub(crate) generation: u64,
    pub(crate) content: ManifestBuilder,
}

/// What an engine puts into a checkpoint, handed to [`PendingCheckpoint::commit`](crate::PendingCheckpoint::commit).
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin(store.next_id())?;
/// let counts = pending.write(Scope::Shared, b"three words counted")?;
/// let manifest = Manifest::builder().state("counts", counts).metadata("offset", b"3").timestamp_ms(1_700_000_000_000);
/// let checkpoint = pending.commit(manifest)?;
///
/// let handle = checkpoint.manifest().state("counts").unwrap();
/// assert_eq!(&checkpoint.read(handle)?[..], b"three words counted");
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestBuilder {
    pub(crate) timestamp_ms: u64,
    pub(crate) states: BTreeMap<String, StateHandle>,
    pub(crate) metadata: BTreeMap<String, Vec<u8>>,
}

impl Manifest {
    /// An empty content to fill.
    #[must_use]
    pub fn builder() -> ManifestBuilder {
        ManifestBuilder::default()
    }

    /// The id of the checkpoint.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// The generation of the store that published it: how many times the store had been opened for writing.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The time that the engine gave, in milliseconds since 1970; 0 if it gave none.
    #[must_use]
    pub fn timestamp_ms(&self) -> u64 {
        self.content.timestamp_ms
    }

    /// The state of this name.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<&StateHandle> {
        self.content.states.get(name)
    }

    /// All states, in the order of their names' bytes.
    pub fn states(&self) -> btree_map::Iter<'_, String, StateHandle> {
        self.content.states.iter()
    }

    /// The engine's own bytes under this name.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.content.metadata.get(name).map(Vec::as_slice)
    }

    /// All of the engine's own bytes, in the order of their names' bytes.
    pub fn all_metadata(&self) -> btree_map::Iter<'_, String, Vec<u8>> {
        self.content.metadata.iter()
    }
}

impl ManifestBuilder {
    /// Adds a state under a name; a second one of the same name replaces the first.
    ///
    /// Names are data, not file names: any text will do. To put a state into the manifest is to refer to it: the
    /// checkpoint keeps it alive until it is forgotten.
    #[must_use]
    pub fn state(mut self, name: impl Into<String>, handle: StateHandle) -> Self {
        self.states.insert(name.into(), handle);
        self
    }

    /// Adds bytes of the engine's own under a name. They are in memory and in the manifest: keep them small.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.metadata.insert(name.into(), bytes.into());
        self
    }

    /// The time of the checkpoint, in milliseconds since 1970. The store reads no clock of its own.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: u64) -> Self {
        self.timestamp_ms = timestamp_ms;
        self
    }

    /// Every handle that the manifest names.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &StateHandle> {
        self.states.values()
    }
}
