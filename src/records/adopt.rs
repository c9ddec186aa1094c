//! Making sure of the last record before anything relies on it.

use std::io::IoSlice;

use super::replay::Last;
use crate::{
    disk::{layout, volume::Volume},
    error::Result,
    format::log::{BLOCK, encode_head, encode_header, place},
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
    let bytes = encode_header(header);
    [0, BLOCK].iter().try_for_each(|at| file.write_all_at(&bytes, *at))?;
    let at = (last.offset, head.number);
    let bytes = encode_head(header.tag(), at, head.link.as_ref(), head.record, head.redo_len).unwrap_or_default();
    for (which, redo) in (0..).zip(last.image.redo(head)) {
        let mut parts = [IoSlice::new(&bytes), IoSlice::new(redo)];
        file.write_parts_at(&mut parts, place(header.half, which, last.offset))?;
    }
    file.sync()
}
