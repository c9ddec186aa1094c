//! The way into a pending checkpoint for those who write its states.

use std::sync::Arc;

use super::{reuse, sequence::Publisher};
use crate::{
    accounts::Kind,
    error::Result,
    handle::StateHandle,
    id::{CheckpointId, Scope},
    write::{StateWriter, batch::Batch},
};

/// Writes states into a [`PendingCheckpoint`](crate::PendingCheckpoint) that somebody else commits or aborts: from
/// [`PendingCheckpoint::streams`](crate::PendingCheckpoint::streams), for tasks on other threads.
///
/// Cheap to clone. What it does is what [`CheckpointStreamFactory`](crate::contract::CheckpointStreamFactory) says; once
/// the pending checkpoint has ended, all that writes or keeps anything fails with `is_invalid`, and so do the streams that are
/// still open. Whoever commits waits until nobody writes any more: a stream that is open makes the commit fail.
///
/// Like a pending checkpoint it keeps the store open: another process, and this one, find it locked until the last one is
/// dropped.
#[derive(Clone, Debug)]
pub struct CheckpointStreams {
    pub(super) batch: Arc<Batch>,
    pub(super) publisher: Arc<Publisher>,
}

impl CheckpointStreams {
    pub(super) fn new(batch: Batch, publisher: Arc<Publisher>) -> Self {
        Self { batch: Arc::new(batch), publisher }
    }

    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The id that the checkpoint will have.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.batch.id()
    }

    /// Writes one state; its bytes are copied only where they have to be.
    pub(crate) fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        self.writer(scope)?.finish_with(bytes)
    }

    pub(crate) fn writer(&self, scope: Scope) -> Result<StateWriter> {
        StateWriter::new(&self.batch, scope, Kind::New)
    }

    pub(crate) fn reuse(&self, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
        let _verb = self.publisher.volume.observer().verb();
        reuse::reuse(&self.publisher, &self.batch, handles)
    }

    pub(crate) fn could_reuse(&self, handle: &StateHandle) -> bool {
        let registry = self.batch.hold().registry();
        let is_ours = handle.store().is_none_or(|store| store == self.publisher.journal.store());
        is_ours && self.batch.check_open().is_ok() && handle.extent().is_none_or(|extent| registry.could_reuse(&extent))
    }

    /// Whether what is written can still become part of the checkpoint, as far as is known.
    pub(crate) fn check_active(&self) -> Result<()> {
        self.batch.check_open()?;
        self.publisher.volume.check_writable("write a state in")
    }
}
