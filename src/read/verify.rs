//! Whether the bytes of a state are those that were written.

use crate::{
    disk::volume::VolumeFile,
    error::{Malformed, Result},
    format::segment::{HEADER_LEN, TRAILER_LEN, check_header, check_trailer, tag},
    handle::Extent,
    id::{FileId, StoreId},
    manifest::Digest,
};

const OPERATION: &str = "verify";

/// The header must name this file of this store.
pub(super) fn header(file: &VolumeFile, id: FileId, store: StoreId) -> Result<()> {
    check_header(&file.read(0, HEADER_LEN)?, store, id).map_err(|e| e.at(OPERATION, file.path()))
}

/// The trailer must be that of this state.
pub(super) fn trailer(file: &VolumeFile, extent: &Extent, store: StoreId) -> Result<()> {
    let trailer = file.read(extent.end(), TRAILER_LEN)?;
    check_trailer(&trailer, tag(store, extent.file), extent)
        .map_err(|e| Malformed { offset: e.offset.saturating_add(extent.end()), ..e }.at(OPERATION, file.path()))
}

/// The bytes of a state must have the digest of their artifact.
pub(crate) fn check_digest(offset: u64, expected: &Digest, found: &Digest) -> std::result::Result<(), Malformed> {
    if found == expected {
        return Ok(());
    }
    Err(Malformed::new(offset, format!("the state has digest {found} instead of {expected}")))
}

/// The bytes of a state must have the checksum of its handle.
pub(super) fn check_crc(file: &VolumeFile, extent: &Extent, found: u32) -> Result<()> {
    if found == extent.crc {
        return Ok(());
    }
    let what = format!("{} bytes from here have checksum {found:08x} instead of {:08x}", extent.len, extent.crc);
    Err(Malformed::new(extent.offset, what).at(OPERATION, file.path()))
}
