//! States of one data file, verified in the order in which they lie there.

use std::path::Path;

use super::{OpenSegment, verify};
use crate::{error::Result, format::segment::entry_end, handle::Extent};

/// Small states are read so many bytes at a time, with what lies between them.
const WINDOW: u64 = 1 << 20;
/// A longer state is read by itself.
const SMALL: u64 = WINDOW / 8;

/// Verifies states of an open file: quick if they come in the order of their offsets.
#[derive(Debug)]
pub(crate) struct InOrder<'a> {
    segment: &'a OpenSegment,
    /// Bytes of the file, and where they begin in it.
    window: Vec<u8>,
    start: u64,
}

impl<'a> InOrder<'a> {
    pub(crate) fn of(segment: &'a OpenSegment) -> Self {
        Self { segment, window: Vec::new(), start: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        self.segment.path()
    }

    /// Compares a state and what is behind it with what they should be. What seems damaged is read once more.
    ///
    /// # Errors
    ///
    /// What is damaged, and errors that say nothing of the state.
    pub(crate) fn verify(&mut self, extent: &Extent, mut hand_on: impl FnMut(&[u8])) -> Result<()> {
        if self.is_right_in_window(extent) {
            hand_on(self.part(extent.offset, extent.len).unwrap_or_default());
            return Ok(());
        }
        self.segment.verify_state(extent, hand_on)
    }

    fn is_right_in_window(&mut self, extent: &Extent) -> bool {
        let end = entry_end(extent.offset, extent.len);
        if extent.len > SMALL {
            return false;
        }
        if self.part(extent.offset, end - extent.offset).is_none() {
            self.read_from(extent.offset);
        }
        let (payload, trailer) = (self.part(extent.offset, extent.len), self.part(extent.end(), end - extent.end()));
        let (Some(payload), Some(trailer)) = (payload, trailer) else { return false };
        verify::checksum(extent, crc32fast::hash(payload)).is_ok()
            && self.segment.check_trailer(trailer, extent).is_ok()
    }

    /// A part of the file, if all of it is in the window.
    fn part(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.window.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    }

    /// Moves the window, if the medium gives what is there.
    fn read_from(&mut self, offset: u64) {
        let read = || {
            let len = self.segment.file().len()?.saturating_sub(offset).min(WINDOW);
            self.segment.file().read(offset, len)
        };
        self.window = read().unwrap_or_default();
        self.start = offset;
    }
}
