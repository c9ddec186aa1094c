//! What an engine puts into a checkpoint.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Artifact, CheckpointKind, ConnectorOffset, Manifest, ManifestContent, Name, OperatorState, Origins, PartitionState,
    SinkCommitStatus,
};
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
#[derive(Clone, Debug, Default)]
pub struct ManifestBuilder {
    pub(crate) content: ManifestContent,
    /// The content that it began with, if it did not begin with nothing.
    pub(crate) base: Option<ManifestContent>,
    /// The checkpoint that has that content.
    pub(crate) base_id: Option<CheckpointId>,
    /// Partitions that only got deltas, by operator and number: what else they have was not named here.
    pub(crate) extended: BTreeSet<(Name, u32)>,
}

impl From<ManifestContent> for ManifestBuilder {
    /// Everything in it as if it was named here.
    fn from(content: ManifestContent) -> Self {
        Self { content, ..Self::default() }
    }
}

impl ManifestBuilder {
    /// Begins as the content of this checkpoint.
    pub(super) fn based_on(id: CheckpointId, content: ManifestContent) -> Self {
        Self { base: Some(content.clone()), content, base_id: Some(id), extended: BTreeSet::new() }
    }

    /// Whether a state was put under this name here, and is not one that the builder began with.
    pub(crate) fn has_named(&self, name: &str) -> bool {
        let state = self.content.states.get(name);
        state.is_some() && state != self.base.as_ref().and_then(|base| base.states.get(name))
    }

    /// A manifest of this content that is not published yet: for the verbs that address a checkpoint by its id.
    #[must_use]
    pub fn build(self, id: CheckpointId) -> Manifest {
        Manifest { store: StoreId([0; 16]), id, generation: 0, origins: Origins::new(), content: self.content }
    }

    /// The engine's own count of checkpoints, above 0; the id by default.
    #[must_use]
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.content.epoch = Some(epoch);
        self
    }

    /// The time of the checkpoint, in milliseconds since 1970. The store reads no clock of its own.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: u64) -> Self {
        self.content.timestamp_ms = timestamp_ms;
        self
    }

    /// Whether it is taken for recovery, which is the default, or because somebody asked for it.
    #[must_use]
    pub fn kind(mut self, kind: CheckpointKind) -> Self {
        self.content.kind = kind;
        self
    }

    /// The checkpoint that this one is an increment of. It is a note: nothing is kept alive by it.
    #[must_use]
    pub fn parent(mut self, parent: CheckpointId) -> Self {
        self.content.parent = Some(parent);
        self
    }

    /// How many virtual nodes the keys are spread over; by default what the store was opened with
    /// ([`Options::vnode_count`](crate::Options::vnode_count)).
    #[must_use]
    pub fn vnode_count(mut self, vnode_count: u16) -> Self {
        self.content.vnode_count = Some(vnode_count);
        self
    }

    /// Adds a state under a name; a second one of the same name replaces the first.
    ///
    /// To put a state into the manifest is to refer to it: the checkpoint keeps it alive until it is forgotten.
    #[must_use]
    pub fn state(mut self, name: impl Into<Name>, handle: StateHandle) -> Self {
        let name = name.into();
        // What the engine names it may go on to name: it is not to be moved.
        if let Some(base) = self.base.as_mut().filter(|base| base.states.get(&*name) == Some(&handle)) {
            base.states.remove(&*name);
        }
        self.content.states.insert(name, handle);
        self
    }

    /// Adds the states of an operator; a second operator of the same name replaces the first.
    #[must_use]
    pub fn operator(mut self, name: impl Into<Name>, operator: impl Into<Arc<OperatorState>>) -> Self {
        let name = name.into();
        if let Some(base) = &mut self.base {
            base.operators.remove(&*name);
        }
        self.content.operators.insert(name, operator.into());
        self
    }

    /// Takes out the state of this name, if there is one.
    #[must_use]
    pub fn remove_state(mut self, name: &str) -> Self {
        self.content.states.remove(name);
        self
    }

    /// Adds the states of one partition of an operator, which is added if it is not there; a second partition of the same
    /// number replaces the first.
    #[must_use]
    pub fn partition(
        mut self,
        operator: impl Into<Name>,
        number: u32,
        partition: impl Into<Arc<PartitionState>>,
    ) -> Self {
        let (name, partition) = (operator.into(), partition.into());
        let known = self.base.as_mut().and_then(|base| base.operators.get_mut(&*name)).map(Arc::make_mut);
        if let Some(known) = known.filter(|known| known.partitions.get(&number) == Some(&partition)) {
            known.partitions.remove(&number);
        }
        if !self.extended.is_empty() {
            self.extended.remove(&(name.clone(), number));
        }
        let mut operator =
            self.content.operators.get(&*name).map_or_else(OperatorState::default, |operator| (**operator).clone());
        operator.partitions.insert(number, partition);
        self.content.operators.insert(name, Arc::new(operator));
        self
    }

    /// Adds a delta to one partition of an operator, behind those that it has. The operator and the partition are added if
    /// they are not there.
    #[must_use]
    pub fn delta(mut self, operator: impl Into<Name>, number: u32, delta: impl Into<Artifact>) -> Self {
        let key = (operator.into(), number);
        let of = |content: &ManifestContent| content.operators.get(&*key.0)?.partitions.get(&number).cloned();
        let (known, there) = (self.base.as_ref().and_then(of), of(&self.content));
        let is_kept = there.is_some() && known == there || self.extended.contains(&key);
        let mut partition = there.unwrap_or_default();
        Arc::make_mut(&mut partition).deltas.push(delta.into());
        self = self.partition(key.0.clone(), number, partition);
        if is_kept {
            self.extended.insert(key);
        }
        self
    }

    /// Takes out the operator of this name with all of its partitions, if there is one.
    #[must_use]
    pub fn remove_operator(mut self, name: &str) -> Self {
        self.content.operators.remove(name);
        self.extended.retain(|(operator, _)| operator != name);
        self
    }

    /// Takes out one partition of an operator, if it is there.
    #[must_use]
    pub fn remove_partition(mut self, operator: &str, number: u32) -> Self {
        if let Some(operator) = self.content.operators.get_mut(operator) {
            Arc::make_mut(operator).partitions.remove(&number);
        }
        self.extended.retain(|(name, partition)| (&**name, *partition) != (operator, number));
        self
    }

    /// Takes out the state that has no name.
    #[must_use]
    pub fn remove_sidecar(mut self) -> Self {
        self.content.sidecar = None;
        self
    }

    /// The one state beside the manifest that has no name.
    #[must_use]
    pub fn sidecar(mut self, handle: StateHandle) -> Self {
        // As with a state: what is named here is not to be moved.
        if let Some(base) = &mut self.base {
            base.sidecar = None;
        }
        self.content.sidecar = Some(handle);
        self
    }

    /// How far a source was read.
    #[must_use]
    pub fn source_offset(mut self, source: impl Into<Name>, offset: impl Into<Arc<ConnectorOffset>>) -> Self {
        self.content.source_offsets.insert(source.into(), offset.into());
        self
    }

    /// Takes out how far a source was read.
    #[must_use]
    pub fn remove_source_offset(mut self, name: &str) -> Self {
        self.content.source_offsets.remove(name);
        self
    }

    /// How far a table was read.
    #[must_use]
    pub fn table_offset(mut self, table: impl Into<Name>, offset: impl Into<Arc<ConnectorOffset>>) -> Self {
        self.content.table_offsets.insert(table.into(), offset.into());
        self
    }

    /// Takes out how far a table was read.
    #[must_use]
    pub fn remove_table_offset(mut self, name: &str) -> Self {
        self.content.table_offsets.remove(name);
        self
    }

    /// The epoch of a sink.
    #[must_use]
    pub fn sink_epoch(mut self, sink: impl Into<Name>, epoch: u64) -> Self {
        self.content.sink_epochs.insert(sink.into(), epoch);
        self
    }

    /// Takes out the epoch of a sink.
    #[must_use]
    pub fn remove_sink_epoch(mut self, name: &str) -> Self {
        self.content.sink_epochs.remove(name);
        self
    }

    /// What became of a sink's part. [`Store::update_manifest`](crate::Store::update_manifest) may change it later.
    #[must_use]
    pub fn sink_status(mut self, sink: impl Into<Name>, status: SinkCommitStatus) -> Self {
        self.content.sink_status.insert(sink.into(), status);
        self
    }

    /// Takes out what became of a sink's part.
    #[must_use]
    pub fn remove_sink_status(mut self, name: &str) -> Self {
        self.content.sink_status.remove(name);
        self
    }

    /// The watermark of the whole, in milliseconds since 1970 of event time.
    #[must_use]
    pub fn watermark_ms(mut self, watermark_ms: i64) -> Self {
        self.content.watermark_ms = Some(watermark_ms);
        self
    }

    /// The watermark of a source, in milliseconds since 1970 of event time.
    #[must_use]
    pub fn source_watermark_ms(mut self, source: impl Into<Name>, watermark_ms: i64) -> Self {
        self.content.source_watermarks_ms.insert(source.into(), watermark_ms);
        self
    }

    /// Takes out the watermark of a source.
    #[must_use]
    pub fn remove_source_watermark(mut self, name: &str) -> Self {
        self.content.source_watermarks_ms.remove(name);
        self
    }

    /// A source that the pipeline has.
    #[must_use]
    pub fn source(mut self, name: impl Into<Name>) -> Self {
        self.content.source_names.insert(name.into(), ());
        self
    }

    /// The pipeline has this source no more.
    #[must_use]
    pub fn remove_source(mut self, name: &str) -> Self {
        self.content.source_names.remove(name);
        self
    }

    /// A sink that the pipeline has.
    #[must_use]
    pub fn sink(mut self, name: impl Into<Name>) -> Self {
        self.content.sink_names.insert(name.into(), ());
        self
    }

    /// The pipeline has this sink no more.
    #[must_use]
    pub fn remove_sink(mut self, name: &str) -> Self {
        self.content.sink_names.remove(name);
        self
    }

    /// What tells this pipeline from another.
    #[must_use]
    pub fn pipeline_hash(mut self, hash: u64) -> Self {
        self.content.pipeline_hash = Some(hash);
        self
    }

    /// Adds bytes of the engine's own under a name. They are in memory and in the manifest: keep them small.
    /// [`Store::update_manifest`](crate::Store::update_manifest) may change them later.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<Name>, bytes: impl AsRef<[u8]>) -> Self {
        self.content.metadata.insert(name.into(), bytes.as_ref().into());
        self
    }

    /// Takes out the engine's own bytes under this name.
    #[must_use]
    pub fn remove_metadata(mut self, name: &str) -> Self {
        self.content.metadata.remove(name);
        self
    }
}
