//! For tests of engines and of custom disks: a disk that fails as told, and the conformance kit (feature `testing`).
//!
//! # Examples
//!
//! Whether a disk keeps the promises of [`Disk`](crate::disk::Disk):
//!
//! ```
//! use piton::{disk::MemoryDisk, testing::conformance};
//!
//! conformance::check(&MemoryDisk::new(), "/somewhere/empty".as_ref());
//! ```

pub mod conformance;
pub mod contracts;

pub use crate::disk::{
    durable::{Call, Fault, Survival},
    sim::SimDisk,
};
use crate::{error::Result, format, manifest::Manifest};

/// The file of a manifest whose body these bytes are, with header and checksums that are right: for fuzzing what lies
/// behind them.
#[must_use]
pub fn manifest_around(body: &[u8]) -> Vec<u8> {
    format::manifest::around(body)
}

/// The bytes of the file that a manifest is published as; `None` if its states are in more than 2^32 files. One that was
/// not published has generation 0 and no store.
#[must_use]
pub fn manifest_bytes(manifest: &Manifest) -> Option<Vec<u8>> {
    format::manifest::encode(manifest)
}

/// The manifest that these bytes are, of whatever store.
///
/// # Errors
///
/// Why the bytes are not a manifest.
pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    format::manifest::decode(bytes).map_err(|e| e.at("parse", "a manifest".as_ref()))
}

/// Parses bytes as each of the formats, for fuzzing: whatever they are, this returns. A manifest that parses is
/// returned as the bytes that it has when written again, which must be the same.
///
/// # Errors
///
/// Why the bytes are not a manifest.
pub fn parse_anything(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let _ = format::identity::decode(bytes);
    let _ = format::update::decode(bytes);
    let _ = format::source::decode(bytes);
    if let Ok((store, file)) = format::segment::decode_header(bytes.get(..64).unwrap_or(bytes)) {
        format::segment::entries(bytes, 0, format::segment::tag(store, file), file).for_each(drop);
    }
    parse_manifest(bytes).map(|manifest| manifest_bytes(&manifest))
}
