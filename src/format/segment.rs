//! Segments: a header that says which file this is, then entries, each a payload at an aligned offset with a trailer
//! behind it that says what it is.
//!
//! The checksum of a trailer goes on from that of the header, so a trailer belongs to one file: one that was copied
//! into a payload along with the rest of its file is not mistaken for an entry of the file that it was copied into.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{
    error::Malformed,
    handle::Extent,
    id::{CheckpointId, FileId, Scope, StoreId},
};

const HEADER_MAGIC: [u8; 8] = *b"PITONSEG";
const TRAILER_MAGIC: [u8; 8] = *b"PITONEND";

/// Bytes of a header; the first payload is behind it.
pub(crate) const HEADER_LEN: u64 = 64;
/// Bytes of a trailer.
pub(crate) const TRAILER_LEN: u64 = 48;

/// Payloads begin at a multiple of this, or of a higher power of two.
pub(crate) const MIN_ALIGNMENT: u64 = 64;

/// One past the trailer of a state.
pub(crate) fn entry_end(offset: u64, len: u64) -> u64 {
    offset.saturating_add(len).saturating_add(TRAILER_LEN)
}

/// Stands for one file of one store in the checksums of its trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileTag(u32);

/// A whole entry that says of itself what it is. Whether its payload has its checksum is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) extent: Extent,
    pub(crate) checkpoint: CheckpointId,
}

#[derive(Encode, Decode)]
struct Header {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    store: [u8; 16],
    generation: u64,
    sequence: u64,
    lane: u16,
    scope: u8,
    reserved: [u8; 9],
}

#[derive(Encode, Decode)]
struct Trailer {
    magic: [u8; 8],
    offset: u64,
    len: u64,
    checkpoint: u64,
    crc: u32,
    scope: u8,
    reserved: [u8; 7],
}

pub(crate) fn scope_code(scope: Scope) -> u8 {
    match scope {
        Scope::Exclusive => 1,
        Scope::Shared => 2,
    }
}

pub(crate) fn scope_from(code: u8) -> Option<Scope> {
    match code {
        1 => Some(Scope::Exclusive),
        2 => Some(Scope::Shared),
        _ => None,
    }
}

/// The first bytes of a segment.
pub(crate) fn encode_header(store: StoreId, file: FileId) -> Vec<u8> {
    let FileId { scope, generation, lane, sequence } = file;
    let mut writer = Writer::default();
    writer.put(Header {
        magic: HEADER_MAGIC,
        version: VERSION,
        flags: 0,
        store: store.0,
        generation,
        sequence,
        lane,
        scope: scope_code(scope),
        reserved: [0; 9],
    });
    writer.put_crc_from(0);
    writer.finish()
}

/// What the trailers of this file go on from: the checksum of its header.
pub(crate) fn tag(store: StoreId, file: FileId) -> FileTag {
    let header = encode_header(store, file);
    FileTag(header.last_chunk().map_or(0, |crc| u32::from_le_bytes(*crc)))
}

/// Which store and which file these first bytes belong to.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(StoreId, FileId), Malformed> {
    Reader::new(bytes).take_magic(HEADER_MAGIC, bytes.len(), "segment")?;
    let mut reader = Reader::new(bytes);
    let header: Header = reader.take("header")?;
    reader.take_crc_from(0, "header")?;
    reader.end()?;
    let scope = scope_from(header.scope).filter(|_| header.flags == 0 && header.reserved == [0; 9]);
    let scope = scope.ok_or_else(|| Malformed::new(12, "a field has a value that this version never writes"))?;
    let Header { store, generation, lane, sequence, .. } = header;
    Ok((StoreId(store), FileId { scope, generation, lane, sequence }))
}

/// Checks that these first bytes are those of this file of this store.
pub(crate) fn check_header(bytes: &[u8], store: StoreId, file: FileId) -> Result<(), Malformed> {
    match decode_header(bytes)? {
        (found, _) if found != store => Err(Malformed::new(16, format!("it belongs to store {found}, not {store}"))),
        (_, found) if found != file => Err(Malformed::new(32, "it is another segment under this name")),
        _ => Ok(()),
    }
}

/// The bytes behind a payload.
pub(crate) fn encode_trailer(tag: FileTag, extent: &Extent, checkpoint: CheckpointId) -> Vec<u8> {
    let Extent { file, offset, len, crc } = *extent;
    let mut writer = Writer::default();
    let scope = scope_code(file.scope);
    let checkpoint = checkpoint.get();
    writer.put(Trailer { magic: TRAILER_MAGIC, offset, len, checkpoint, crc, scope, reserved: [0; 7] });
    writer.put_crc_after(tag.0);
    writer.finish()
}

/// What this trailer of this file says. `Malformed` counts from the trailer's own start.
fn decode_trailer(bytes: &[u8], tag: FileTag, file: FileId) -> Result<Entry, Malformed> {
    let mut reader = Reader::new(bytes);
    let trailer: Trailer = reader.take("trailer")?;
    reader.take_crc_after(tag.0, "trailer")?;
    reader.end()?;
    let Trailer { magic, offset, len, crc, checkpoint, scope, reserved } = trailer;
    CheckpointId::new(checkpoint)
        .filter(|_| magic == TRAILER_MAGIC && scope == scope_code(file.scope) && reserved == [0; 7])
        .filter(|_| offset.checked_add(len).is_some())
        .map(|checkpoint| Entry { extent: Extent { file, offset, len, crc }, checkpoint })
        .ok_or_else(|| Malformed::new(0, "a field of the trailer has a value that this version never writes"))
}

/// Checks that these bytes are the trailer of this state. `Malformed` counts from the trailer's own start.
pub(crate) fn check_trailer(bytes: &[u8], tag: FileTag, extent: &Extent) -> Result<(), Malformed> {
    match decode_trailer(bytes, tag, extent.file)? {
        entry if entry.extent == *extent => Ok(()),
        _ => Err(Malformed::new(0, "the trailer is that of another state")),
    }
}

/// The entries whose trailers lie wholly in this window of a file, which begins at `start`. A trailer that is not where
/// it says it is does not count.
pub(crate) fn entries(window: &[u8], start: u64, tag: FileTag, file: FileId) -> impl Iterator<Item = Entry> {
    let len = usize::try_from(TRAILER_LEN).unwrap_or(usize::MAX);
    window.windows(len).enumerate().filter(|(_, bytes)| bytes.starts_with(&TRAILER_MAGIC)).filter_map(
        move |(at, bytes)| {
            let entry = decode_trailer(bytes, tag, file).ok()?;
            (entry.extent.end() == start + at as u64 && entry.extent.offset >= HEADER_LEN).then_some(entry)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { scope: Scope::Shared, generation: 2, lane: 1, sequence: 5 };
    const STORE: StoreId = StoreId([9; 16]);

    fn every_flip_and_cut_fails(bytes: &[u8], check: impl Fn(&[u8]) -> bool) {
        assert!(check(bytes));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!check(&damaged), "bit {bit}");
        }
        assert!((0..bytes.len()).all(|len| !check(&bytes[..len]) && !check(&vec![0; len])));
    }

    #[test]
    fn header_has_its_length_and_every_byte_of_it_counts() {
        let bytes = encode_header(STORE, FILE);
        assert_eq!(bytes.len() as u64, HEADER_LEN);
        assert_eq!(decode_header(&bytes).unwrap(), (STORE, FILE));
        every_flip_and_cut_fails(&bytes, |bytes| check_header(bytes, STORE, FILE).is_ok());
    }

    #[test]
    fn header_of_another_store_or_file_is_refused() {
        let bytes = encode_header(STORE, FILE);
        assert!(check_header(&bytes, StoreId([8; 16]), FILE).is_err());
        assert!(check_header(&bytes, STORE, FileId { sequence: 6, ..FILE }).is_err());
    }

    #[test]
    fn trailer_has_its_length_and_every_byte_of_it_counts() {
        let extent = Extent { file: FILE, offset: 64, len: 1000, crc: 77 };
        let tag = tag(STORE, FILE);
        let bytes = encode_trailer(tag, &extent, CheckpointId::FIRST);
        assert_eq!(bytes.len() as u64, TRAILER_LEN);
        every_flip_and_cut_fails(&bytes, |bytes| check_trailer(bytes, tag, &extent).is_ok());
        assert!(check_trailer(&bytes, tag, &Extent { len: 999, ..extent }).is_err());
    }

    #[test]
    fn trailer_of_another_file_or_store_is_refused() {
        let extent = Extent { file: FILE, offset: 64, len: 1000, crc: 77 };
        let bytes = encode_trailer(tag(STORE, FILE), &extent, CheckpointId::FIRST);
        let other = FileId { sequence: 6, ..FILE };
        assert!(check_trailer(&bytes, tag(STORE, other), &Extent { file: other, ..extent }).is_err());
        assert!(check_trailer(&bytes, tag(StoreId([8; 16]), FILE), &extent).is_err());
    }

    #[test]
    fn trailer_counts_only_where_it_says_it_is() {
        let extent = Extent { file: FILE, offset: 64, len: 10, crc: 77 };
        let tag = tag(STORE, FILE);
        let trailer = encode_trailer(tag, &extent, CheckpointId::FIRST);
        let mut bytes = vec![0; 74];
        bytes.extend_from_slice(&trailer);
        bytes.extend_from_slice(&trailer);
        let found: Vec<_> = entries(&bytes, 0, tag, FILE).collect();
        assert_eq!(found, [Entry { extent, checkpoint: CheckpointId::FIRST }]);
        assert_eq!(entries(&bytes[70..], 70, tag, FILE).count(), 1);
        assert_eq!(entries(&bytes, 1, tag, FILE).count(), 0);
        assert_eq!(entries(&bytes[..121], 0, tag, FILE).count(), 0);
    }
}
