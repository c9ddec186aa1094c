//! Moving states out of files that should go.

use std::{io::Write, sync::Arc};

use super::sequence::Publisher;
use crate::{
    accounts::Kind,
    error::Result,
    handle::{Extent, StateHandle},
    id::FileId,
    read::OpenSegment,
    write::{StateWriter, batch::Batch},
};

/// Copies states for one pending checkpoint.
pub(super) struct Relocation<'a> {
    publisher: &'a Publisher,
    batch: &'a Arc<Batch>,
    /// On whose behalf.
    kind: Kind,
    /// The file that states are copied out of: mostly they come file by file.
    source: Option<OpenSegment>,
}

impl<'a> Relocation<'a> {
    pub(super) fn new(publisher: &'a Publisher, batch: &'a Arc<Batch>, kind: Kind) -> Self {
        Self { publisher, batch, kind, source: None }
    }

    /// The handle of a state from now on: another one if it was moved. The pending checkpoint refers to the old state
    /// already, and goes on to do so: an engine that names the old handle finds it.
    pub(super) fn move_if_due(&mut self, handle: &StateHandle) -> Result<StateHandle> {
        let registry = &self.publisher.registry;
        let Some(extent) = handle.extent().filter(|extent| registry.is_marked(extent.file)) else {
            return Ok(handle.clone());
        };
        if let Some(moved) = self.batch.moved(&extent) {
            return Ok(moved);
        }
        // What is not ours is to be done without, whatever that takes.
        if !registry.is_lent(extent.file) && !self.batch.may_relocate(extent.len) {
            return Ok(handle.clone());
        }
        let Some(moved) = self.copy(&extent).or_else(|error| self.judge(&extent, error))? else {
            // One that could not be written stays where it is, which is as good as ever.
            return Ok(handle.clone());
        };
        self.batch.note_moved(extent, moved.clone());
        Ok(moved)
    }

    /// Copies a state. Fails if the old one cannot be read as it was written; `None` if the new one cannot be written.
    fn copy(&mut self, extent: &Extent) -> Result<Option<StateHandle>> {
        let (batch, kind) = (self.batch, self.kind);
        // A state of this very checkpoint may be in memory alone. If it cannot be written the commit fails, and says so.
        if batch.write_out(extent).is_err() {
            return Ok(None);
        }
        let source = self.open(extent.file)?;
        let Ok(mut writer) = StateWriter::new(batch, extent.file.scope, kind) else { return Ok(None) };
        let mut copied = Ok(());
        // Before the copy is a state: one with wrong bytes must not become one.
        source.check_state(extent, |piece| {
            if copied.is_ok() {
                copied = writer.write_all(piece);
            }
        })?;
        let moved = copied.ok().and_then(|()| writer.finish().ok());
        Ok(moved.filter(|moved| (moved.len(), moved.crc32()) == (extent.len, extent.crc)))
    }

    /// A state could not be copied. A verdict takes a second look, through a file that is opened anew; a state that it finds
    /// whole stays where it is.
    fn judge(&mut self, extent: &Extent, error: crate::Error) -> Result<Option<StateHandle>> {
        if error.is_corrupt() {
            self.source = None;
            self.publisher.reading.check_in_place()?;
            match self.open(extent.file).and_then(|file| file.check_state(extent, |_| ())) {
                Ok(()) => return Ok(None),
                Err(error) if error.is_corrupt() => self.batch.hold().mark_damaged(extent, &error),
                Err(_) => {}
            }
        }
        // What nobody refers to any more may merely have gone while it was read.
        self.batch.check_open_to(self.kind)?;
        Err(error)
    }

    fn open(&mut self, file: FileId) -> Result<&OpenSegment> {
        let Publisher { reading, registry, journal, .. } = self.publisher;
        let segment = match self.source.take().filter(|segment| segment.id() == file) {
            Some(segment) => segment,
            None => reading.open(registry.data_file(journal.store(), file))?,
        };
        Ok(self.source.insert(segment))
    }
}
