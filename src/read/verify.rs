//! Whether the bytes of a state are those that were written.

use crate::{
    disk::file::VolumeFile,
    error::{Malformed, Result},
    format::segment::{FileTag, HEADER_LEN, TRAILER_LEN, check_header, check_trailer, tag},
    handle::Extent,
    manifest::{DataFile, Digest},
};

pub(super) const OPERATION: &str = "verify";

/// The header must name the file that this one was written as.
pub(super) fn header(file: &VolumeFile, data: &DataFile) -> Result<()> {
    check_header(&file.read(0, HEADER_LEN)?, data.store, data.written_as).map_err(|e| e.at(OPERATION, file.path()))
}

/// What the trailers of a file name.
pub(super) fn tag_of(data: &DataFile) -> FileTag {
    tag(data.store, data.written_as)
}

/// The trailer must be that of this state.
pub(super) fn trailer(
    trailer: &[u8],
    extent: &Extent,
    (tag, data): (FileTag, &DataFile),
) -> std::result::Result<(), Malformed> {
    let written = Extent { file: data.written_as, ..*extent };
    check_trailer(trailer, tag, &written).map_err(|e| Malformed { offset: e.offset.saturating_add(extent.end()), ..e })
}

/// The bytes of a state must have the checksum of its handle.
pub(super) fn checksum(extent: &Extent, found: u32) -> std::result::Result<(), Malformed> {
    if found == extent.crc {
        return Ok(());
    }
    let what = format!("{} bytes from here have checksum {found:08x} instead of {:08x}", extent.len, extent.crc);
    Err(Malformed::new(extent.offset, what))
}

/// The bytes of a state must have the digest of their artifact.
pub(crate) fn check_digest(offset: u64, expected: &Digest, found: &Digest) -> std::result::Result<(), Malformed> {
    if found == expected {
        return Ok(());
    }
    Err(Malformed::new(offset, format!("the state has digest {found} instead of {expected}")))
}

/// A state and what is behind it, a piece at a time.
pub(super) fn state(file: &VolumeFile, extent: &Extent, data: &DataFile, hand_on: impl FnMut(&[u8])) -> Result<()> {
    let behind = file.read(extent.end(), TRAILER_LEN)?;
    trailer(&behind, extent, (tag_of(data), data)).map_err(|e| e.at(OPERATION, file.path()))?;
    payload(file, extent, hand_on)
}

/// A state, a piece at a time.
pub(super) fn payload(file: &VolumeFile, extent: &Extent, hand_on: impl FnMut(&[u8])) -> Result<()> {
    let crc = file.checksum(extent.offset, extent.len, hand_on)?;
    checksum(extent, crc).map_err(|e| e.at(OPERATION, file.path()))
}
