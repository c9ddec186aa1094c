//! Making sure of the last record before anything relies on it.

use super::{
    blank::{write_headers, write_record},
    replay::Last,
};
use crate::{
    disk::{layout, volume::Volume},
    error::Result,
};

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
    write_headers(&file, header)?;
    let redo = last.image.whole_redo(head);
    write_record(&file, (header, header.tag()), (last.offset, head.number), head.link.as_ref(), (head.record, &redo))?;
    file.sync()
}
