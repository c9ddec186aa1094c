//! The share of a member in a checkpoint, in the making.

use std::sync::Arc;

use super::member::Joined;
use crate::{
    accounts::Kind,
    error::Result,
    format::segment::entry_end,
    handle::StateHandle,
    id::{CheckpointId, FileId, Scope},
    manifest::ManifestChanges,
    part::Part,
    write::{StateWriter, batch::Batch},
};

/// The share of a [member](crate::Member) in a checkpoint: write states into it from any threads, then
/// [`prepare`](PendingPart::prepare) it.
///
/// Dropped before, it is abandoned, and data files that have nothing else are deleted. A part that was prepared, and that no
/// checkpoint accepts, keeps its files until the coordinator dismisses the member, until it
/// [cleans up](crate::Store::cleanup_orphans) after it has accepted a later part, or until the store is opened anew.
#[derive(Debug)]
pub struct PendingPart {
    batch: Arc<Batch>,
    member: Arc<Joined>,
    since: Option<CheckpointId>,
}

impl PendingPart {
    pub(super) fn new(batch: Batch, member: Arc<Joined>, since: Option<CheckpointId>) -> Self {
        Self { batch: Arc::new(batch), member, since }
    }

    /// The checkpoint that the part is for.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.batch.id()
    }

    /// A writer for one new state. Any number may be at work in any threads.
    ///
    /// # Errors
    ///
    /// `is_poisoned` if the process must join again.
    pub fn writer(&self, scope: Scope) -> Result<StateWriter> {
        StateWriter::new(&self.batch, scope, Kind::New)
    }

    /// Writes one state in one call. Durable with the part, or on return with `Durability::PerState`.
    ///
    /// # Errors
    ///
    /// Those of [`StateWriter::finish`].
    pub fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        self.writer(scope)?.finish_with(bytes)
    }

    /// Makes the states durable that the changes name, and makes a part of them for the coordinator to
    /// [accept](crate::PendingCheckpoint::accept).
    ///
    /// When it returns, the states of the part are durable (with `Durability::None`: visible to other processes), and no
    /// checkpoint refers to them. The coordinator accepts the parts of a member in the order in which they were prepared; one
    /// that comes after a later one is refused.
    ///
    /// # Errors
    ///
    /// `is_invalid` if a writer is still open. `is_fenced` if the member was dismissed, or the store was opened anew.
    /// `is_no_space` and other errors of the file system: the part is lost, the next one may succeed. `is_poisoned` if the
    /// process must join again. There is no part then, and the coordinator gives up the checkpoint.
    pub fn prepare(self, changes: ManifestChanges) -> Result<Part> {
        let (batch, member) = (&self.batch, &self.member);
        let operation = format!("prepare a part of checkpoint {} in", batch.id());
        member.volume().check_writable(&operation)?;
        batch.close_to_writers("prepare a part of")?;
        let membership = member.membership();
        let mut extents = membership.own_extents(&changes);
        extents.retain(|extent| batch.hold().refers(extent));
        let waiting = &member.write().waiting;
        let written = batch.seal().named_by(extents.iter().copied(), waiting)?;
        written.sync_data(waiting)?;
        written.dirs().try_for_each(|dir| member.volume().sync_dir(dir))?;
        written.note_named();
        let mut ends: Vec<(FileId, u64)> = Vec::new();
        for extent in &extents {
            let end = entry_end(extent.offset, extent.len);
            match ends.last_mut() {
                Some((file, last)) if *file == extent.file => *last = end.max(*last),
                _ => ends.push((extent.file, end)),
            }
        }
        let number = || (member.next_part(), member.write().next_sequence());
        let (number, progress) = batch.hold().hand_over(ends.iter().map(|(file, _)| *file), number);
        member.check_member(&operation)?;
        let (checkpoint, since) = (batch.id(), self.since);
        Ok(Part { membership, checkpoint, since, number, changes, ends, progress })
    }
}

impl Drop for PendingPart {
    /// Writers that are still open keep the batch, but can add nothing any more.
    fn drop(&mut self) {
        self.batch.close();
    }
}
