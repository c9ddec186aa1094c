//! What a checkpoint consists of.
//!
//! | file | holds |
//! |---|---|
//! | `builder` | what an engine puts into a checkpoint |
//! | `content` | all that a manifest has |
//! | `operator` | the states of operators and their partitions, artifacts and digests |
//! | `key_group_range` | which key groups a partition holds |
//! | `connector` | offsets of sources, what became of sinks |
//! | `origin` | where data files came from that were not written under their own names |
//! | `changes` | how one content differs from an older one |
//! | `name` | what states and the like are called |
//! | `states` | every state that a manifest names |
//! | `update` | changes of a manifest that travel apart from it |

mod builder;
mod changes;
mod connector;
mod content;
mod difference;
mod key_group_range;
mod name;
mod operator;
mod origin;
mod states;
mod update;

use std::sync::Arc;

pub use builder::ManifestBuilder;
pub(crate) use changes::StateChange;
pub use connector::{CheckpointKind, ConnectorOffset, SinkCommitStatus};
pub(crate) use content::ManifestContent;
pub use difference::StateDifference;
pub use key_group_range::KeyGroupRange;
pub use name::Name;
pub(crate) use operator::DigestHasher;
pub use operator::{Artifact, Digest, OperatorState, PartitionState};
pub use origin::Lender;
pub(crate) use origin::{DataFile, FileOrigin, Lent, Origins};
pub use states::{StateName, StateRef};
pub(crate) use update::Changed;
pub use update::ManifestChanges;

use crate::{
    handle::StateHandle,
    id::{CheckpointId, StoreId},
    ordered::OrdMap,
};

/// The content of one checkpoint: its states, and what the engine remembers with them.
///
/// It is a value. One that was read from a store was checked as a whole before; one that is to be saved by its id comes
/// from [`ManifestBuilder::build`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) store: StoreId,
    pub(crate) id: CheckpointId,
    pub(crate) generation: u64,
    /// Of those data files that were not written under their own names.
    pub(crate) origins: Origins,
    pub(crate) content: ManifestContent,
}

impl Manifest {
    /// An empty content to fill.
    #[must_use]
    pub fn builder() -> ManifestBuilder {
        ManifestBuilder::default()
    }

    /// A content that begins as that of an earlier checkpoint: what is not changed is kept, without being named again. Epoch,
    /// time, kind and parent are those of one checkpoint alone and begin anew.
    ///
    /// This is how an engine takes checkpoints of which little has changed: committing one takes as long as its changes, and
    /// not as all that it holds. The earlier checkpoint is mostly the newest one; it can be any that is there. Keep it open until
    /// the commit, or it may be pruned meanwhile, and the commit says `is_not_found`.
    ///
    /// The commit may copy kept states out of files that hold too little
    /// ([`Options::max_space_amplification`](crate::Options::max_space_amplification)): the new checkpoint's manifest has
    /// their handles. A state that is named here stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, Scope};
    ///
    /// let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// let (a, b) = (pending.write(Scope::Shared, &[1; 500])?, pending.write(Scope::Shared, &[2; 500])?);
    /// let first = pending.commit(Manifest::builder().state("a", a).state("b", b))?;
    ///
    /// let pending = store.begin_next()?;
    /// let c = pending.write(Scope::Shared, &[3; 500])?;
    /// let second = pending.commit(Manifest::based_on(first.manifest()).state("c", c).remove_state("a"))?;
    /// let names: Vec<_> = second.manifest().states().map(|(name, _)| name).collect();
    /// assert_eq!(names, ["b", "c"]);
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn based_on(earlier: &Self) -> ManifestBuilder {
        let (kind, content) = (CheckpointKind::default(), earlier.content.clone());
        let content = ManifestContent { epoch: None, timestamp_ms: 0, kind, parent: None, ..content };
        ManifestBuilder::based_on(earlier.id, content)
    }

    /// The id of the checkpoint.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// The generation of the store that published it: how many times the store had been opened for writing. 0 if it was
    /// not published.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The engine's own count of checkpoints; the id if the engine gave none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.content.epoch.unwrap_or(self.id.get())
    }

    /// The time that the engine gave, in milliseconds since 1970; 0 if it gave none.
    #[must_use]
    pub fn timestamp_ms(&self) -> u64 {
        self.content.timestamp_ms
    }

    /// Whether it was taken for recovery, or because somebody asked for it.
    #[must_use]
    pub fn kind(&self) -> CheckpointKind {
        self.content.kind
    }

    /// The checkpoint that this one is an increment of.
    #[must_use]
    pub fn parent(&self) -> Option<CheckpointId> {
        self.content.parent
    }

    /// How many virtual nodes the keys are spread over. If the engine gave none, that of the store once it is saved, and 256
    /// before.
    #[must_use]
    pub fn vnode_count(&self) -> u16 {
        self.content.vnode_count.unwrap_or(DEFAULT_VNODE_COUNT)
    }

    /// The named state of this name.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<&StateHandle> {
        self.content.states.get(name)
    }

    /// The named states, in the order of their names' bytes.
    #[must_use]
    pub fn states(&self) -> impl ExactSizeIterator<Item = (&str, &StateHandle)> {
        self.content.states.iter().map(|(name, handle)| (&**name, handle))
    }

    /// The named states whose names begin with this, in the order of their names' bytes.
    pub fn states_with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &StateHandle)> {
        let from = self.content.states.range_from(prefix).map(|(name, handle)| (&**name, handle));
        from.take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// Every state: named ones, those of operators, the sidecar.
    pub fn all_states(&self) -> impl Iterator<Item = StateRef<'_>> {
        self.content.all_states()
    }

    /// The operator of this name.
    #[must_use]
    pub fn operator(&self, name: &str) -> Option<&OperatorState> {
        self.content.operators.get(name).map(|operator| &**operator)
    }

    /// All operators, by name.
    #[must_use]
    pub fn operators(&self) -> &OrdMap<Name, Arc<OperatorState>> {
        &self.content.operators
    }

    /// The one state beside the manifest that has no name.
    #[must_use]
    pub fn sidecar(&self) -> Option<&StateHandle> {
        self.content.sidecar.as_ref()
    }

    /// How far each source was read.
    #[must_use]
    pub fn source_offsets(&self) -> &OrdMap<Name, Arc<ConnectorOffset>> {
        &self.content.source_offsets
    }

    /// How far each table was read.
    #[must_use]
    pub fn table_offsets(&self) -> &OrdMap<Name, Arc<ConnectorOffset>> {
        &self.content.table_offsets
    }

    /// The epoch of each sink.
    #[must_use]
    pub fn sink_epochs(&self) -> &OrdMap<Name, u64> {
        &self.content.sink_epochs
    }

    /// What became of each sink's part.
    #[must_use]
    pub fn sink_status(&self) -> &OrdMap<Name, SinkCommitStatus> {
        &self.content.sink_status
    }

    /// The watermark of the whole, in milliseconds since 1970 of event time.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        self.content.watermark_ms
    }

    /// The watermark of each source, in milliseconds since 1970 of event time.
    #[must_use]
    pub fn source_watermarks_ms(&self) -> &OrdMap<Name, i64> {
        &self.content.source_watermarks_ms
    }

    /// The sources that the pipeline had, in the order of their names' bytes.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.content.source_names.keys().map(|name| &**name)
    }

    /// The sinks that the pipeline had, in the order of their names' bytes.
    pub fn sink_names(&self) -> impl Iterator<Item = &str> {
        self.content.sink_names.keys().map(|name| &**name)
    }

    /// What tells one pipeline from another.
    #[must_use]
    pub fn pipeline_hash(&self) -> Option<u64> {
        self.content.pipeline_hash
    }

    /// The engine's own bytes under this name.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.content.metadata.get(name).map(|bytes| &**bytes)
    }

    /// All of the engine's own bytes, in the order of their names' bytes.
    pub fn all_metadata(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.content.metadata.iter().map(|(name, bytes)| (&**name, &**bytes))
    }

    /// The same with another status of a sink: for [`Store::update_manifest`](crate::Store::update_manifest).
    #[must_use]
    pub fn with_sink_status(mut self, sink: impl Into<Name>, status: SinkCommitStatus) -> Self {
        self.content.sink_status.insert(sink.into(), status);
        self
    }

    /// The same with other bytes under a name, or without them: for
    /// [`Store::update_manifest`](crate::Store::update_manifest).
    #[must_use]
    pub fn with_metadata(mut self, name: impl Into<Name>, bytes: Option<Vec<u8>>) -> Self {
        let name = name.into();
        match bytes {
            Some(bytes) => drop(self.content.metadata.insert(name, bytes.into())),
            None => drop(self.content.metadata.remove(&name)),
        }
        self
    }
}

/// How many virtual nodes there are if nobody says otherwise.
pub(crate) const DEFAULT_VNODE_COUNT: u16 = 256;
