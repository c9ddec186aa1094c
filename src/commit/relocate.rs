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

/// The file that states are copied out of: mostly they come file by file.
pub(super) type Source = Option<OpenSegment>;

/// The pending checkpoint refers to the old state already, and goes on to do so: an engine that names the old handle
/// finds it.
pub(super) fn relocate_if_due(
    publisher: &Publisher,
    batch: &Arc<Batch>,
    handle: &StateHandle,
    source: &mut Source,
) -> Result<StateHandle> {
    let Some(extent) = handle.extent().filter(|extent| publisher.registry.is_marked(extent.file)) else {
        return Ok(handle.clone());
    };
    if let Some(moved) = batch.moved(&extent) {
        return Ok(moved);
    }
    // What is not ours is to be done without, whatever that takes.
    if !publisher.registry.is_lent(extent.file) && !batch.may_relocate(extent.len) {
        return Ok(handle.clone());
    }
    let moved = relocate(publisher, batch, &extent, source).or_else(|error| {
        if error.is_corrupt() {
            // A verdict takes a second look, through a file that is opened anew. A state that it finds whole stays where it is.
            *source = None;
            publisher.reading.check_in_place()?;
            let second = open(publisher, extent.file, source).and_then(|file| file.check_state(&extent, |_| ()));
            match second {
                Ok(()) => return Ok(None),
                Err(error) if error.is_corrupt() => batch.hold().mark_damaged(&extent, &error),
                Err(_) => {}
            }
        }
        // What nobody refers to any more may merely have gone while it was read.
        batch.check_open()?;
        Err(error)
    })?;
    // One that could not be written stays where it is, which is as good as ever.
    Ok(moved.inspect(|moved| batch.note_moved(extent, moved.clone())).unwrap_or_else(|| handle.clone()))
}

/// Copies a state. Fails if the old one cannot be read as it was written; `None` if the new one cannot be written.
fn relocate(
    publisher: &Publisher,
    batch: &Arc<Batch>,
    extent: &Extent,
    source: &mut Source,
) -> Result<Option<StateHandle>> {
    let source = open(publisher, extent.file, source)?;
    let Ok(mut writer) = StateWriter::new(batch, extent.file.scope, Kind::Relocated) else { return Ok(None) };
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

fn open<'a>(publisher: &Publisher, file: FileId, source: &'a mut Source) -> Result<&'a OpenSegment> {
    let segment = match source.take().filter(|segment| segment.id() == file) {
        Some(segment) => segment,
        None => publisher.reading.open(publisher.registry.data_file(publisher.identity.store(), file))?,
    };
    Ok(source.insert(segment))
}
