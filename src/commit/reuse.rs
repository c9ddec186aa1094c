//! Keeping states of earlier checkpoints, and moving them out of files that should go.

use std::{collections::HashMap, io::Write, sync::Arc};

use super::sequence::{Publisher, resolve};
use crate::{
    disk::{layout, volume::VolumeFile},
    error::{Error, Result},
    handle::{Extent, StateHandle},
    id::FileId,
    read::verify,
    reclaim::registry::Origin,
    write::{StateWriter, batch::Batch},
};

/// The files that states are copied out of, open while one call of `reuse` lasts.
type Sources = HashMap<FileId, VolumeFile>;

pub(super) fn reuse(publisher: &Publisher, batch: &Arc<Batch>, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
    resolve(batch, handles.iter(), "reuse states for")?;
    if !publisher.relocation {
        return Ok(handles.to_vec());
    }
    let mut sources = Sources::new();
    handles.iter().map(|handle| relocate_if_due(publisher, batch, handle, &mut sources)).collect()
}

/// The pending checkpoint refers to the old state already, and goes on to do so: an engine that names the old handle
/// finds it.
fn relocate_if_due(
    publisher: &Publisher,
    batch: &Arc<Batch>,
    handle: &StateHandle,
    sources: &mut Sources,
) -> Result<StateHandle> {
    let due = |extent: &&Extent| publisher.registry.is_marked(extent.file) && batch.may_relocate(extent.len);
    let Some(extent) = handle.extent().filter(due) else { return Ok(handle.clone()) };
    match relocate(publisher, batch, extent, sources) {
        Err(error) if error.is_no_space() => Ok(handle.clone()),
        Err(error) if error.is_corrupt() => {
            batch.hold().mark_damaged(extent, &error);
            Err(error)
        }
        moved => moved,
    }
}

fn relocate(publisher: &Publisher, batch: &Arc<Batch>, extent: &Extent, sources: &mut Sources) -> Result<StateHandle> {
    let source = match sources.remove(&extent.file) {
        Some(source) => source,
        None => publisher.volume.open(layout::segment(extent.file))?,
    };
    let mut writer = StateWriter::new(batch, extent.file.scope, Origin::Relocated)?;
    let crc =
        source.checksum(extent.offset, extent.len, |piece| writer.write_all(piece).map_err(Error::from_writer))?;
    // Before the copy is a state: one with wrong bytes must not become one.
    verify::check_crc(&source, extent, crc)?;
    sources.insert(extent.file, source);
    writer.finish()
}
