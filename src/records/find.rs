//! Reading what is there.

use super::{chain::Logs, image::Image};
use crate::{
    disk::{FileKind, layout, volume::Volume},
    error::Result,
    format::log::LogId,
    id::StoreId,
};

/// Reads every log of a store.
///
/// # Errors
///
/// `is_newer_format` if a newer version wrote one of them. Errors that say nothing of a file.
pub(super) fn logs(volume: &Volume, store: StoreId) -> Result<Logs> {
    let mut logs = Logs::new();
    for entry in volume.list(layout::MANIFESTS)? {
        let Some((generation, sequence)) = layout::parse_log(&entry.name) else { continue };
        let id = LogId { generation, sequence };
        let image = if entry.metadata.kind == FileKind::File { read(volume, id)? } else { None };
        logs.insert(id, image.filter(|image| (image.header().store, image.header().id) == (store, id)));
    }
    Ok(logs)
}

/// Reads a log; `None` if a second look finds no header either.
fn read(volume: &Volume, id: LogId) -> Result<Option<Image>> {
    let read = || match volume.open(layout::log(id.generation, id.sequence)).and_then(|file| Image::read(&file)) {
        Err(error) if error.is_newer_format() || error.is_of_this_process() => Err(error),
        read => Ok(read.ok().flatten()),
    };
    read()?.map_or_else(read, |image| Ok(Some(image)))
}
