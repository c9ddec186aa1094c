//! What a checkpoint remembers of the outside: how far sources were read, and what became of sinks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How far a source or a table was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorOffset {
    /// By whatever the connector counts in: partition, file, shard.
    pub offsets: BTreeMap<String, String>,
    /// The epoch that the offsets belong to.
    pub epoch: u64,
    /// The connector's own notes.
    pub metadata: BTreeMap<String, String>,
}

/// What became of a sink's part of a checkpoint. It may change after the checkpoint was committed: see
/// [`Store::update_manifest`](crate::Store::update_manifest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkCommitStatus {
    /// Written, and not yet committed by the sink.
    #[default]
    Pending,
    /// Committed by the sink.
    Committed,
    /// The sink refused, and why.
    Failed(String),
}

/// What kind of checkpoint it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// One of many, taken for recovery. Pruning and retention throw it away.
    #[default]
    Checkpoint,
    /// Taken because somebody asked for it. Pruning and retention leave it alone, and do not count it; forgetting it is
    /// the only way to be rid of it.
    Savepoint,
}
