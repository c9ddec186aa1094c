//! The interfaces that an engine programs against, and that others may implement: blocking, and usable as `dyn`.
//!
//! | trait | is |
//! |---|---|
//! | [`CheckpointStreamFactory`] | streams for the states of one checkpoint; [`CheckpointStream`] is one of them |
//! | [`SnapshotStrategy`] | how a part of an engine takes snapshots, in two phases; with [`SnapshotResources`], [`StateObject`] |
//! | [`CheckpointStorage`] | where checkpoints go, as a value of a configuration; and pointers to them |
//! | [`CheckpointStore`] | manifests with an optional sidecar, by id: save, find, check, keep, throw away |
//! | [`Checkpointer`] | snapshots and deltas of partitions of operators, by id and path |
//!
//! [`Store`](crate::Store) implements the last two, over the same checkpoints: what one saves the other finds. Whether an
//! implementation keeps the promises of these, the module `testing` (feature `testing`) can tell.
//! [`PendingCheckpoint`](crate::PendingCheckpoint) and [`CheckpointStreams`](crate::CheckpointStreams) implement the first.

mod artifact_path;
mod checkpoint_options;
mod checkpoint_store;
mod checkpointer;
mod pointer;
mod snapshot;
mod storage;
mod stream;

pub use artifact_path::{ArtifactPath, ArtifactRole};
pub use checkpoint_options::{Alignment, CheckpointOptions};
pub use checkpoint_store::CheckpointStore;
pub use checkpointer::Checkpointer;
pub use pointer::CheckpointPointer;
pub use snapshot::{SnapshotResources, SnapshotResult, SnapshotStrategy, SnapshotSupplier, StateObject};
pub use storage::{CheckpointStorage, CustomStorage, FilesystemStorage, MemoryStorage, Storage};
pub use stream::{CheckpointStream, CheckpointStreamFactory};
