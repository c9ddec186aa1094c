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
use crate::{
    error::{Malformed, Result},
    format::{self, record},
    id::StoreId,
    manifest::{KeyGroupRange, Manifest, ManifestContent},
};

/// The bytes of the record that a manifest is published as, where no other one precedes it; `None` if its states are in more
/// than 2^32 files. One that was not published has generation 0.
#[must_use]
pub fn manifest_bytes(manifest: &Manifest) -> Option<Vec<u8>> {
    record::checkpoint(manifest, record::Marks::default(), record::Against::default(), &[], &[])
}

/// Reads the record of a checkpoint. The id of the store in its manifest is zero.
///
/// # Errors
///
/// Why the bytes are not such a record.
pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    let store = StoreId([0; 16]);
    let at = |error: Malformed| error.at("parse", "a manifest".as_ref());
    let record = record::decode(bytes).map_err(at)?;
    let record::Record::Checkpoint(published) = record else {
        return Err(at(Malformed::new(0, "it is no record of a checkpoint")));
    };
    if published.against.is_some() || published.marks != record::Marks::default() || !published.forgotten.is_empty() {
        return Err(at(Malformed::new(0, "it is a checkpoint among others")));
    }
    let (content, origins) = published.content(store, &ManifestContent::default()).map_err(at)?;
    Ok(Manifest { store, id: published.id, generation: published.generation(), origins, content })
}

/// Parses bytes as each of the formats, for fuzzing: whatever they are, this returns. A manifest that parses is
/// returned as the bytes that it has when written again, which must be the same.
///
/// # Errors
///
/// Why the bytes are not the record of a manifest.
pub fn parse_anything(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let _ = format::identity::decode(bytes);
    let _ = format::source::decode(bytes);
    if let Ok(header) = format::log::decode_header(bytes) {
        let _ = format::log::decode_head(header.tag(), 0, bytes);
    }
    if let Ok(header) = format::base::decode_header(bytes) {
        let _ = format::base::decode_block(header.tag(), 0, bytes);
    }
    let _ = format::base::records(bytes).try_for_each(|record| record.map(drop));
    if let Ok(record::Record::Updated(update)) = record::decode(bytes) {
        let _ = update.changeable(&ManifestContent::default());
    }
    if let Ok((store, file)) = format::segment::decode_header(bytes.get(..64).unwrap_or(bytes)) {
        format::segment::entries(bytes, 0, format::segment::tag(store, file), file).for_each(drop);
    }
    let everything = KeyGroupRange::new(0, u32::MAX)?;
    let footer = bytes.len().saturating_sub(usize::try_from(format::key_groups::FOOTER_LEN).unwrap_or(usize::MAX));
    let footer = bytes.get(footer..).unwrap_or_default();
    if let Ok(index) = format::key_groups::decode_footer(footer, bytes.len() as u64) {
        let [start, end] = [index.place.start, index.place.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        let _ = format::key_groups::decode(bytes.get(start..end).unwrap_or_default(), &index, everything);
    }
    parse_manifest(bytes).map(|manifest| manifest_bytes(&manifest))
}
