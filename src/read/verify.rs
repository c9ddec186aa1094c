//! Whether the bytes of a state are those that were written.

use crate::{
    disk::volume::VolumeFile,
    error::{Malformed, Result},
    format::segment::{HEADER_LEN, TRAILER_LEN, check_header, check_trailer},
    handle::Extent,
    id::StoreId,
};

const OPERATION: &str = "verify";
/// How much is read at a time.
const PIECE: u64 = 256 * 1024;

/// Checks a state piece by piece: header, trailer, checksum.
pub(super) fn state(file: &VolumeFile, extent: &Extent, store: StoreId) -> Result<()> {
    check_frame(file, extent, store)?;
    let mut crc = crc32fast::Hasher::new();
    let mut piece = Vec::new();
    let mut at = extent.offset;
    while at < extent.end() {
        let len = PIECE.min(extent.end() - at);
        piece.resize(usize::try_from(len).unwrap_or_default(), 0);
        file.read_exact_at(&mut piece, at)?;
        crc.update(&piece);
        at += len;
    }
    check_crc(file, extent, crc.finalize())
}

/// The header must name this file of this store, the trailer this state.
fn check_frame(file: &VolumeFile, extent: &Extent, store: StoreId) -> Result<()> {
    let header = file.read(0, HEADER_LEN)?;
    check_header(&header, store, extent.file).map_err(|e| e.at(OPERATION, file.path()))?;
    let trailer = file.read(extent.end(), TRAILER_LEN)?;
    check_trailer(&trailer, extent)
        .map_err(|e| Malformed { offset: e.offset.saturating_add(extent.end()), ..e }.at(OPERATION, file.path()))
}

fn check_crc(file: &VolumeFile, extent: &Extent, found: u32) -> Result<()> {
    if found == extent.crc {
        return Ok(());
    }
    let what = format!("{} bytes from here have checksum {found:08x} instead of {:08x}", extent.len, extent.crc);
    Err(Malformed::new(extent.offset, what).at(OPERATION, file.path()))
}
