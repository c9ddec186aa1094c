//! The interfaces that an engine programs against, and that other stores may implement: blocking, and usable as `dyn`.
//!
//! | trait | is |
//! |---|---|
//! | [`CheckpointStore`] | manifests with an optional sidecar, by id: save, find, check, keep, throw away |
//! | [`Checkpointer`] | snapshots and deltas of partitions of operators, by id and path |
//!
//! [`Store`](crate::Store) implements both, over the same checkpoints: what one saves the other finds. Whether an
//! implementation keeps the promises, the module `testing` (feature `testing`) can tell.

mod artifact_path;
mod checkpoint_store;
mod checkpointer;

pub use artifact_path::{ArtifactPath, ArtifactRole};
pub use checkpoint_store::CheckpointStore;
pub use checkpointer::Checkpointer;
