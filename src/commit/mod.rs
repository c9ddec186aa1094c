//! From handles to a published checkpoint, all or none.
//!
//! # Who owns what
//!
//! A [`PendingCheckpoint`] owns its batch of writers and its hold on everything it wrote or reuses. Until the commit
//! point nothing of it can be seen; dropped before, it is an abort: what it alone refers to is removed. [`sequence`] is
//! the commit: one function a step, in order, and nothing else publishes. [`reuse`] keeps states of earlier checkpoints
//! that the engine names, [`kept`] those that it goes on from without naming them; both move them out of files that should
//! go, as [`relocate`] says. [`accept`] takes what members have written. [`CheckpointStreams`] share the batch with those who write the states, and
//! may outlive it: whatever adds a reference looks, under the lock of the batch, whether it has ended. [`staging`] has
//! pending checkpoints that are addressed by their ids.
//!
//! # The commit, step by step
//!
//! 1. refuse if the store is poisoned, a writer of this pending checkpoint is still open, or the id is not
//!    above every committed one and this is no savepoint;
//! 2. from here on no other thread writes into the pending checkpoint. States that the engine goes on from without naming
//!    them are moved out of files that should go. Then what the manifest names is compared with the newest checkpoint, which
//!    the pending one holds from now on: each state that differs must be of this store. The pending checkpoint must
//!    refer to it already, or must be able to now. A refusal up to here gives the pending checkpoint back, open to writers;
//! 3. write the states of this checkpoint that are still in memory, with all that gathered before them in their segments.
//!    Sync every segment with a state that this checkpoint wrote and names, as far as it was not synced since, once each. If
//!    the record is going to have all of these states of a segment that was synced before, that segment *waits* for its sync:
//!    from here on no base gets its name before;
//! 4. sync the directories of those whose names are not durable. A crash up to here leaves orphans, and dead bytes in
//!    segments that others refer to;
//! 5. wait for the turn; refuse if 1 is no longer so, or the store is fenced. Plan what retention gives up with this
//!    checkpoint, and lock the ids of those, so that no other process opens one of them;
//! 6. append the record (`records`): **the commit point**; then look once more whether the store is still ours. A crash
//!    between the write and the end of the sync leaves the checkpoint committed or not at all. A power cut after it may take
//!    states from segments that wait: the next open writes them again, from the record. An error there either makes
//!    the record void, or is indeterminate and poisons the store. The published checkpoint joins the line (`accounts`),
//!    compared with the newest one again: it may be another by now. What retention gave up leaves it;
//! 7. tidy up, make blank logs, and write a base if one is due: all of which can only fail into a report.
//!    At last the pending checkpoint lets go of what it wrote and the manifest does not name.
//!
//! # Relocation, step by step
//!
//! 1. the pending checkpoint refers to the old state: it stays until the end, whatever happens to others;
//! 2. if its file is marked and the budget allows: it is read, and written anew like any other state;
//! 3. before it is finished the checksum of what was read is compared with the handle's: damage is never copied. If the
//!    copy cannot be written the state stays where it is: only what cannot be read is a failure.
//!
//! Steps 5 and 6 of two checkpoints never mix. Writers never wait for a commit, but for a write into
//! the segment that they append to.

mod accept;
mod error;
pub(crate) mod kept;
mod meter;
mod pending;
mod relocate;
mod reuse;
pub(crate) mod sequence;
pub(crate) mod staging;
mod streams;

pub use error::CommitError;
pub use pending::PendingCheckpoint;
pub use streams::CheckpointStreams;
