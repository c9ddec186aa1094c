//! The second phase of a snapshot, still to be run.

use std::{fmt, sync::Arc};

use super::turn::{Progress, Turn};
use crate::{
    contract::{SnapshotResult, StateObject},
    error::{Error, Result},
    id::CheckpointId,
};

/// Writes a snapshot, with all that this needs. Dropped, it releases that.
pub(super) type Job<S> = Box<dyn FnOnce() -> Result<Made<S>> + Send>;

/// What a snapshot made, until somebody has it. Dropped before, it is discarded; nobody could be told that it could not be.
pub(super) struct Made<S: StateObject>(SnapshotResult<S>);

/// The second phase of a snapshot: [`run`](Self::run) it, on any thread. Dropped, it is cancelled, and what it made if it was
/// run already is discarded. Like the streams that it writes into it keeps the store open.
#[must_use = "a snapshot that is not run is cancelled"]
pub struct SnapshotTask<S: StateObject + 'static> {
    id: CheckpointId,
    turn: Arc<Turn<Job<S>>>,
    /// If it was run already.
    result: Option<Result<Made<S>>>,
}

/// Cancels a [`SnapshotTask`] from any thread. Cheap to clone; it keeps nothing of the snapshot.
#[derive(Clone)]
pub struct SnapshotCanceller {
    id: CheckpointId,
    task: Arc<dyn Cancel>,
}

trait Cancel: Send + Sync {
    fn cancel(&self) -> bool;
}

impl<J: Send> Cancel for Turn<J> {
    fn cancel(&self) -> bool {
        Turn::cancel(self)
    }
}

impl<S: StateObject> SnapshotTask<S> {
    pub(super) fn new(id: CheckpointId, progress: Arc<Progress>, job: Job<S>) -> Self {
        Self { id, turn: Arc::new(Turn::new(progress, job)), result: None }
    }

    /// The checkpoint that the snapshot is for.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.id
    }

    /// What cancels the task, wherever that is then.
    #[must_use]
    pub fn canceller(&self) -> SnapshotCanceller {
        SnapshotCanceller { id: self.id, task: Arc::clone(&self.turn) as Arc<dyn Cancel> }
    }

    /// Writes the snapshot, on this thread, and returns what it made. If it was run already, because that is how the
    /// [runner](super::SnapshotRunner) executes, returns what that made. A panic of the strategy comes through; the
    /// resources are released all the same.
    ///
    /// # Errors
    ///
    /// `is_cancelled` if it was cancelled, whatever else happened; what was written is discarded then, and the resources are
    /// released by whoever cancelled it, perhaps only just. Else whatever the strategy failed with.
    pub fn run(mut self) -> Result<SnapshotResult<S>> {
        self.run_now();
        self.result.take().unwrap_or_else(|| Err(cancelled(self.id))).map(Made::deliver)
    }

    /// The same, and keeps the result.
    pub(super) fn run_now(&mut self) {
        if let Some((made, was_cancelled)) = self.turn.run(|job| job()) {
            self.result = Some(if was_cancelled { Err(cancelled(self.id)) } else { made });
        }
    }
}

impl<S: StateObject> Made<S> {
    pub(super) fn new(result: SnapshotResult<S>) -> Self {
        Self(result)
    }

    pub(super) fn size(&self) -> u64 {
        self.0.size()
    }

    fn deliver(mut self) -> SnapshotResult<S> {
        std::mem::replace(&mut self.0, SnapshotResult::empty())
    }
}

impl<S: StateObject> Drop for Made<S> {
    fn drop(&mut self) {
        let _ = self.0.discard();
    }
}

pub(super) fn cancelled(id: CheckpointId) -> Error {
    Error::cancelled(format!("take a snapshot for checkpoint {id}"))
}

impl<S: StateObject> Drop for SnapshotTask<S> {
    /// Of one that is over this changes nothing.
    fn drop(&mut self) {
        self.turn.cancel();
    }
}

impl SnapshotCanceller {
    /// Cancels the task: one that was not run yet never will be, and its resources are released here; of one that is
    /// running every stream fails at its next call, and it ends as cancelled. This does not wait for that: whoever wants to
    /// commit the checkpoint without this snapshot waits until [`run`](SnapshotTask::run) has returned, because a stream that
    /// is still open makes the commit fail. False if the task was over already.
    #[expect(clippy::must_use_candidate, reason = "mostly nobody wants to know")]
    pub fn cancel(&self) -> bool {
        self.task.cancel()
    }

    /// The checkpoint that the snapshot is for.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.id
    }
}

impl<S: StateObject> fmt::Debug for SnapshotTask<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotTask(checkpoint {})", self.id)
    }
}

impl fmt::Debug for SnapshotCanceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotCanceller(checkpoint {})", self.id)
    }
}
