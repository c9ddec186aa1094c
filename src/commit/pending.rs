//! A checkpoint that is begun and not committed.

use std::sync::Arc;

use super::{
    CheckpointStreams, CommitError,
    accept::Parts,
    sequence::{self, Publisher},
};
use crate::{
    error::Result,
    handle::StateHandle,
    id::{CheckpointId, Scope},
    manifest::ManifestBuilder,
    observe::{Event, Verb, span},
    read::Checkpoint,
    write::{StateWriter, batch::Batch},
};

/// A checkpoint in the making: write states into it from any threads, then [`commit`](PendingCheckpoint::commit).
///
/// Nothing of it can be seen before. Dropped, it is aborted, and what it alone refers to is removed.
///
/// # Examples
///
/// Many threads, one checkpoint:
///
/// ```
/// use piton::{Manifest, Options, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
/// let handles: Vec<_> = std::thread::scope(|scope| {
///     let worker = |n: u8| pending.write(Scope::Shared, &[n; 2000]);
///     let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || worker(n))).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<_, _>>()
/// })?;
/// let manifest = handles.into_iter().enumerate().fold(Manifest::builder(), |manifest, (n, handle)| {
///     manifest.state(format!("worker-{n}"), handle)
/// });
/// pending.commit(manifest)?;
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Debug)]
pub struct PendingCheckpoint {
    pub(crate) streams: CheckpointStreams,
    pub(super) parts: Parts,
    is_committed: bool,
}

impl PendingCheckpoint {
    pub(crate) fn new(batch: Batch, publisher: Arc<Publisher>) -> Self {
        Self { streams: CheckpointStreams::new(batch, publisher), parts: Parts::default(), is_committed: false }
    }

    pub(crate) fn batch(&self) -> &Batch {
        self.streams.batch()
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        self.streams.publisher()
    }

    pub(super) fn verb(&self) -> Verb {
        self.publisher().volume.observer().verb()
    }

    /// The id it will have.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.streams.id()
    }

    /// What other threads write states with while this one goes on to commit or abort the checkpoint.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Manifest, Options, Scope, contract::CheckpointStreamFactory};
    ///
    /// let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// let streams = pending.streams();
    /// let helper = std::thread::spawn(move || streams.write(Scope::Shared, &[7; 5000]));
    /// let weights = helper.join().unwrap()?;
    /// pending.commit(Manifest::builder().state("weights", weights))?;
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn streams(&self) -> CheckpointStreams {
        self.streams.clone()
    }

    /// A writer for one new state.
    ///
    /// # Errors
    ///
    /// `is_poisoned` if the store must be reopened.
    pub fn writer(&self, scope: Scope) -> Result<StateWriter> {
        self.streams.writer(scope)
    }

    /// Writes one state in one call. Durable with the checkpoint, or on return with `Durability::PerState`.
    ///
    /// # Errors
    ///
    /// Those of [`StateWriter::finish`].
    pub fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        self.streams.write(scope, bytes)
    }

    /// Keeps states of earlier checkpoints for this one, whatever happens to those, and returns the handles to use from
    /// now on, in order.
    ///
    /// The handles are the same, or new ones where a state was relocated: copied out of a file that holds so little that
    /// it should go (see [`Options::max_space_amplification`](crate::Options::max_space_amplification)), its checksum
    /// compared on the way. At most as many bytes are relocated per checkpoint as it or the one before it wrote anew, or
    /// 1 MiB or the write buffer if that is more. While both wrote less than
    /// [`Options::redo_size`](crate::Options::redo_size), what is left of that counts instead, or one state that fits the
    /// write buffer. After the disk was full none is relocated, until a checkpoint was committed. The old handles stay good
    /// for this checkpoint. [Borrowed](crate::Claim::Borrow) states are all copied, whatever that takes;
    /// one that cannot be written anew, and all if relocation is off, go on being borrowed.
    ///
    /// `commit` keeps every handle in the manifest as well, and relocates none that was named. An engine that goes on from an
    /// earlier checkpoint ([`Manifest::based_on`](crate::Manifest::based_on)) names only what changed, and saves the time
    /// for all other states. Calling this before is worth it when the
    /// earlier checkpoint might be forgotten meanwhile, tells early which states are gone, and keeps the store small.
    ///
    /// # Errors
    ///
    /// `is_not_found` if no published checkpoint refers to one of the states any more, or if it is known to be damaged;
    /// the message has its handle. `is_corrupt` if one is found to be damaged while it is relocated, and errors of the file
    /// system if it cannot be read; one that cannot be written anew stays where it is. All of them are kept then, for as
    /// long as this checkpoint is pending.
    pub fn reuse(&self, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
        self.streams.reuse(handles)
    }

    /// Whether reusing a state costs the store no space that it should give back. If not, writing the state anew is
    /// better, for an engine that can; [`reuse`](Self::reuse) works nevertheless, and relocates the state if it may.
    ///
    /// False for a state that is gone, damaged, or not of this store, which `reuse` refuses; for any other only if its
    /// file is marked for rewriting. True for a state that travels inside its handle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let old = pending.write(Scope::Shared, &[7; 5000])?;
    /// # pending.commit(Manifest::builder().state("weights", old.clone()))?;
    /// # let in_memory = [7; 5000];
    /// let pending = store.begin_next()?;
    /// let weights = if pending.could_reuse(&old) {
    ///     pending.reuse(&[old])?.remove(0)
    /// } else {
    ///     pending.write(Scope::Shared, &in_memory)?
    /// };
    /// # pending.commit(Manifest::builder().state("weights", weights))?;
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn could_reuse(&self, handle: &StateHandle) -> bool {
        self.streams.could_reuse(handle)
    }

    /// Publishes the checkpoint, all or none.
    ///
    /// When it returns, the checkpoint and everything it refers to are durable (with `Durability::None`: visible). The
    /// returned [`Checkpoint`] keeps it readable for as long as it is held. What automatic retention gives up is gone with
    /// it, all or none; data that could not be removed is tried again at the next sweep.
    ///
    /// # Errors
    ///
    /// - `is_invalid`: a writer is still open; or the id is not above every committed one, and this is no savepoint; or the
    ///   manifest names a state of another store. Nothing was tried, and the error has the pending checkpoint:
    ///   [`CommitError::into_pending`].
    /// - [`part_fault`](crate::Error::part_fault): the changes of an [accepted](Self::accept) part are relative to another
    ///   checkpoint than the one that the manifest is based on. Nothing was tried, as before.
    /// - `is_not_found`: the manifest names a state that no checkpoint refers to, or a damaged one. Nothing was tried, as
    ///   before.
    /// - `is_no_space` and other errors of the file system: nothing was published, unless also
    /// - `is_indeterminate`: the checkpoint may or may not be there, and the store refuses to write until it is
    ///   reopened, which tells.
    /// - `is_poisoned`, `is_fenced`: the store must be reopened. Nothing was published.
    pub fn commit(mut self, manifest: ManifestBuilder) -> std::result::Result<Checkpoint, CommitError> {
        let _span = span!("commit", checkpoint = self.id().get());
        let _verb = self.verb();
        let prepared = self.with_parts(manifest);
        match prepared.and_then(|manifest| sequence::prepare(self.publisher(), &self.streams.batch, manifest)) {
            Ok(prepared) => {
                let committed = sequence::commit(self.publisher(), self.batch(), prepared);
                self.is_committed = committed.is_ok();
                committed.map_err(CommitError::from)
            }
            Err(error) => Err(CommitError { error, pending: Some(Box::new(self)) }),
        }
    }
}

impl Drop for PendingCheckpoint {
    /// Writers that are still open keep the batch, but can add nothing any more.
    fn drop(&mut self) {
        let _verb = self.verb();
        self.batch().close();
        // In a child of a fork nothing happened, and the observer may wait for a lock that a thread of the parent had.
        if !self.is_committed && !self.batch().hold().registry().is_in_child() {
            self.publisher().volume.observer().note(|| Event::Aborted { checkpoint: self.id() });
        }
    }
}
