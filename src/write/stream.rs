//! A state while it is written.

use std::{io, sync::Arc};

use super::{
    batch::{Batch, OpenWriter},
    segment::Appender,
    settings::WriteSettings,
};
use crate::{
    accounts::Kind,
    error::{Cause, Error, Result},
    handle::StateHandle,
    id::Scope,
    observe::Event,
};

/// Writes one state of a pending checkpoint: [`io::Write`], then [`finish`](StateWriter::finish).
///
/// Dropped before `finish`, or after an error, the state is abandoned and leaves nothing behind; other states of the
/// checkpoint are untouched. After an error every later call fails with the same error. Any number of writers of one
/// pending checkpoint may be at work in any threads.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use piton::{Manifest, Options, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
/// let mut writer = pending.writer(Scope::Exclusive)?;
/// for line in ["one", "two"] {
///     writeln!(writer, "{line}").unwrap();
/// }
/// assert_eq!(writer.position(), 8);
/// let handle = writer.finish()?;
/// pending.commit(Manifest::builder().state("lines", handle))?;
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Debug)]
pub struct StateWriter {
    ticket: OpenWriter,
    scope: Scope,
    kind: Kind,
    buffer: Vec<u8>,
    position: u64,
    /// Of the state's own, once it has outgrown the buffer.
    segment: Option<Appender>,
    failed: Option<Error>,
}

impl StateWriter {
    pub(crate) fn new(batch: &Arc<Batch>, scope: Scope, kind: Kind) -> Result<Self> {
        let ticket = batch.open_writer(kind)?;
        Ok(Self { ticket, scope, kind, buffer: Vec::new(), position: 0, segment: None, failed: None })
    }

    /// How many bytes the state has so far, those in the buffer included.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Makes durable what was written so far, as bytes that nothing refers to yet: worth its cost only to spread the
    /// syncs of a very large state. The state gets a segment of its own by it. While it may still travel inside its
    /// handle, this does nothing.
    ///
    /// # Errors
    ///
    /// Those of the file system. After a failed sync the state is lost; it is never synced again.
    pub fn sync(&mut self) -> Result<()> {
        self.attempt(|writer| {
            if writer.position > writer.settings().inline_threshold(writer.scope) as u64 {
                writer.spill()?;
            }
            writer.segment.as_ref().map_or(Ok(()), Appender::sync)
        })
    }

    /// Ends the state and returns its handle.
    ///
    /// The state becomes durable with the checkpoint, or now with [`Durability::PerState`](crate::Durability). A state of
    /// at most `inline_threshold` bytes travels inside the handle; one that fits into the write buffer is appended to a
    /// segment that others share. One of at most 16 KiB may still be in memory on return: it is written together with
    /// others, at the latest by the commit, which fails if it cannot be.
    ///
    /// # Errors
    ///
    /// `is_no_space` and other errors of the file system; `is_invalid` if the pending checkpoint was aborted meanwhile;
    /// and whatever an earlier call failed with. The state is abandoned then.
    pub fn finish(mut self) -> Result<StateHandle> {
        let handle = self.attempt(Self::complete)?;
        self.note_written(&handle);
        Ok(handle)
    }

    /// Writes these bytes, which are the whole state, and ends it. They are copied only where they have to be.
    pub(crate) fn finish_with(mut self, bytes: &[u8]) -> Result<StateHandle> {
        let handle = self.attempt(|writer| {
            if bytes.len() > writer.settings().write_buffer {
                writer.put(bytes)?;
                return writer.complete();
            }
            writer.check_size(bytes.len() as u64)?;
            writer.complete_with(bytes)
        })?;
        self.note_written(&handle);
        Ok(handle)
    }

    fn note_written(&self, handle: &StateHandle) {
        let (batch, scope) = (self.ticket.batch(), self.scope);
        let (checkpoint, bytes, inline) = (batch.id(), handle.len(), handle.extent().is_none());
        if self.kind == Kind::New {
            let observer = batch.settings().volume.observer();
            observer.note(|| Event::Written { checkpoint, scope, bytes, inline });
        }
    }

    fn complete(&mut self) -> Result<StateHandle> {
        if self.segment.is_some() {
            self.spill()?;
        }
        if let Some(mut segment) = self.segment.take() {
            let batch = self.ticket.batch();
            let extent = segment.complete(batch.id())?;
            return batch.accept_own(&extent, segment, self.kind);
        }
        self.complete_with(&self.buffer)
    }

    /// Ends a state that fits into the write buffer.
    fn complete_with(&self, bytes: &[u8]) -> Result<StateHandle> {
        if bytes.len() <= self.settings().inline_threshold(self.scope) {
            return Ok(StateHandle::inline(bytes));
        }
        self.ticket.batch().append(self.scope, bytes, self.kind)
    }

    /// Refuses a state of this length if it is above the limit.
    fn check_size(&self, size: u64) -> Result<()> {
        let limit = self.settings().max_state_size.filter(|limit| size > *limit && self.kind == Kind::New);
        limit.map_or(Ok(()), |limit| Err(Error::new("write a state", Cause::TooLarge { size, limit })))
    }

    fn settings(&self) -> &WriteSettings {
        self.ticket.batch().settings()
    }

    /// Runs a step unless an earlier one failed, and remembers if this one does.
    fn attempt<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let _verb = self.settings().volume.observer().verb();
        let open = self.ticket.batch().check_open_to(self.kind);
        open.and_then(|()| step(self)).inspect_err(|error| {
            self.failed = Some(error.clone());
            self.ticket.batch().note_failed(error);
            self.buffer = Vec::new();
            self.segment = None;
            let _ = self.ticket.batch().hold().registry().tidy(0);
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let size = self.position.saturating_add(bytes.len() as u64);
        self.check_size(size)?;
        let room = self.settings().write_buffer;
        if self.buffer.len().saturating_add(bytes.len()) > room {
            self.spill()?;
        }
        if bytes.len() > room {
            self.segment()?.push(bytes)?;
        } else {
            reserve(&mut self.buffer, bytes.len(), room);
            self.buffer.extend_from_slice(bytes);
        }
        self.position = size;
        Ok(())
    }

    /// Moves the buffer into a segment of the state's own.
    fn spill(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.segment()?.push(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn segment(&mut self) -> Result<&mut Appender> {
        let segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.ticket.batch().own_segment(self.scope)?,
        };
        Ok(self.segment.insert(segment))
    }
}

/// Makes room for more, by doubling, but never beyond the bound, which it fits into.
fn reserve(buffer: &mut Vec<u8>, more: usize, bound: usize) {
    let needed = buffer.len() + more;
    if needed > buffer.capacity() {
        let target = buffer.capacity().saturating_mul(2).clamp(needed, bound);
        buffer.reserve_exact(target - buffer.len());
    }
}

impl io::Write for StateWriter {
    /// Takes all bytes or fails; an error wraps a [`piton::Error`](Error).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|writer| writer.put(bytes))?;
        Ok(bytes.len())
    }

    /// Hands the buffer to the file if the state has one of its own already, and else does nothing: what fits into the
    /// buffer goes to a file as a whole. Nothing becomes durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.attempt(|writer| if writer.segment.is_some() { writer.spill() } else { Ok(()) })?)
    }
}

impl Drop for StateWriter {
    /// An abandoned state leaves no file behind.
    fn drop(&mut self) {
        let segment = self.segment.take().filter(|_| !self.ticket.batch().hold().registry().is_in_child());
        if let Some(segment) = segment {
            drop(segment);
            let _ = self.ticket.batch().hold().registry().tidy(0);
        }
    }
}
