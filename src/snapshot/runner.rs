//! From a strategy to a task.

use std::{fmt, sync::Arc};

use super::{
    cancellable::CancellableStreams,
    task::{Made, SnapshotTask},
    turn::Progress,
};
use crate::{
    contract::{
        CheckpointOptions, CheckpointStreamFactory, SnapshotResources, SnapshotStrategy, SnapshotSupplier, StateObject,
    },
    error::Result,
    id::CheckpointId,
    observe::{Event, Observer},
};

/// When the second phase of a snapshot is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutionKind {
    /// When the engine runs the task.
    #[default]
    Asynchronous,
    /// Before [`SnapshotRunner::snapshot`] returns, on its thread; what came of it is still the task that tells. Nobody can cancel
    /// it then.
    Synchronous,
}

/// Takes snapshots by a [strategy](SnapshotStrategy): does the first phase, and makes a [task](SnapshotTask) of the second.
/// The [page of this module](super) has an example.
pub struct SnapshotRunner<T: ?Sized> {
    strategy: Arc<T>,
    kind: ExecutionKind,
    observer: Observer,
}

/// The second phase. Dropped in this order: the supplier may have something that needs the resources.
struct Work<R: SnapshotResources, S: StateObject> {
    id: CheckpointId,
    supplier: SnapshotSupplier<R, S>,
    streams: CancellableStreams,
    resources: Held<R>,
    observer: Observer,
}

/// Resources that are released exactly once, whoever drops them.
struct Held<R: SnapshotResources>(R);

impl<R: SnapshotResources> Drop for Held<R> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<T: SnapshotStrategy + ?Sized> SnapshotRunner<T> {
    /// A runner for this strategy, which may be a `dyn`.
    #[must_use]
    pub fn new(strategy: Arc<T>, kind: ExecutionKind) -> Self {
        Self { strategy, kind, observer: Observer::default() }
    }

    /// Calls back with [`SnapshotPrepared`](Event::SnapshotPrepared) and [`SnapshotWritten`](Event::SnapshotWritten), on the
    /// thread that it happens on. What the streams of a store do meanwhile the observer of
    /// [that](crate::Options::observer) is told. A second observer is told after the first.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer.and_events_to(observer);
        self
    }

    /// Does the first phase, on this thread. `timestamp_ms` is the time of the checkpoint, in milliseconds since 1970, for
    /// the strategy; `streams` are mostly those of a [pending checkpoint](crate::PendingCheckpoint::streams).
    ///
    /// # Errors
    ///
    /// Whatever the strategy failed with in the first phase. Its resources are released.
    pub fn snapshot(
        &self,
        id: CheckpointId,
        timestamp_ms: u64,
        streams: Arc<dyn CheckpointStreamFactory>,
        options: &CheckpointOptions,
    ) -> Result<SnapshotTask<T::State>> {
        let resources = Held(self.strategy.sync_prepare_resources(id)?);
        self.observer.note(|| Event::SnapshotPrepared { checkpoint: id });
        let progress = Arc::new(Progress::new());
        let streams = CancellableStreams::new(id, streams, Arc::clone(&progress));
        let supplier = self.strategy.async_snapshot(&resources.0, id, timestamp_ms, &streams, options)?;
        let work = Work { id, supplier, streams, resources, observer: self.observer.clone() };
        let mut task = SnapshotTask::new(id, progress, Box::new(move || work.run()));
        if self.kind == ExecutionKind::Synchronous {
            task.run_now();
        }
        Ok(task)
    }
}

impl<R: SnapshotResources, S: StateObject> Work<R, S> {
    /// The resources are released on every way out, and on success after it was logged.
    fn run(mut self) -> Result<Made<S>> {
        let made = Made::new((self.supplier)(&mut self.resources.0, &self.streams)?);
        self.observer.note(|| Event::SnapshotWritten { checkpoint: self.id, bytes: made.size() });
        Ok(made)
    }
}

impl<T: ?Sized> Clone for SnapshotRunner<T> {
    fn clone(&self) -> Self {
        Self { strategy: Arc::clone(&self.strategy), kind: self.kind, observer: self.observer.clone() }
    }
}

impl<T: ?Sized> fmt::Debug for SnapshotRunner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotRunner").field("kind", &self.kind).finish_non_exhaustive()
    }
}
