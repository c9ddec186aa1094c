//! Making sure of what was found before anything relies on it.

use super::{blank::write_headers, replay::Last, survey::Told};
use crate::{
    disk::{layout, spare, volume::Volume},
    error::Result,
    format::log::{encode_head, place},
};

/// Makes everything durable that was read: the process before may have synced nothing. What is durable costs next to nothing.
///
/// # Errors
///
/// Those of the file system.
pub(super) fn make_durable(volume: &Volume, told: &Told<'_>) -> Result<()> {
    told.read.iter().try_for_each(|name| volume.open(name)?.sync())
}

/// Makes the last record durable that an opener found, in both halves, whatever its writer had managed to do.
///
/// Only the last one can be in doubt: a writer appends nothing behind a record of which the sync failed, and after such a
/// failure the bytes may be in the page cache and never reach the medium. So the record is written again, and its sync is
/// that of the opener. A writer that was stalled may write the same bytes at the same time.
///
/// # Errors
///
/// Those of the file system. The record must not be relied on then.
pub(super) fn make_sure(volume: &Volume, last: &Last<'_>) -> Result<()> {
    let (header, head) = (last.image.header(), &last.found.head);
    let file = volume.open_writable(layout::log(header.id.generation, header.id.sequence))?;
    let place_in_log = (last.offset, head.number);
    let bytes = encode_head(header.tag(), place_in_log, head.link.as_ref(), head.record);
    let bytes = bytes.unwrap_or_default();
    // Where a file system copies what it changes, this takes room on a full disk.
    spare::even_if_full(volume, || {
        write_headers(&file, header)?;
        [0, 1].iter().try_for_each(|which| file.write_all_at(&bytes, place(header.half, *which, last.offset)))?;
        file.sync()
    })
}
