//! What a checkpoint consists of, whoever put it together.

use std::sync::Arc;

use super::{CheckpointKind, ConnectorOffset, Name, OperatorState, SinkCommitStatus};
use crate::{handle::StateHandle, id::CheckpointId, ordered::OrdMap};

/// The content of a manifest. A copy shares everything with the original.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestContent {
    pub(crate) epoch: Option<u64>,
    pub(crate) timestamp_ms: u64,
    pub(crate) kind: CheckpointKind,
    pub(crate) parent: Option<CheckpointId>,
    pub(crate) vnode_count: Option<u16>,
    pub(crate) states: OrdMap<Name, StateHandle>,
    pub(crate) operators: OrdMap<Name, Arc<OperatorState>>,
    pub(crate) sidecar: Option<StateHandle>,
    pub(crate) source_offsets: OrdMap<Name, Arc<ConnectorOffset>>,
    pub(crate) table_offsets: OrdMap<Name, Arc<ConnectorOffset>>,
    pub(crate) sink_epochs: OrdMap<Name, u64>,
    pub(crate) sink_status: OrdMap<Name, SinkCommitStatus>,
    pub(crate) watermark_ms: Option<i64>,
    pub(crate) source_watermarks_ms: OrdMap<Name, i64>,
    pub(crate) source_names: OrdMap<Name, ()>,
    pub(crate) sink_names: OrdMap<Name, ()>,
    pub(crate) pipeline_hash: Option<u64>,
    pub(crate) metadata: OrdMap<Name, Arc<[u8]>>,
}
