//! A state as a stream.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use super::{files::OpenSegment, pin::Pin};
use crate::handle::{Extent, InlineBytes};

/// Reads one state: [`Read`] and [`Seek`] within its bounds, and nothing beyond.
///
/// Unbuffered: each `read` of a state in a file is a call to the operating system. It keeps its checkpoint pinned.
#[derive(Debug)]
pub struct StateReader {
    source: Source,
    len: u64,
    position: u64,
}

#[derive(Debug)]
enum Source {
    Inline(InlineBytes),
    File { segment: Arc<OpenSegment>, offset: u64, _pin: Arc<Pin> },
}

impl StateReader {
    pub(super) fn inline(bytes: InlineBytes) -> Self {
        Self { len: bytes.len() as u64, source: Source::Inline(bytes), position: 0 }
    }

    pub(super) fn file(segment: Arc<OpenSegment>, extent: &Extent, pin: &Arc<Pin>) -> Self {
        let source = Source::File { segment, offset: extent.offset, _pin: Arc::clone(pin) };
        Self { source, len: extent.len, position: 0 }
    }

    /// How many bytes the state has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the state has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes follow the current position.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.len - self.position
    }
}

impl Read for StateReader {
    /// Returns 0 at the end of the state and for an empty buffer. An error wraps a [`piton::Error`](crate::Error).
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.remaining()).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = match &self.source {
            Source::Inline(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX);
                bytes.get(start..).unwrap_or_default().read(buffer)?
            }
            Source::File { segment, offset, .. } => {
                let file = segment.file();
                let at = offset.saturating_add(self.position);
                match file.read_at(buffer, at)? {
                    0 => {
                        return Err(crate::error::Malformed::new(at, "the file ends here")
                            .at("read", file.path())
                            .into());
                    }
                    n => n,
                }
            }
        };
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for StateReader {
    /// Moves within the state, up to one past its last byte; anywhere else is `InvalidInput`, and the position stays.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => self.len.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        match target.filter(|position| *position <= self.len) {
            Some(position) => {
                self.position = position;
                Ok(position)
            }
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{to:?} from {} is outside of a state of {} bytes", self.position, self.len),
            )),
        }
    }
}
