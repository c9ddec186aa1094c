//! `piton` is a blocking, thread-safe, filesystem-only checkpoint store.
//!
//! An engine (stream processor, dataflow worker, simulator, trainer) holds state in memory and must come back to it
//! after a crash. Every so often it takes a *checkpoint*: many states, written by many threads, that become visible all
//! or none, survive power loss, share what did not change with earlier checkpoints, are read back through mmap, and are
//! thrown away when nobody needs them. No async runtime, no thread behind your back, no global state.
//!
//! | to | use |
//! |---|---|
//! | open a store | [`Store::open`], [`Options`] |
//! | write a checkpoint | [`Store::begin`], [`PendingCheckpoint`], [`StateWriter`], [`Manifest::builder`] |
//! | share what did not change | [`Manifest::based_on`], [`PendingCheckpoint::reuse`] |
//! | come back to it | [`Store::latest`], [`Checkpoint`], [`StateView`], [`StateReader`] |
//! | rescale an operator without writing its state anew | [`KeyGroupWriter`], [`KeyGroupRange`], [`Checkpoint::key_groups`] |
//! | come back to an older one | [`Store::rollback_to`] |
//! | know whether it is whole | [`Store::validate`], [`Store::recover_latest_validated`] |
//! | keep it, change what may change of it | [`Store::pin`], [`CheckpointKind::Savepoint`], [`Store::update_manifest`] |
//! | throw it away | [`Store::prune`], [`Store::forget`], [`Options::retain`], [`Options::retain_for`] |
//! | give a checkpoint states of its own with the bytes of others | [`PendingCheckpoint::duplicate`] |
//! | take it elsewhere as a store of its own, and bring it back | [`Store::export`], [`Store::import`], [`Claim`] |
//! | read it in another process | [`Options::open_read_only`], [`ReadOnlyStore`] |
//! | let other processes write into it | [`Store::admit`], [`Options::join`], [`Member`], [`PendingCheckpoint::accept`] |
//! | snapshot state in two phases, the long one on another thread | [`snapshot`], [`contract::SnapshotStrategy`], [`PendingCheckpoint::streams`] |
//! | decide when to take checkpoints, and when to give up | [`policy`]: [`policy::CheckpointConfig`], [`policy::Coordinator`] |
//! | say in a configuration where they go, and point to one | [`contract::CheckpointStorage`], [`contract::CheckpointPointer`] |
//! | end a job, and keep what its configuration says | [`Store::end_job`] |
//! | address checkpoints and artifacts by id | [`contract::CheckpointStore`], [`contract::Checkpointer`] |
//! | see what it takes, and when space is given back | [`Store::usage`], [`Store::maintain`], [`Options::max_space_amplification`] |
//! | look into a data file without any manifest | [`list_segment`] |
//! | use another kind of storage | [`disk::Disk`] |
//! | test an engine against power cuts | `piton::testing` (feature `testing`) |
//!
//! # Examples
//!
//! ```
//! use piton::{Manifest, Scope, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let store = Store::open(path)?;
//!
//! // First checkpoint: two states.
//! let pending = store.begin_next()?;
//! let counts = pending.write(Scope::Shared, &[0; 4096])?;
//! let offsets = pending.write(Scope::Exclusive, b"file 7, byte 1234")?;
//! let first = pending.commit(Manifest::builder().state("counts", counts).state("offsets", offsets))?;
//!
//! // Second: the counts did not change, and are kept.
//! let pending = store.begin_next()?;
//! let offsets = pending.write(Scope::Exclusive, b"file 8, byte 0")?;
//! pending.commit(Manifest::based_on(first.manifest()).state("offsets", offsets))?;
//! drop(first);
//! let _freed = store.prune(1)?;
//!
//! // After a crash:
//! let checkpoint = store.latest()?.expect("a checkpoint was committed");
//! for (name, handle) in checkpoint.manifest().states() {
//!     let bytes = checkpoint.read(handle)?; // mapped and verified
//!     assert_eq!(bytes.len() as u64, handle.len(), "{name}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(unix))]
compile_error!("piton needs a Unix: it relies on directory syncs, positioned reads and flock");

mod accounts;
mod check;
mod commit;
pub mod contract;
pub mod disk;
mod error;
mod fault;
mod format;
mod handle;
mod id;
pub mod inspect;
mod join;
mod manifest;
pub mod observe;
mod options;
mod ordered;
mod outcome;
mod part;
pub mod policy;
mod read;
mod read_only;
mod reclaim;
mod records;
mod recover;
mod report;
pub mod snapshot;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod write;

pub use check::{Issue, RecoveryReport, Severity, Skipped, Validation, ValidationReport};
pub use commit::{CheckpointStreams, CommitError, PendingCheckpoint};
pub use disk::link::Way;
pub use error::{Error, Result};
pub use fault::{PartFault, PointerFault};
pub use handle::StateHandle;
pub use id::{CheckpointId, Scope, StoreId};
pub use join::{Member, PendingPart};
pub use manifest::{
    Artifact, CheckpointKind, ConnectorOffset, Digest, KeyGroupRange, Lender, Manifest, ManifestBuilder,
    ManifestChanges, Name, OperatorState, PartitionState, SinkCommitStatus, StateDifference, StateName, StateRef,
};
pub use options::{Durability, Maintenance, Merging, Options, Verify};
pub use ordered::{Iter as OrdMapIter, OrdMap};
pub use outcome::{ExternalizedCheckpointCleanup, JobOutcome};
pub use part::{Membership, Part, Worn};
pub use read::{Checkpoint, KeyGroup, KeyGroups, StateReader, StateView, Views};
pub use read_only::ReadOnlyStore;
pub use reclaim::{forget::Reclaimed, sweep::Maintained};
pub use recover::{OpenReport, Orphans, SegmentEntry, list_segment};
pub use report::Usage;
pub use store::Store;
pub use transfer::{Capabilities, Claim, Exported, Imported, Transferred};
pub use write::{KeyGroupWriter, StateWriter};

/// The code of the README runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// And so does that of the page for engines.
#[cfg(doctest)]
#[doc = include_str!("../docs/engines.md")]
struct Engines;
