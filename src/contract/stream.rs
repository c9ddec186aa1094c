//! Streams that states are written into.

use std::{fmt, io};

use crate::{
    commit::{CheckpointStreams, PendingCheckpoint},
    error::{Error, Result},
    handle::StateHandle,
    id::Scope,
    write::StateWriter,
};

/// Makes the streams that the states of one checkpoint are written into, and keeps states of earlier ones for it.
///
/// Engines that are given a `dyn CheckpointStreamFactory` need not know who commits the checkpoint, nor whether it is a
/// store at all. All verbs block, from any threads.
///
/// # Examples
///
/// A double for tests, in memory:
///
/// ```
/// use std::io::{self, Write};
/// use piton::{Result, Scope, StateHandle, contract::{CheckpointStream, CheckpointStreamFactory}};
///
/// #[derive(Debug)]
/// struct InMemory;
///
/// #[derive(Debug)]
/// struct Buffer(Vec<u8>);
///
/// impl CheckpointStreamFactory for InMemory {
///     fn create_stream(&self, _: Scope) -> Result<Box<dyn CheckpointStream>> { Ok(Box::new(Buffer(Vec::new()))) }
///     fn can_fast_duplicate(&self, _: &StateHandle, _: Scope) -> Result<bool> { Ok(false) }
///     fn duplicate(&self, handles: &[StateHandle], _: Scope) -> Result<Vec<StateHandle>> { Ok(handles.to_vec()) }
/// }
///
/// impl Write for Buffer {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> { self.0.write(bytes) }
///     fn flush(&mut self) -> io::Result<()> { Ok(()) }
/// }
///
/// impl CheckpointStream for Buffer {
///     fn position(&self) -> u64 { self.0.len() as u64 }
///     fn sync(&mut self) -> Result<()> { Ok(()) }
///     fn finish(self: Box<Self>) -> Result<StateHandle> { Ok(StateHandle::inline(&self.0)) }
/// }
///
/// let streams: &dyn CheckpointStreamFactory = &InMemory;
/// let mut stream = streams.create_stream(Scope::Shared)?;
/// stream.write_all(b"state").unwrap();
/// assert_eq!(stream.finish()?.inline_bytes(), Some(&b"state"[..]));
/// # Ok::<(), piton::Error>(())
/// ```
pub trait CheckpointStreamFactory: fmt::Debug + Send + Sync {
    /// A stream for one new state.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the checkpoint has ended, `is_cancelled` if the snapshot was; those of the storage.
    fn create_stream(&self, scope: Scope) -> Result<Box<dyn CheckpointStream>>;

    /// Writes one state in one call.
    ///
    /// # Errors
    ///
    /// Those of [`create_stream`](Self::create_stream) and of [`CheckpointStream::finish`].
    fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        let mut stream = self.create_stream(scope)?;
        stream.write_all(bytes).map_err(Error::from_writer)?;
        stream.finish()
    }

    /// Whether [`duplicate`](Self::duplicate) would copy no bytes of this state. Asking costs little.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> Result<bool>;

    /// Gives this checkpoint states of its own with the bytes of others; returns their handles, in order.
    ///
    /// # Errors
    ///
    /// Those of [`PendingCheckpoint::duplicate`].
    fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>>;

    /// Keeps states of earlier checkpoints for this one; returns the handles to use from now on, in order. By default it
    /// has nothing to do; who wraps another factory passes it on.
    ///
    /// # Errors
    ///
    /// Those of [`PendingCheckpoint::reuse`].
    fn reuse_previous(&self, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
        Ok(handles.to_vec())
    }

    /// Whether to keep this state is as good as writing it anew. By default that is so if it travels inside its handle.
    fn could_reuse(&self, handle: &StateHandle) -> bool {
        handle.is_inline()
    }

    /// Fails once it is known that nothing that is written can become part of the checkpoint any more: for whoever computes for
    /// long between two writes. By default it never does.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the checkpoint has ended, `is_cancelled` if the snapshot was, `is_poisoned` if the store must be reopened.
    fn check_active(&self) -> Result<()> {
        Ok(())
    }
}

/// One state while it is written. Dropped before it is finished, or after an error, the state is abandoned.
pub trait CheckpointStream: io::Write + fmt::Debug + Send {
    /// How many bytes the state has so far, those in a buffer included.
    fn position(&self) -> u64;

    /// Makes durable what was written so far, if it can be.
    ///
    /// # Errors
    ///
    /// Those of the storage. The state is lost then.
    fn sync(&mut self) -> Result<()>;

    /// Ends the state and returns its handle.
    ///
    /// # Errors
    ///
    /// Those of [`StateWriter::finish`].
    fn finish(self: Box<Self>) -> Result<StateHandle>;
}

impl CheckpointStream for StateWriter {
    fn position(&self) -> u64 {
        StateWriter::position(self)
    }

    fn sync(&mut self) -> Result<()> {
        StateWriter::sync(self)
    }

    fn finish(self: Box<Self>) -> Result<StateHandle> {
        StateWriter::finish(*self)
    }
}

impl CheckpointStreamFactory for CheckpointStreams {
    fn create_stream(&self, scope: Scope) -> Result<Box<dyn CheckpointStream>> {
        Ok(Box::new(self.writer(scope)?))
    }

    fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        CheckpointStreams::write(self, scope, bytes)
    }

    fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> Result<bool> {
        Ok(CheckpointStreams::can_fast_duplicate(self, handle, scope))
    }

    fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>> {
        CheckpointStreams::duplicate(self, handles, scope)
    }

    fn reuse_previous(&self, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
        self.reuse(handles)
    }

    fn could_reuse(&self, handle: &StateHandle) -> bool {
        CheckpointStreams::could_reuse(self, handle)
    }

    fn check_active(&self) -> Result<()> {
        CheckpointStreams::check_active(self)
    }
}

impl CheckpointStreamFactory for PendingCheckpoint {
    fn create_stream(&self, scope: Scope) -> Result<Box<dyn CheckpointStream>> {
        self.streams.create_stream(scope)
    }

    fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        PendingCheckpoint::write(self, scope, bytes)
    }

    fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> Result<bool> {
        Ok(self.streams.can_fast_duplicate(handle, scope))
    }

    fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>> {
        self.streams.duplicate(handles, scope)
    }

    fn reuse_previous(&self, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
        self.streams.reuse(handles)
    }

    fn could_reuse(&self, handle: &StateHandle) -> bool {
        self.streams.could_reuse(handle)
    }

    fn check_active(&self) -> Result<()> {
        self.streams.check_active()
    }
}
