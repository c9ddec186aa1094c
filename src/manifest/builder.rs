//! What an engine puts into a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use super::{CheckpointKind, ConnectorOffset, Manifest, OperatorState, Origins, SinkCommitStatus};
use crate::{
    handle::StateHandle,
    id::{CheckpointId, StoreId},
};

/// What an engine puts into a checkpoint, handed to [`PendingCheckpoint::commit`](crate::PendingCheckpoint::commit), or
/// with an id to [`CheckpointStore::save`](crate::contract::CheckpointStore::save).
///
/// Everything is optional, and every map is sorted: equal contents have equal bytes. Names are data, not file names: any
/// text will do.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
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
    pub(crate) epoch: Option<u64>,
    pub(crate) timestamp_ms: u64,
    pub(crate) kind: CheckpointKind,
    pub(crate) parent: Option<CheckpointId>,
    pub(crate) vnode_count: Option<u16>,
    pub(crate) states: BTreeMap<String, StateHandle>,
    pub(crate) operators: BTreeMap<String, OperatorState>,
    pub(crate) sidecar: Option<StateHandle>,
    pub(crate) source_offsets: BTreeMap<String, ConnectorOffset>,
    pub(crate) table_offsets: BTreeMap<String, ConnectorOffset>,
    pub(crate) sink_epochs: BTreeMap<String, u64>,
    pub(crate) sink_status: BTreeMap<String, SinkCommitStatus>,
    pub(crate) watermark_ms: Option<i64>,
    pub(crate) source_watermarks_ms: BTreeMap<String, i64>,
    pub(crate) source_names: BTreeSet<String>,
    pub(crate) sink_names: BTreeSet<String>,
    pub(crate) pipeline_hash: Option<u64>,
    pub(crate) metadata: BTreeMap<String, Vec<u8>>,
}

impl ManifestBuilder {
    /// A manifest of this content that is not published yet: for the verbs that address a checkpoint by its id.
    #[must_use]
    pub fn build(self, id: CheckpointId) -> Manifest {
        Manifest { store: StoreId([0; 16]), id, generation: 0, origins: Origins::new(), content: self }
    }

    /// The engine's own count of checkpoints, above 0; the id by default.
    #[must_use]
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// The time of the checkpoint, in milliseconds since 1970. The store reads no clock of its own.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: u64) -> Self {
        self.timestamp_ms = timestamp_ms;
        self
    }

    /// Whether it is taken for recovery, which is the default, or because somebody asked for it.
    #[must_use]
    pub fn kind(mut self, kind: CheckpointKind) -> Self {
        self.kind = kind;
        self
    }

    /// The checkpoint that this one is an increment of. It is a note: nothing is kept alive by it.
    #[must_use]
    pub fn parent(mut self, parent: CheckpointId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// How many virtual nodes the keys are spread over; by default what the store was opened with
    /// ([`Options::vnode_count`](crate::Options::vnode_count)).
    #[must_use]
    pub fn vnode_count(mut self, vnode_count: u16) -> Self {
        self.vnode_count = Some(vnode_count);
        self
    }

    /// Adds a state under a name; a second one of the same name replaces the first.
    ///
    /// To put a state into the manifest is to refer to it: the checkpoint keeps it alive until it is forgotten.
    #[must_use]
    pub fn state(mut self, name: impl Into<String>, handle: StateHandle) -> Self {
        self.states.insert(name.into(), handle);
        self
    }

    /// Adds the states of an operator; a second operator of the same name replaces the first.
    #[must_use]
    pub fn operator(mut self, name: impl Into<String>, operator: OperatorState) -> Self {
        self.operators.insert(name.into(), operator);
        self
    }

    /// The one state beside the manifest that has no name.
    #[must_use]
    pub fn sidecar(mut self, handle: StateHandle) -> Self {
        self.sidecar = Some(handle);
        self
    }

    /// How far a source was read.
    #[must_use]
    pub fn source_offset(mut self, source: impl Into<String>, offset: ConnectorOffset) -> Self {
        self.source_offsets.insert(source.into(), offset);
        self
    }

    /// How far a table was read.
    #[must_use]
    pub fn table_offset(mut self, table: impl Into<String>, offset: ConnectorOffset) -> Self {
        self.table_offsets.insert(table.into(), offset);
        self
    }

    /// The epoch of a sink.
    #[must_use]
    pub fn sink_epoch(mut self, sink: impl Into<String>, epoch: u64) -> Self {
        self.sink_epochs.insert(sink.into(), epoch);
        self
    }

    /// What became of a sink's part. [`Store::update_manifest`](crate::Store::update_manifest) may change it later.
    #[must_use]
    pub fn sink_status(mut self, sink: impl Into<String>, status: SinkCommitStatus) -> Self {
        self.sink_status.insert(sink.into(), status);
        self
    }

    /// The watermark of the whole, in milliseconds since 1970 of event time.
    #[must_use]
    pub fn watermark_ms(mut self, watermark_ms: i64) -> Self {
        self.watermark_ms = Some(watermark_ms);
        self
    }

    /// The watermark of a source, in milliseconds since 1970 of event time.
    #[must_use]
    pub fn source_watermark_ms(mut self, source: impl Into<String>, watermark_ms: i64) -> Self {
        self.source_watermarks_ms.insert(source.into(), watermark_ms);
        self
    }

    /// A source that the pipeline has.
    #[must_use]
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source_names.insert(name.into());
        self
    }

    /// A sink that the pipeline has.
    #[must_use]
    pub fn sink(mut self, name: impl Into<String>) -> Self {
        self.sink_names.insert(name.into());
        self
    }

    /// What tells this pipeline from another.
    #[must_use]
    pub fn pipeline_hash(mut self, hash: u64) -> Self {
        self.pipeline_hash = Some(hash);
        self
    }

    /// Adds bytes of the engine's own under a name. They are in memory and in the manifest: keep them small.
    /// [`Store::update_manifest`](crate::Store::update_manifest) may change them later.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.metadata.insert(name.into(), bytes.into());
        self
    }
}
