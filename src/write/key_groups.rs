//! A state that is written key group by key group.

use std::io;

use super::StateWriter;
use crate::{
    error::{Error, Result},
    format::key_groups::{self, Group},
    handle::StateHandle,
};

const END: &str = "end a state of key groups";

/// Writes a state that is split into key groups: for each key group [`group`](Self::group), then its bytes by [`io::Write`];
/// at last [`finish`](Self::finish).
///
/// The state ends with an index of its key groups, so that
/// [`Checkpoint::key_groups`](crate::Checkpoint::key_groups) reads and verifies some of them without the others. The index
/// takes 24 bytes for each key group, and 24 more.
///
/// A key group may have no bytes: it is there, and is read as empty. A writer that is dropped before `finish` abandons its
/// state. Over any other stream, as a [`CheckpointStream`](crate::contract::CheckpointStream),
/// [`into_inner`](Self::into_inner) writes the index, and the caller finishes the stream.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use piton::{Error, KeyGroupRange, KeyGroupWriter, Manifest, Options, PartitionState, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
/// let mut writer = KeyGroupWriter::new(pending.writer(Scope::Shared)?);
/// for group in 16..32 {
///     writer.group(group)?;
///     write!(writer, "the entries of group {group}").map_err(Error::from_writer)?;
/// }
/// let partition = PartitionState {
///     snapshot: Some(writer.finish()?.into()),
///     key_groups: Some(KeyGroupRange::new(16, 32)?),
///     ..PartitionState::default()
/// };
/// pending.commit(Manifest::builder().partition("window", 16, partition))?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct KeyGroupWriter<W = StateWriter> {
    writer: W,
    /// How many bytes all groups have so far.
    position: u64,
    /// The groups that are complete.
    groups: Vec<Group>,
    open: Option<Open>,
}

/// The group that is being written.
#[derive(Debug)]
struct Open {
    number: u32,
    offset: u64,
    crc: crc32fast::Hasher,
}

impl KeyGroupWriter {
    /// Ends the state and returns its handle. A state without key groups has an empty index.
    ///
    /// # Errors
    ///
    /// Those of [`StateWriter::finish`]; `is_invalid` if the writer had bytes before it was passed to [`new`](Self::new).
    pub fn finish(self) -> Result<StateHandle> {
        let before = self.writer.position() - self.position;
        if before > 0 {
            let why = format!("the state had {before} bytes before its first key group: pass a new writer");
            return Err(Error::invalid(END, why));
        }
        self.into_inner()?.finish()
    }
}

impl<W: io::Write> KeyGroupWriter<W> {
    /// Begins a state that is split into key groups. The writer is new: the state has no bytes yet.
    pub fn new(writer: W) -> Self {
        Self { writer, position: 0, groups: Vec::new(), open: None }
    }

    /// Begins the next key group, and ends the one before. Key groups come in ascending order, each once.
    ///
    /// # Errors
    ///
    /// `is_invalid`, with the key group, if it does not follow the one before. Nothing has changed then: the one before
    /// goes on. `u32::MAX` is refused as well, because no range ends behind it.
    pub fn group(&mut self, group: u32) -> Result<()> {
        let operation = || format!("begin key group {group}");
        if let Some(before) = self.open.as_ref().map(|open| open.number).filter(|before| *before >= group) {
            let why = format!("key group {before} was begun before: write key groups in ascending order, each once");
            return Err(Error::invalid(operation(), why));
        }
        if group == u32::MAX {
            return Err(Error::invalid(operation(), "no range of key groups can hold it: number them from 0"));
        }
        self.end_group();
        self.open = Some(Open { number: group, offset: self.position, crc: crc32fast::Hasher::new() });
        Ok(())
    }

    /// Writes the index, and returns the writer, to which the caller writes no more: it ends the state.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn into_inner(mut self) -> Result<W> {
        self.end_group();
        let index = key_groups::encode(&self.groups)
            .ok_or_else(|| Error::invalid(END, "it has more than 2^32 - 1 key groups"))?;
        self.writer.write_all(&index).map_err(Error::from_writer)?;
        Ok(self.writer)
    }

    fn end_group(&mut self) {
        if let Some(Open { number, offset, crc }) = self.open.take() {
            let len = self.position - offset;
            self.groups.push(Group { number, offset, len, crc: crc.finalize() });
        }
    }
}

impl<W: io::Write> io::Write for KeyGroupWriter<W> {
    /// Takes all bytes or fails; an error wraps a [`piton::Error`](Error). Before the first key group is begun it is
    /// `is_invalid`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(open) = &mut self.open else {
            return Err(Error::invalid("write a state of key groups", "begin a key group before its bytes").into());
        };
        let accepted = self.writer.write(bytes)?;
        open.crc.update(bytes.get(..accepted).unwrap_or_default());
        self.position += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
