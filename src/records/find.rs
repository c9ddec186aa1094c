//! Reading what is there.

use super::{chain::Logs, image::Image};
use crate::{
    disk::{FileKind, layout, volume::Volume},
    error::Result,
    format::log::{LogId, Position},
    id::StoreId,
};

/// Reads every log of a store.
///
/// # Errors
///
/// `is_newer_format` if a newer version wrote one of them. Errors that say nothing of a file.
pub(super) fn logs(volume: &Volume, store: StoreId) -> Result<Logs> {
    read_all(volume, store, names(volume)?)
}

/// Reads these logs of a store.
///
/// # Errors
///
/// Those of [`logs`].
pub(super) fn read_all(
    volume: &Volume,
    store: StoreId,
    names: impl IntoIterator<Item = (LogId, bool)>,
) -> Result<Logs> {
    let mut logs = Logs::new();
    for (id, is_file) in names {
        let image = if is_file { read(volume, id)? } else { None };
        logs.insert(id, image.filter(|image| (image.header().store, image.header().id) == (store, id)));
    }
    Ok(logs)
}

/// Whether nothing was begun behind a place in the log, and the log is still there. At a glance: without a checksum.
pub(super) fn nothing_follows(volume: &Volume, end: Option<&Position>) -> Result<bool> {
    let names = names(volume)?;
    let Some(end) = end else { return Ok(names.is_empty()) };
    if end.log.generation > 0 && !names.iter().any(|(id, _)| *id == end.log) {
        return Ok(false);
    }
    for (id, _) in names.into_iter().filter(|(id, _)| *id >= end.log) {
        let offset = if id == end.log { end.offset } else { 0 };
        let file = volume.open(layout::log(id.generation, id.sequence));
        match file.and_then(|file| Image::is_begun_at(&file, offset)) {
            Err(error) if !error.is_verdict() => return Err(error),
            Ok(false) => {}
            // What cannot be read is looked at closely.
            Ok(true) | Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Every log, and whether it is a regular file.
pub(super) fn names(volume: &Volume) -> Result<Vec<(LogId, bool)>> {
    let entries = volume.list(layout::MANIFESTS)?;
    let name = entries.iter().filter_map(|entry| {
        let (generation, sequence) = layout::parse_log(&entry.name)?;
        Some((LogId { generation, sequence }, entry.metadata.kind == FileKind::File))
    });
    Ok(name.collect())
}

/// Reads a log; `None` if a second look finds no header either.
fn read(volume: &Volume, id: LogId) -> Result<Option<Image>> {
    let read = || match volume.open(layout::log(id.generation, id.sequence)).and_then(|file| Image::read(&file)) {
        Err(error) if !error.is_verdict() => Err(error),
        read => Ok(read.ok().flatten()),
    };
    read()?.map_or_else(read, |image| Ok(Some(image)))
}

/// The store that the logs belong to, as far as they have headers.
///
/// # Errors
///
/// Those of [`logs`].
pub(super) fn store_of_logs(volume: &Volume) -> Result<Option<StoreId>> {
    let mut store = None;
    for (id, _) in names(volume)?.into_iter().filter(|(_, is_file)| *is_file) {
        let file = volume.open(layout::log(id.generation, id.sequence));
        match file.and_then(|file| Image::read_header(&file)) {
            Err(error) if !error.is_verdict() => return Err(error),
            Ok(Some(header)) => store = Some(header.store),
            _ => {}
        }
    }
    Ok(store)
}
