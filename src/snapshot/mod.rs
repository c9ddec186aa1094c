//! Running snapshots: a short phase on the engine's thread, a long one on whichever thread the engine gives it to.
//!
//! # Who owns what
//!
//! A [`SnapshotRunner`] has a [strategy](crate::contract::SnapshotStrategy), and makes a [`SnapshotTask`] of each snapshot:
//! the second phase that is still to be run, with everything that it needs. The engine owns the task, and runs it where it
//! likes, once; it may keep a [`SnapshotCanceller`]. No thread is started here. The resources of the first phase belong to
//! the job of the task, which is a value that exactly one of run, cancel, and drop gets (`turn`); whoever has it releases
//! the resources by dropping it, on whatever path, a panic included.
//!
//! # One snapshot, step by step
//!
//! 1. `sync_prepare_resources` on the engine's thread. A failure leaves nothing; from here on the resources are in a guard
//!    that releases them when it is dropped;
//! 2. `async_snapshot` on the engine's thread, with streams that the task can cancel. A failure releases the resources;
//! 3. the task is run, on any thread, or directly, with [`ExecutionKind::Synchronous`]. Whoever comes first, run or cancel,
//!    takes the job;
//! 4. the job writes. A cancel from now on makes its streams fail at their next call, and the job ends by itself;
//! 5. the result is told to the observer, then the resources are released, then the task is over: from here on
//!    a cancel is too late. If one was not, the task ends as cancelled. A result that nobody gets is discarded.
//!
//! Nothing of this is durable: what was written becomes so with the checkpoint, and a crash leaves what a crash of a pending
//! checkpoint leaves. States of a snapshot that came to nothing are dead bytes that go with the pending checkpoint.
//!
//! # On a thread-per-core engine
//!
//! The core does the first phase, and hands the task to a helper thread through whatever queue it has; the result comes
//! back through another. It waits for no disk, if it leaves the commit, which syncs, to a helper as well:
//!
//! ```
//! use std::{sync::{Arc, mpsc}, thread};
//! use piton::{
//!     CheckpointId, CheckpointKind, Error, Manifest, Options, Result, Scope, StateHandle,
//!     contract::{CheckpointOptions, CheckpointStreamFactory, SnapshotResult, SnapshotStrategy, SnapshotSupplier},
//!     snapshot::{ExecutionKind, SnapshotRunner, SnapshotTask},
//! };
//!
//! struct Window(Vec<u8>);
//!
//! impl SnapshotStrategy for Window {
//!     type Resources = Vec<u8>;
//!     type State = StateHandle;
//!
//!     fn sync_prepare_resources(&self, _: CheckpointId) -> Result<Vec<u8>> {
//!         Ok(self.0.clone())
//!     }
//!
//!     fn async_snapshot(
//!         &self, _: &Vec<u8>, _: CheckpointId, _: u64, _: &dyn CheckpointStreamFactory, _: &CheckpointOptions,
//!     ) -> Result<SnapshotSupplier<Vec<u8>, StateHandle>> {
//!         Ok(Box::new(|copy, streams| Ok(SnapshotResult::stored(streams.write(Scope::Shared, copy)?))))
//!     }
//! }
//!
//! // Once: a helper thread that runs what it is given.
//! let (tasks, queue) = mpsc::channel::<SnapshotTask<StateHandle>>();
//! let (done, results) = mpsc::channel();
//! let helper = thread::spawn(move || queue.into_iter().for_each(|task| drop(done.send(task.run()))));
//!
//! // On the core, for each checkpoint:
//! let store = Options::memory().open("state")?;
//! let pending = store.begin_next()?;
//! let runner = SnapshotRunner::new(Arc::new(Window(vec![7; 5000])), ExecutionKind::Asynchronous);
//! let options = CheckpointOptions::aligned(CheckpointKind::Checkpoint);
//! let task = runner.snapshot(pending.id(), 1_700_000_000_000, Arc::new(pending.streams()), &options)?;
//! let canceller = task.canceller(); // should it take too long
//! tasks.send(task).unwrap();
//!
//! // ... and some records later, when it is there (`try_recv`):
//! let result = results.recv().unwrap()?;
//! assert!(!canceller.cancel(), "it was over already");
//! let manifest = Manifest::builder().state("window", result.state().unwrap().clone());
//! thread::spawn(move || pending.commit(manifest)).join().unwrap()?;
//! # drop(tasks);
//! # helper.join().unwrap();
//! # Ok::<(), Error>(())
//! ```

mod cancellable;
mod duplicating;
mod runner;
mod sync;
mod task;
mod turn;

pub use duplicating::{DuplicatedState, DuplicatingStream};
pub use runner::{ExecutionKind, SnapshotRunner};
pub use task::{SnapshotCanceller, SnapshotTask};
